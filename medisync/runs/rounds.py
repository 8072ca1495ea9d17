"""One round of analyses at a time.

Whoever waits finds, when its turn comes, that the round before it already answered for its data: so many deliveries
at once need few rounds.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from medisync.settings import Settings


@contextmanager
def one_round(settings: Settings) -> Iterator[None]:
    """Wait for the round in progress, if any, and hold the turn; the system frees it when the holder dies."""
    settings.make_folders()
    descriptor = os.open(settings.run_state / "round.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
