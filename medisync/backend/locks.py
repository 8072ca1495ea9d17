"""The locks of a workspace.

DuckLake has neither keys nor uniqueness, and bare concurrent writers meet "database is locked" on an SQLite catalog and
each other's deletions on Postgres; with one lock taken before BEGIN neither can happen. The other locks are beside it
so that all are held in one way: by ``flock`` on one machine, by an advisory lock of Postgres across machines.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path

from medisync.backend import queue
from medisync.backend.backend import HeldLock
from medisync.errors import LakeBusyError, LockBusyError

POLL_SECONDS = 0.01


class Lock(StrEnum):
    """What only one may do at a time. The names are files below the workspace's data."""

    WRITE = "lake/write.lock"  # every write transaction of the lake
    ROUND = "run/round.lock"  # a round of analyses, or clean-up
    LEDGER = "ledger.lock"  # making the ledger's tables
    TOKENS = "keys/tokens.lock"  # making or changing the keys that sign tokens
    ROTATION = "keys/rotation.lock"  # changing the key of pseudonyms
    REQUEUE = "quarantine/.requeue.lock"  # taking corrected rows again


def busy(name: str, seconds: float) -> LockBusyError:
    """The error for a lock that was not free in time."""
    if name == Lock.WRITE:
        return LakeBusyError(
            f"The lake was being written for more than {seconds:g} seconds.",
            hint="Another delivery or run holds the write lock; try again.",
        )
    return LockBusyError(f"Somebody else was at it for more than {seconds:g} seconds.", hint="Try again.")


class _File(HeldLock):
    """The kernel keeps it as long as its holder lives."""

    def require(self) -> None:
        return


@contextmanager
def file_lock(path: Path, *, seconds: float | None, name: str = "") -> Iterator[HeldLock]:
    """Hold ``path`` exclusively on this machine: a file ``*.lock`` that is made when missing, or a folder.

    Raises FileNotFoundError for a folder that is not there.
    """
    flags = os.O_RDWR | os.O_CREAT if path.suffix == ".lock" else os.O_RDONLY | os.O_DIRECTORY
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        if seconds is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            _wait(descriptor, path, seconds, name)
        yield _File()
    finally:
        os.close(descriptor)  # and with it the lock


def _wait(descriptor: int, path: Path, seconds: float, name: str) -> None:
    """Take the lock when it is free and nobody waits, else after those who came before. Folders have no queue."""
    has_queue = seconds > 0 and path.suffix == ".lock"
    if not (has_queue and queue.is_waited_for(path)) and queue.is_taken(descriptor):
        return
    deadline = time.monotonic() + seconds
    with queue.place(path) if has_queue else nullcontext() as place:
        while time.monotonic() < deadline:
            if (place is None or place.is_first()) and queue.is_taken(descriptor):
                return
            time.sleep(POLL_SECONDS)
    raise busy(name, seconds)
