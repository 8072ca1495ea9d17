"""Whether the code a long-lived process has imported is still the code on disk."""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from pathlib import Path

Mark = tuple[int, int, int]


class ImportedSources:
    """The source files imported that are not of an installed package, and the folders of installed packages.

    ``begun``: the time in nanoseconds before the first of the imports. What changed since then may have been imported
    in its old form, so it counts as changed.
    """

    def __init__(self, begun: int) -> None:
        self._marks = {path: _mark(path) for path in sorted(_own_files() | _package_folders())}
        now = time.time_ns()
        self._changed_meanwhile = any(begun <= mark[0] <= now for mark in self._marks.values())

    def have_changed(self) -> bool:
        """Whether a file was changed, replaced or removed, or a package installed, upgraded or removed."""
        return self._changed_meanwhile or any(_mark(path) != mark for path, mark in self._marks.items())


def _mark(path: str) -> Mark:
    """When changed, of which size, which file."""
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1, -1)
    return (status.st_mtime_ns, status.st_size if os.path.isfile(path) else 0, status.st_ino)


def _own_files() -> set[str]:
    package = Path(__file__).resolve().parent.parent
    libraries = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
    files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    return {
        file
        for file in files
        if file.startswith(f"{package}{os.sep}")
        or not (file.startswith(libraries) or f"{os.sep}site-packages{os.sep}" in file)
    }


def _package_folders() -> set[str]:
    return {entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")}
