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

from medisync.runs.filefacts import Mark, facts_of, hash_of_contents, imports_of, is_settled, mark_of

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


_remembered: dict[tuple[str, ...], tuple[dict[str, Mark | None], Closure]] = {}
MOST_REMEMBERED = 200


def closure_of(code: str, folder: Path, *, analysis: str) -> Closure:
    """The code of a notebook in ``folder`` whose cells hold ``code``.

    It is remembered with the marks of its files and of every folder a module was looked for in; while none of them
    moved, nothing is looked at again.
    """
    key = (str(PACKAGE), str(folder), analysis, code)
    known = _remembered.get(key)
    if known is not None and all(mark_of(path) == mark for path, mark in known[0].items()):
        return known[1]
    looked_in: set[str] = {str(folder)}
    files = source_files(code, folder, analysis=analysis, looked_in=looked_in)
    marks = {path: mark_of(path) for path in (*looked_in, *map(str, files))}
    found = _closure(files, code, folder)
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    if all(mark is None or is_settled(mark) for mark in marks.values()):
        _remembered[key] = (marks, found)
    return found


def _closure(files: list[Path], code: str, folder: Path) -> Closure:
    labels = {_label(file, folder): file for file in files}
    facts = {label: facts_of(file, _package_of(file, folder)) for label, file in labels.items()}
    names = {name for one in facts.values() for name in one.imports} | set(_names_of(code) or ())
    own = {PACKAGE.name, *(file.relative_to(folder).parts[0].removesuffix(".py") for file in _beside(files))}
    others = {name.split(".")[0] for name in names} - own - sys.stdlib_module_names - {""}
    return Closure(labels, {label: one.content_hash for label, one in facts.items()}, tuple(sorted(others)))


def source_files(code: str, folder: Path, *, analysis: str, looked_in: set[str] | None = None) -> list[Path]:
    """The files that notebook code ``code``, which lies in ``folder``, and the module of ``analysis`` import, at
    whatever depth: science modules of this package, SQL beside them, and helper modules in ``folder``. Sorted.

    Code that cannot be parsed may import anything, so it depends on all of them. The folders in which a file would
    have been found are added to ``looked_in``.
    """
    looked_in = set() if looked_in is None else looked_in
    names = _names_of(code)
    if names is None:
        every = [path for name in SCIENCE for path in (PACKAGE / name).rglob("*")]
        looked_in.update(str(path) for path in every if path.is_dir())
        looked_in.update(str(PACKAGE / name) for name in SCIENCE)
        return sorted([*(path for path in every if path.suffix in (".py", ".sql")), *folder.glob("*.py")])
    found: set[Path] = set()
    known: set[str] = set()
    waiting = [*ALWAYS, f"medisync.analyses.{analysis}", *names]
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        for path in _files_of(name, folder, looked_in):
            if path not in found:
                found.add(path)
                waiting.extend(facts_of(path, _package_of(path, folder)).imports)
    looked_in.update(str(path.parent) for path in found)
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


def _files_of(name: str, folder: Path, looked_in: set[str]) -> Iterator[Path]:
    """The file of the dotted name ``name`` and the ``__init__`` of each package above it, as far as they are ours.

    The last part of the name may be a module or something in one.
    """
    first, *parts = name.split(".")
    if first == PACKAGE.name:
        if not parts or parts[0] not in SCIENCE:
            return
        place = str(PACKAGE)
    else:
        if first in sys.stdlib_module_names or not (
            os.path.isdir(os.path.join(folder, first)) or os.path.isfile(os.path.join(folder, f"{first}.py"))
        ):
            return
        place, parts = str(folder), [first, *parts]
    for part in parts:
        looked_in.add(place)
        place = os.path.join(place, part)
        for path in (f"{place}.py", os.path.join(place, "__init__.py")):
            if os.path.isfile(path):
                yield Path(path)
        if not os.path.isdir(place):
            return  # below what is no folder nothing lies


def without_magics(code: str) -> str:
    """``code`` without IPython's own lines, which Python does not know."""
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines())
