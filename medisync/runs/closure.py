"""Which of our source files a notebook's numbers depend on, found by following its imports without running anything.

A change in one statistic then reruns only the analyses that use it. Modules loaded by a computed name are not seen.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medisync.runs.filefacts import facts_of, hash_of_contents, imports_of

PACKAGE = Path(__file__).resolve().parent.parent
SCIENCE = ("analyses", "stats", "lake")
"""The sub-packages whose code decides about a number; the others carry it or show it."""

ALWAYS = ("medisync.lake", "medisync.analyses.contract")
"""What every notebook uses through ``ms.open_snapshot`` and ``ms.publish``."""

BESIDE = "beside/"
"""Begins the label of a helper module in the notebook's folder."""


@dataclass(frozen=True)
class Closure:
    """The code a notebook uses. ``files`` and ``hashes`` go by label: ``medisync/stats/ears.py``, ``beside/helper.py``.

    ``imported`` are the top-level names of other packages that this code imports.
    """

    files: dict[str, Path]
    hashes: dict[str, str]
    imported: tuple[str, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over labels and contents: the same wherever the files lie."""
        return hash_of_contents(self.hashes)


def closure_of(code: str, folder: Path, *, analysis: str) -> Closure:
    """The code of a notebook in ``folder`` whose cells hold ``code``."""
    files = source_files(code, folder, analysis=analysis)
    labels = {_label(file, folder): file for file in files}
    facts = {label: facts_of(file, _package_of(file, folder)) for label, file in labels.items()}
    names = {name for one in facts.values() for name in one.imports} | set(_names_of(code) or ())
    own = {PACKAGE.name, *(file.relative_to(folder).parts[0].removesuffix(".py") for file in _beside(files))}
    others = {name.split(".")[0] for name in names} - own - sys.stdlib_module_names - {""}
    return Closure(labels, {label: one.content_hash for label, one in facts.items()}, tuple(sorted(others)))


def source_files(code: str, folder: Path, *, analysis: str) -> list[Path]:
    """The files that notebook code ``code``, which lies in ``folder``, and the module of ``analysis`` import, at
    whatever depth: science modules of this package, SQL beside them, and helper modules in ``folder``. Sorted.

    Code that cannot be parsed may import anything, so it depends on all of them.
    """
    names = _names_of(code)
    if names is None:
        every = [path for name in SCIENCE for path in (PACKAGE / name).rglob("*") if path.suffix in (".py", ".sql")]
        return sorted([*every, *folder.glob("*.py")])
    found: set[Path] = set()
    known: set[str] = set()
    waiting = [*ALWAYS, f"medisync.analyses.{analysis}", *names]
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        for path in _files_of(name, folder):
            if path not in found:
                found.add(path)
                waiting.extend(facts_of(path, _package_of(path, folder)).imports)
    folders = {path.parent for path in found if _is_ours(path)}
    return sorted(found | {sql for one in folders for sql in one.glob("*.sql")})


def _beside(files: list[Path]) -> list[Path]:
    return [file for file in files if not _is_ours(file)]


def _is_ours(file: Path) -> bool:
    """Whether it lies in the package. Said with texts: paths are slow, and this is asked thousands of times."""
    return str(file).startswith(f"{PACKAGE}{os.sep}")


def _label(file: Path, folder: Path) -> str:
    root, prefix = (PACKAGE.parent, "") if _is_ours(file) else (folder, BESIDE)
    return prefix + str(file).removeprefix(f"{root}{os.sep}").replace(os.sep, "/")


def _package_of(file: Path, folder: Path) -> str:
    root = PACKAGE.parent if _is_ours(file) else folder
    inside = str(file).removeprefix(f"{root}{os.sep}")
    return ".".join(inside.split(os.sep)[:-1])


def _names_of(code: str) -> list[str] | None:
    """The names notebook code imports; None when it cannot be parsed."""
    try:
        return list(dict.fromkeys(imports_of(ast.parse(without_magics(code)), package="")))
    except SyntaxError:
        return None


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
        if first in sys.stdlib_module_names or not (
            os.path.isdir(os.path.join(folder, first)) or os.path.isfile(os.path.join(folder, f"{first}.py"))
        ):
            return
        root, parts = folder, [first, *parts]
    for depth in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:depth])
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                yield path


def without_magics(code: str) -> str:
    """``code`` without IPython's own lines, which Python does not know."""
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines())
