"""One round of analyses at a time.

Whoever waits finds, when its turn comes, that a round which began after its data were there has answered for them,
even where there are newer ones by then: who brought those waits as well. So many deliveries at once need few rounds,
and those who wait do not become more and more.
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
