"""What crashed programs leave behind: kernel folders without a kernel, drafts, scratch folders."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from medisync.settings import Settings

OLD_SECONDS = 86_400.0
"""Younger ones may belong to somebody who is still at work."""

KERNEL_FOLDERS = "medisync-kernel-*"
SCRATCH = (".draft-*", ".export-*", ".x*", ".*.draft", ".r*.html")


def leftovers(settings: Settings, *, now: float | None = None) -> list[Path]:
    """Files and folders nobody works with any more."""
    moment = time.time() if now is None else now
    return sorted(path for path in _candidates(settings) if _is_old(path, moment))


def _candidates(settings: Settings) -> Iterator[Path]:
    in_use = _open_sockets()
    for folder in Path(tempfile.gettempdir()).glob(KERNEL_FOLDERS):
        if not any(name.startswith(f"{folder}/") for name in in_use):
            yield folder
    for place in (settings.reports, settings.reports / "latest", settings.reports / "releases"):
        for pattern in SCRATCH:
            yield from place.glob(pattern)
    yield from settings.reports.glob("runs/*/*.draft")
    yield from settings.temporary.glob("*")


def _open_sockets() -> set[str]:
    """Paths of the machine's Unix sockets; empty where the system does not list them."""
    with suppress(OSError):
        lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()[1:]
        return {line.split()[-1] for line in lines if "/" in line}
    return set()


def _is_old(path: Path, now: float) -> bool:
    """Whether it is ours and neither it nor anything directly in it was touched for a day."""
    try:
        status = path.lstat()
        touched = [status.st_mtime]
        if path.is_dir() and not path.is_symlink():
            touched += [one.stat(follow_symlinks=False).st_mtime for one in os.scandir(path)]
    except OSError:
        return False
    return status.st_uid == os.getuid() and now - max(touched) > OLD_SECONDS
