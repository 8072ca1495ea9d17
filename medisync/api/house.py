"""What the routes of one process share."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field

from starlette.requests import Request

from medisync.access.gate import where
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.api.doorkeeper import Doorkeeper
from medisync.api.health import Monitor
from medisync.api.hub import Hub
from medisync.api.orchestrator import Orchestrator
from medisync.api.reading import LakeReader
from medisync.api.shelf import Shelf
from medisync.intake.watcher import Watcher
from medisync.settings import Settings

log = logging.getLogger(__name__)

REMEMBERED_READS = 20_000


@dataclass
class House:
    """One process's API. ``open`` and ``close`` belong to the application's lifespan."""

    settings: Settings
    access: Access
    reader: LakeReader = field(init=False)
    shelf: Shelf = field(init=False)
    hub: Hub = field(init=False)
    doorkeeper: Doorkeeper = field(init=False)
    prefect: Orchestrator = field(init=False)
    monitor: Monitor = field(init=False)
    reads: Reads = field(init=False)
    _watcher: Watcher | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.reader = LakeReader(self.settings)
        self.shelf = Shelf(self.reader.lake)
        self.hub = Hub(self.reader, self.shelf)
        self.doorkeeper = Doorkeeper(self.access)
        self.prefect = Orchestrator(self.settings)
        self.monitor = Monitor(self.settings, self.reader, self.hub, self.prefect)
        self.reads = Reads(self.access)

    async def open(self) -> None:
        await self.hub.start()
        self.doorkeeper.start()
        await self.monitor.look()
        self.monitor.start()

    def rescan(self) -> list[str]:
        """Look into the inbox now; the ids of the deliveries made of what lies there complete. Blocks."""
        if self._watcher is None:
            self._watcher = Watcher(self.settings)
        claimed = self._watcher.claim_complete_files()
        self._watcher.announce_open_claims()
        return claimed

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        await self.monitor.close()
        await self.hub.close()
        await self.doorkeeper.close()
        await self.reads.close()
        await self.prefect.close()
        self.reader.close()


class Reads:
    """Who read what, for the audit log: the first time a session reads a run's result, once and off the path."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, request: Request, principal: Principal, what: str, on: str) -> None:
        """Record it unless this session was recorded with it before."""
        key = (principal.session_id, what, on)
        if key in self._known:
            return
        self._known[key] = None
        if len(self._known) > REMEMBERED_READS:
            self._known.popitem(last=False)
        task = asyncio.create_task(self._record(principal.name, f"{what} ({principal.audience})", on, where(request)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def has(self, principal: Principal, what: str, on: str) -> bool:
        """Whether this session's read is recorded."""
        return (principal.session_id, what, on) in self._known

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=5.0)

    async def _record(self, who: str, what: str, on: str, address: str) -> None:
        try:
            await asyncio.to_thread(self._access.record, who, what, on, address)
        except Exception as error:
            log.error("A read could not be recorded (%s).", type(error).__name__, extra={"run_id": on})


def house_of(request: Request) -> House:
    """The house of the application that got the request."""
    house: House = request.app.state.house
    return house
