"""One round of analyses at a time.

Whoever waits finds, when its turn comes, that the round before it already answered for its data: so many deliveries
at once need few rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medisync.backend.choice import backend_of
from medisync.backend.locks import Lock
from medisync.settings import Settings


@contextmanager
def one_round(settings: Settings) -> Iterator[None]:
    """Wait for the round in progress, if any, and hold the turn; it is free again when the holder dies."""
    settings.make_folders()
    with backend_of(settings).lock(Lock.ROUND, seconds=None):
        yield
