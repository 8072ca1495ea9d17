"""Who waits for a lock of files gets it in the order of arrival.

``flock`` gives a lock to whoever happens to ask when it is free. Where eight flows commit one after the other, a ninth
that asks every hundredth of a second can wait for minutes. So those who wait have a place: a file beside the lock,
named by the time, which its owner keeps locked. One that can be locked by somebody else belonged to a process that
died, and is taken away.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_number = itertools.count()


class Place:
    """A place in the queue while it is held."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before: list[str] | None = None

    def is_first(self) -> bool:
        """Whether all who came before are gone. Later ones cannot get before it, so they are looked for once."""
        folder = self._file.parent
        if self._before is None:
            self._before = sorted((one for one in _names(folder) if one < self._file.name), reverse=True)
        while self._before and _is_left(folder / self._before[-1]):
            self._before.pop()
        return not self._before


def is_taken(descriptor: int) -> bool:
    """Whether nobody had the open file locked, and it is locked by us now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_waited_for(lock: Path) -> bool:
    """Whether anybody has a place in the queue of ``lock``."""
    return bool(_names(_folder(lock)))


@contextmanager
def place(lock: Path) -> Iterator[Place]:
    """Queue up for ``lock``."""
    folder = _folder(lock)
    folder.mkdir(mode=0o700, exist_ok=True)
    # The clock is one for all processes of the machine. Made under a name of its own and locked before it counts.
    file = folder / f"{time.monotonic_ns():020d}-{os.getpid()}-{next(_number)}"
    draft = file.with_name(f".{file.name}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        draft.rename(file)
        yield Place(file)
    finally:
        file.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
        os.close(descriptor)


def _folder(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.queue")


def _names(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return [one for one in os.listdir(folder) if not one.startswith(".")]
    return []


def _is_left(file: Path) -> bool:
    """Whether nobody holds that place any more; one whose owner died is taken away."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not is_taken(descriptor):
            return False
        file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return True
