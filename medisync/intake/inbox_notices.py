"""What the system tells of the inbox (Linux: inotify): which files were moved in, and which were closed after writing.

A file that was moved in is whole at that moment, so nobody needs to wait and see whether it grows. Where the system
tells nothing (another system, a network folder written by another machine), nothing is known and the wait stays.
"""

from __future__ import annotations

import ctypes
import enum
import os
import select
import struct
import sys
import time
from pathlib import Path

IN_CLOSE_WRITE = 0x8
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_ISDIR = 0x40000000
EVENT = struct.Struct("iIII")
BUFFER_BYTES = 1 << 16


class Notice(enum.Enum):
    """How a file came to be as it is."""

    MOVED_IN = "moved in"  # in one step: it was written elsewhere
    CLOSED = "closed"  # whoever wrote it has closed it, and may open it again


class InboxNotices:
    """Notices about the files of a folder and of its folders."""

    def __init__(self, inbox: Path) -> None:
        self._inbox = inbox
        self._folders: dict[int, Path] = {}
        self._known: dict[Path, Notice] = {}
        self._descriptor = _open() if sys.platform == "linux" else -1
        self._watch_folders()

    def of(self, path: Path) -> Notice | None:
        """The newest notice about ``path``; None when nothing was told."""
        return self._known.get(path)

    def forget_missing(self, present: set[Path]) -> None:
        """Keep notices about files of ``present`` only."""
        for path in self._known.keys() - present:
            del self._known[path]

    def wait(self, seconds: float) -> None:
        """Return as soon as something is told, at the latest after ``seconds``."""
        if self._descriptor < 0:
            time.sleep(seconds)
            return
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        if waiting.poll(1000 * seconds):
            self._read()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _read(self) -> None:
        try:
            told = os.read(self._descriptor, BUFFER_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(told):
            watch, mask, _, length = EVENT.unpack_from(told, at)
            name = told[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0")
            at += EVENT.size + length
            self._note(watch, mask, os.fsdecode(name))

    def _note(self, watch: int, mask: int, name: str) -> None:
        if mask & IN_Q_OVERFLOW:  # what was lost is not known
            self._known.clear()
            self._watch_folders()
        elif mask & IN_IGNORED:
            self._folders.pop(watch, None)
        elif name and watch in self._folders:
            path = self._folders[watch] / name
            if mask & IN_MOVED_TO:
                self._known[path] = Notice.MOVED_IN
            elif mask & IN_CLOSE_WRITE:
                self._known[path] = Notice.CLOSED
            else:  # made just now: what an earlier file of this name was is over
                self._known.pop(path, None)
            if mask & IN_ISDIR and path.parent == self._inbox:
                self._watch(path)

    def _watch_folders(self) -> None:
        self._watch(self._inbox)
        try:
            with os.scandir(self._inbox) as entries:
                folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return
        for folder in folders:
            self._watch(folder)

    def _watch(self, folder: Path) -> None:
        if self._descriptor < 0:
            return
        mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR
        watch = _libc().inotify_add_watch(self._descriptor, os.fsencode(folder), mask)
        if watch >= 0:  # else it is gone already, or the system watches as much as it may: those files wait
            self._folders[watch] = folder


def _open() -> int:
    """A new inotify descriptor; -1 when there can be none."""
    try:
        descriptor: int = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return -1
    return descriptor if descriptor >= 0 else -1


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
