"""How each part is, and since when."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from enum import StrEnum
from typing import TYPE_CHECKING

import psutil
from pydantic import BaseModel

from medisync.api.orchestrator import Orchestrator
from medisync.api.reading import LakeReader
from medisync.settings import Settings

if TYPE_CHECKING:
    from medisync.api.hub import Hub

LOOK_SECONDS = 5.0


class PartState(StrEnum):
    UP = "up"
    DOWN = "down"
    ABSENT = "absent"  # not started here: the API runs without the supervisor


class Overall(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"  # something is away; results are served
    DOWN = "down"  # no result can be served


class Part(BaseModel):
    """One part. ``since`` is when this process saw its state change last."""

    name: str
    title: str
    state: PartState
    since: dt.datetime
    says: str | None = None


class Health(BaseModel):
    """The short answer for everybody; ``parts`` for those who are signed in."""

    status: Overall
    since: dt.datetime
    parts: list[Part] | None = None


class Monitor:
    """Looks at every part from time to time, so that it knows since when each is as it is."""

    def __init__(self, settings: Settings, reader: LakeReader, hub: Hub, prefect: Orchestrator) -> None:
        self._settings, self._reader, self._hub, self._prefect = settings, reader, hub, prefect
        self._parts: dict[str, Part] = {}
        self._task: asyncio.Task[None] | None = None
        self._started = dt.datetime.now(dt.UTC)
        self._overall = (Overall.OK, self._started)

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="monitor")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> None:
        """Look at every part once."""
        prefect = await self._prefect.is_well()
        services = await asyncio.to_thread(self._services)
        self._note("api", "API", PartState.UP, f"{self._hub.clients} streams")
        trouble = self._reader.trouble
        says = trouble or f"snapshot {self._hub.position}"
        self._note("lake", "Lake", PartState.DOWN if trouble else PartState.UP, says)
        self._note("prefect", "Prefect", PartState.UP if prefect else PartState.DOWN)
        for name, (title, is_alive) in services.items():
            if name not in ("api", "prefect"):
                self._note(name, title, PartState.UP if is_alive else PartState.DOWN)
        for name in set(self._parts) - set(services) - {"api", "lake", "prefect"}:
            self._note(name, self._parts[name].title, PartState.ABSENT)
        overall = self.overall()
        if overall is not self._overall[0]:
            self._overall = (overall, dt.datetime.now(dt.UTC))

    def overall(self) -> Overall:
        """All parts in one word."""
        if self._reader.trouble and not self._hub.has_results:
            return Overall.DOWN
        are_up = all(one.state is not PartState.DOWN for one in self._parts.values())
        return Overall.OK if are_up and not self._reader.trouble else Overall.DEGRADED

    def report(self, *, details: bool) -> Health:
        """What was seen last."""
        overall = self.overall()
        since = self._overall[1] if overall is self._overall[0] else dt.datetime.now(dt.UTC)
        return Health(status=overall, since=since, parts=list(self._parts.values()) if details else None)

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def _note(self, name: str, title: str, state: PartState, says: str | None = None) -> None:
        before = self._parts.get(name)
        since = before.since if before is not None and before.state is state else dt.datetime.now(dt.UTC)
        self._parts[name] = Part(name=name, title=title, state=state, since=since, says=says)

    def _services(self) -> dict[str, tuple[str, bool]]:
        """What the supervisor started, and whether each process lives."""
        from medisync.supervisor.workspace import running

        state = running(self._settings)
        listed = state["services"] if state is not None else {}
        return {name: (one["title"], _lives(one["pid"])) for name, one in listed.items()}


def _lives(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
