"""Which of our source files a notebook's numbers depend on, found by following its imports without running anything.

A change in one statistic then reruns only the analyses that use it. Modules loaded by a computed name are not seen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
SCIENCE = ("analyses", "stats", "lake")
"""The sub-packages whose code decides about a number; the others carry it or show it."""

ALWAYS = ("medisync.lake", "medisync.analyses.contract")
"""What every notebook uses through ``ms.open_snapshot`` and ``ms.publish``."""


def source_files(code: str, folder: Path, *, analysis: str) -> list[Path]:
    """The files that notebook code ``code``, which lies in ``folder``, and the module of ``analysis`` import, at
    whatever depth: science modules of this package, SQL beside them, and helper modules in ``folder``. Sorted.

    Code that cannot be parsed may import anything, so it depends on all of them.
    """
    try:
        names = {name for name, _ in _imports(ast.parse(_without_magics(code)), package="")}
    except SyntaxError:
        every = [path for name in SCIENCE for path in (PACKAGE / name).rglob("*") if path.suffix in (".py", ".sql")]
        return sorted([*every, *folder.glob("*.py")])
    found: set[Path] = set()
    waiting = [*ALWAYS, f"medisync.analyses.{analysis}", *names]
    while waiting:
        for path in _files_of(waiting.pop(), folder):
            if path not in found:
                found.add(path)
                waiting.extend(_imported_by(path, folder))
    beside = {sql for path in found for sql in path.parent.glob("*.sql") if path.is_relative_to(PACKAGE)}
    return sorted(found | beside)


def hash_of_files(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{_content_hash(file, *_mark(file))}\0".encode())
    return digest.hexdigest()


def _files_of(name: str, folder: Path) -> Iterator[Path]:
    """The file of the dotted name ``name`` and the ``__init__`` of each package above it, as far as they are ours.

    The last part of the name may be a module or something in one.
    """
    first, *parts = name.split(".")
    if first == PACKAGE.name:
        if not parts or parts[0] not in SCIENCE:
            return
        root = PACKAGE
    else:
        root, parts = folder, [first, *parts]
    for depth in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:depth])
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                yield path


def _imported_by(path: Path, folder: Path) -> tuple[str, ...]:
    root = PACKAGE.parent if path.is_relative_to(PACKAGE) else folder
    package = ".".join(path.relative_to(root).parent.parts)
    return _imports_of_file(path, package, *_mark(path))


@functools.lru_cache(maxsize=1024)
def _imports_of_file(path: Path, package: str, _modified: int, _size: int) -> tuple[str, ...]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return ()  # it cannot be imported either; its content still counts
    return tuple(name for name, _ in _imports(tree, package))


@functools.lru_cache(maxsize=1024)
def _content_hash(path: Path, _modified: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _mark(path: Path) -> tuple[int, int]:
    """What changes with a file's content."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _imports(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """Every name ``tree`` imports, also inside functions, with its line; not those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _imports(other, package)
        else:
            yield from _imports(node, package)


def _without_magics(code: str) -> str:
    """``code`` without IPython's own lines, which Python does not know."""
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines())
