"""How long the SQLite in DuckDB's extension waits for another that opens or closes the same file.

A DuckDB transaction opens the catalog when it begins and closes it at its end, and two that do so at once keep each
other out for some microseconds. But that SQLite (3.38.1) is built without HAVE_USLEEP: whatever it wants to wait, it
sleeps for whole seconds (https://www.sqlite.org/compile.html). So of a hundred transactions that two threads make side
by side, one took a second longer, and so did 17 steps on the way of ten files to their numbers.

SQLite asks its VFS to sleep, which is a table of functions anybody may put others into
(https://www.sqlite.org/c3ref/vfs.html): here one that sleeps as long as it takes. Once in each process.
"""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path

SHORTEST_SECONDS = 0.001
ONE_WAIT_SECONDS = 0.1
"""Two sleeps of a thread that follow each other closer than this belong to the same wait."""

_POINTERS = (
    *("xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness"),
    "xSleep",
)


class _Vfs(ctypes.Structure):
    """SQLite's ``sqlite3_vfs``, up to what is needed of it."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


_sleeps: dict[int, tuple[float, int]] = {}
"""Thread -> when its last sleep ended, and how many there were in this wait."""


def sleep_seconds(microseconds: int) -> float:
    """How long to sleep when SQLite asks for ``microseconds``.

    Less than a second is meant. A second is what it asks for when it does not know how to wait less, thirty times until
    it gives up (BUSY_MILLISECONDS): those begin with a millisecond and double, so that all of them together are as
    patient as was asked for.
    """
    if microseconds < 1_000_000:
        return microseconds / 1e6
    ended, number = _sleeps.get(threading.get_ident(), (float("-inf"), 0))
    number = number + 1 if time.monotonic() - ended < ONE_WAIT_SECONDS else 0
    seconds = min(SHORTEST_SECONDS * 2.0**number, microseconds / 1e6)
    _sleeps[threading.get_ident()] = time.monotonic() + seconds, number
    return seconds


def _sleep(_vfs: int, microseconds: int) -> int:
    time.sleep(sleep_seconds(microseconds))
    return microseconds


_X_SLEEP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(_sleep)  # kept: SQLite has but its address


def shorten(extension: Path) -> None:
    """Let the SQLite in the loaded ``extension`` sleep no longer than it takes. One that keeps its functions to itself
    waits as it was built to."""
    try:
        find = ctypes.CDLL(str(extension)).sqlite3_vfs_find
    except (OSError, AttributeError):
        return
    find.restype = ctypes.POINTER(_Vfs)
    vfs = find(None)
    if vfs:
        vfs.contents.xSleep = ctypes.cast(_X_SLEEP, ctypes.c_void_p)
