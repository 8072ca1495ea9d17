"""The lake's one write lock.

DuckLake has neither keys nor uniqueness, and bare concurrent writers meet "database is locked" on its SQLite catalog;
with one lock taken before BEGIN neither can happen. The kernel releases it when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medisync.errors import LakeBusyError

POLL_SECONDS = 0.01


@contextmanager
def write_lock(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock file ``path`` exclusively; raises LakeBusyError when it is not free within ``seconds``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LakeBusyError(
                        f"The lake was being written for more than {seconds:g} seconds.",
                        hint="Another delivery or run holds the write lock; try again.",
                    ) from None
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)  # and with it the lock
