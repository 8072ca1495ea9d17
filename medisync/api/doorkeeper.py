"""One task per process that asks, for all open streams, whether their visitors are still let in.

Each stream asking for itself would be cheaper to write, and was measured: after an event all of them are awake, so all
of those that were due asked at the same moment, and a thousand questions to the ledger held up the event itself by a
second. Here a round is asked by one thread, in small pieces, and costs nothing for sessions that were seen just now.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from medisync.access.errors import NotAuthenticatedError
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.api.changes import as_lines
from medisync.api.hub import Client
from medisync.errors import MediSyncError

log = logging.getLogger(__name__)

RECHECK_SECONDS = 5.0
"""How long a round takes to come to every stream: tokens expire, accounts are disabled."""

ASKED_AT_ONCE = 50
"""Between as many, events have the way."""

ENDED = as_lines("stream.end", {"reason": "not-authenticated"})


@dataclass(frozen=True)
class Guest:
    """An open stream, what its visitor came with, and who that was when it came."""

    client: Client
    bearer: str | None
    cookie: str | None
    principal: Principal


class Doorkeeper:
    """Ends the streams of visitors who would not be let in any more, or only in another role."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._guests: set[Guest] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._go_round(), name="doorkeeper")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @contextlib.contextmanager
    def watching(self, guest: Guest) -> Iterator[None]:
        """While the stream is open."""
        self._guests.add(guest)
        try:
            yield
        finally:
            self._guests.discard(guest)

    async def _go_round(self) -> None:
        while True:
            everybody = list(self._guests)
            pieces = [everybody[at : at + ASKED_AT_ONCE] for at in range(0, len(everybody), ASKED_AT_ONCE)]
            for piece in pieces or [[]]:
                await asyncio.sleep(RECHECK_SECONDS / max(1, len(pieces)))
                try:
                    for guest in await asyncio.to_thread(self._gone, piece):
                        guest.client.put(ENDED)
                        guest.client.end()
                except Exception:
                    log.exception("Who is still let in could not be asked; trying again.")

    def _gone(self, guests: list[Guest]) -> list[Guest]:
        """Those who are not let in any more."""
        return [one for one in guests if not self._is_let_in(one)]

    def _is_let_in(self, guest: Guest) -> bool:
        access = self._access
        try:
            found = access.glance(guest.bearer, guest.cookie) or access.principal(guest.bearer, guest.cookie)
        except NotAuthenticatedError:
            return False
        except MediSyncError:  # who cannot be asked now is asked again in the next round
            return True
        return found == guest.principal
