"""One task per process that asks, for all open streams, whether their visitors are still let in.

Each stream asking for itself would be cheaper to write, and was measured: after an event all of them are awake, so all
of those that were due asked at the same moment, and a thousand questions to the ledger held up the event itself by a
second. Here the ledger gets one question for all sessions, from a thread, beside the events.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medisync.access.errors import LedgerAwayError, NotAuthenticatedError
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.api.changes import as_lines
from medisync.api.hub import Client
from medisync.errors import MediSyncError

log = logging.getLogger(__name__)

RECHECK_SECONDS = 2.5
"""Between two rounds: tokens expire, accounts are disabled."""

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
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                for guest in await asyncio.to_thread(self._gone, list(self._guests)):
                    guest.client.put(ENDED)
                    guest.client.end()
            except Exception:
                log.exception("Who is still let in could not be asked; trying again.")

    def _gone(self, guests: list[Guest]) -> list[Guest]:
        """Those who are not let in any more; nobody while that cannot be asked."""
        ours = {one.principal.session_id for one in guests if one.principal.method != "external"}
        try:
            holders = self._access.sessions.holders(ours) if ours else {}
        except LedgerAwayError:
            return []
        return [one for one in guests if not self._is_let_in(one, holders)]

    def _is_let_in(self, guest: Guest, holders: Mapping[str, Principal]) -> bool:
        access, principal = self._access, guest.principal
        try:
            if principal.method == "external":
                found = access.glance(guest.bearer, None) or access.principal(guest.bearer, None)
                return found == principal
            if guest.bearer is not None and access.tokens.seen(guest.bearer) is None:
                access.tokens.check(guest.bearer)
        except NotAuthenticatedError:
            return False
        except MediSyncError:  # its issuer is away: asked again in the next round
            return True
        return holders.get(principal.session_id) == principal
