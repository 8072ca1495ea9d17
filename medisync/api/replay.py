"""What clients that come back have missed, from memory: after a restart a thousand of them ask at once."""

from __future__ import annotations

import asyncio

from medisync.api import changes
from medisync.api.changes import Event, GapError
from medisync.api.reading import LakeReader


class Replay:
    """The events of the newest snapshots. What is older is read from the lake when somebody first asks for it, once."""

    def __init__(self, reader: LakeReader) -> None:
        self._reader = reader
        self._events: list[Event] = []
        self._since = 0
        """The events of all snapshots after this one are in memory."""
        self._gone = -1
        """Of this snapshot and those before, the lake does not know everything any more."""
        self._turn = asyncio.Lock()
        self._lake_number = 0
        """Rises when the lake is replaced, or too much was missed to go on."""

    def start_at(self, snapshot_id: int) -> None:
        """Forget everything: what comes next follows ``snapshot_id``."""
        self._events, self._since, self._gone = [], snapshot_id, -1
        self._lake_number += 1

    def add(self, events: list[Event], *, until: int) -> None:
        """Keep the events of the snapshots up to ``until``."""
        self._events += events
        if until - changes.LONGEST_REPLAY > self._since:
            self._since = until - changes.LONGEST_REPLAY
            self._events = [one for one in self._events if one.snapshot_id > self._since]

    async def after(self, seen: tuple[int, int], *, until: int) -> list[Event]:
        """The events after the one with id ``seen``, those of snapshot ``until`` included. Raises GapError when it is
        no id of this lake or too much was missed, and LakeUnreadableError."""
        if seen[0] > until:
            if seen[0] > await self._reader.read(self._reader.newest):
                raise GapError
            return []  # another process has told of it already
        if until - seen[0] >= changes.LONGEST_REPLAY:
            raise GapError
        if seen[0] <= self._since:
            await self._read_back_to(seen[0] - 1)
        return [one for one in self._events if seen < (one.snapshot_id, one.number) and one.snapshot_id <= until]

    async def _read_back_to(self, since: int) -> None:
        """Have the events of all snapshots after ``since`` in memory."""
        async with self._turn:
            if since >= self._since:
                return  # somebody else asked for them a moment ago
            if since <= self._gone:
                raise GapError
            lake_number = self._lake_number
            try:
                older = await self._reader.read(changes.events_after, self._reader.lake, since, until=self._since)
            except GapError:
                self._gone = max(self._gone, since)
                raise
            if lake_number != self._lake_number:
                raise GapError
            # News may have been added meanwhile, and what is oldest let go.
            self._events = [*(one for one in older if one.snapshot_id <= self._since), *self._events]
            self._since = since
