"""One task per process that looks at the lake for everybody: it keeps the shelf new and hands events to the clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from medisync.api import changes, metrics
from medisync.api.changes import Event, GapError, as_lines
from medisync.api.errors import LakeUnreadableError, TooManyStreamsError
from medisync.api.reading import LakeReader
from medisync.api.replay import Replay
from medisync.api.shelf import Shelf
from medisync.api.views import Sight
from medisync.errors import MediSyncError
from medisync.runs.progress import RunInProgress, runs_in_progress

log = logging.getLogger("medisync.api")

POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 1.5
RESTS = 8
"""While nobody listens, commits that follow each other closely are looked at together, so that the round that makes
them has the cores: after a look the poller rests so many times as long as it took, at most LONGEST_POLL_SECONDS."""
UNASKED_SECONDS = 10.0
UNASKED = 2
"""When nobody has asked anything for that long either, it rests so many times longer."""
NOTEBOOKS_EVERY = 10
"""In how many looks the notebooks' folder is looked at, too."""
TROUBLE_SECONDS = 2.0
"""Between looks at a lake that cannot be read."""

MOST_STREAMS = 2_000
LONGEST_QUEUE = 64
"""Events a client may be behind before its stream is ended; it comes back with the last id it saw."""


class Client:
    """One stream: what waits to be sent to it."""

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        self.seen = (0, 0)
        """The last event this client had from elsewhere, which need not be told again."""
        self.is_slow = False
        self.on_drop: Callable[[], object] = lambda: None
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._is_over = False

    def put(self, lines: bytes) -> bool:
        """Queue ``lines``; False when the client is too far behind, and ended by that."""
        if len(self._waiting) >= LONGEST_QUEUE:
            self.is_slow = True
            self.end()
            self.on_drop()  # it may be waiting for the client to read
            return False
        self._waiting.append(lines)
        self._news.set()
        return True

    def end(self) -> None:
        self._is_over = True
        self._news.set()

    async def take(self, seconds: float) -> bytes | None:
        """All that waits, in one piece; nothing after ``seconds``; None when the stream is over."""
        if not self._waiting and not self._is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        if self.is_slow or (self._is_over and not self._waiting):
            return None
        taken = b"".join(self._waiting)
        self._waiting.clear()
        if not self._is_over:
            self._news.clear()
        return taken


class Hub:
    """The process's one poller. ``position`` is the snapshot whose events all clients have been given."""

    def __init__(self, reader: LakeReader, shelf: Shelf) -> None:
        self.position = 0
        self.running: tuple[RunInProgress, ...] = ()
        self._reader = reader
        self._shelf = shelf
        self._clients: set[Client] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._looks = 0
        self._asked_at = float("-inf")
        self._replay = Replay(reader)

    @property
    def clients(self) -> int:
        return len(self._clients)

    @property
    def has_results(self) -> bool:
        """Whether results are in memory, readable or not as the lake may be now."""
        return self._shelf.state is not None

    async def start(self) -> None:
        """Read once, then look for news until closed. A lake that cannot be read now is read later."""
        with contextlib.suppress(MediSyncError):
            await self._first_look()
        self._task = asyncio.create_task(self._watch(), name="hub")

    async def close(self) -> None:
        self.say_goodbye()
        await self.close_poller()

    async def close_poller(self) -> None:
        """Look no more; streams stay open."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def say_goodbye(self) -> None:
        """End all streams: the server stops. Their clients come back to the next one with the last id they saw."""
        self._is_closing = True
        self.end_streams()

    def end_streams(self) -> None:
        """End the streams that are open; their clients may come back at once."""
        for client in list(self._clients):
            client.end()

    def join(self, sight: Sight) -> Client:
        """A new stream; raises TooManyStreamsError."""
        if len(self._clients) >= MOST_STREAMS or self._is_closing:
            raise TooManyStreamsError(f"This process serves {MOST_STREAMS:,} streams already.")
        client = Client(sight)
        self._clients.add(client)
        metrics.STREAMS.set(len(self._clients))
        return client

    def leave(self, client: Client) -> None:
        self._clients.discard(client)
        metrics.STREAMS.set(len(self._clients))

    async def missed(self, last_id: str | None, client: Client, until: int) -> bytes:
        """What a client that saw ``last_id`` gets first: what it missed, or word that it must load everything anew."""
        if last_id is None:
            return as_lines("stream.ready", {"snapshot": until}, event_id=f"{until}-0")
        try:
            client.seen = changes.parse_id(last_id)
            events = await self._replay.after(client.seen, until=until)
        except (GapError, LakeUnreadableError):
            client.seen = (0, 0)
            return as_lines("stream.reset", {"snapshot": until}, event_id=f"{until}-0")
        return b"".join(filter(None, (one.lines(client.sight) for one in events))) or b": nothing missed\n\n"

    def asked(self) -> None:
        """Somebody asks the API something."""
        self._asked_at = time.monotonic()

    async def look(self) -> None:
        """One look at the lake and at the runs that are going on."""
        self._looks += 1
        await self._look_for_started()
        newest = await self._reader.read(self._reader.newest)
        if newest == self.position and self._shelf.state is not None and self._looks % NOTEBOOKS_EVERY:
            return
        if newest < self.position:  # the lake was replaced
            await self._reader.read(self._shelf.refresh)
            self._start_anew(newest)
        elif newest > self.position:
            await self._tell_of(newest)
        else:
            await self._reader.read(self._shelf.refresh)
        self.position = newest

    async def _tell_of(self, newest: int) -> None:
        """The shelf is new before anybody is told: whoever hears of a result finds it there."""
        lake = self._reader.lake
        refreshed, events = await asyncio.gather(
            self._reader.read(self._shelf.refresh),
            self._reader.read(changes.events_after, lake, self.position, until=newest),
            return_exceptions=True,
        )
        if isinstance(events, GapError) and not isinstance(refreshed, BaseException):
            self._start_anew(newest)
            return
        for one in (refreshed, events):
            if isinstance(one, BaseException):
                raise one
        assert not isinstance(events, BaseException)  # noqa: S101 - for the type checker
        self._replay.add(events, until=newest)
        for event in events:
            self._count(event)
            for client in list(self._clients):
                lines = event.lines(client.sight)
                if lines is not None and (event.snapshot_id, event.number) > client.seen:
                    self._give(client, lines)

    def _start_anew(self, newest: int) -> None:
        """Too much happened, or it happened to another lake: everybody must load everything again."""
        self._replay.start_at(newest)
        for client in self._clients:
            client.seen = (0, 0)
        self.tell_all("stream.reset", {"snapshot": newest}, event_id=f"{newest}-0")

    async def _first_look(self) -> None:
        state = await self._reader.read(self._shelf.refresh)
        self.position = state.snapshot_id
        self._replay.start_at(self.position)
        self.running = tuple(await self._reader.read(runs_in_progress, self._reader.lake.settings))

    async def _look_for_started(self) -> None:
        """Runs that began carry no id: they are of the present, and nobody who was away needs them."""
        running = tuple(await self._reader.read(runs_in_progress, self._reader.lake.settings))
        known = {one.run_id for one in self.running}
        for one in running:
            if one.run_id not in known:
                log.info("Run started: %s", one.analysis, extra={"run_id": one.run_id, "event": "run.started"})
                self.tell_all("run.started", started_data(one))
        self.running = running

    def _pause(self, last_look_seconds: float) -> float:
        if self._reader.trouble:
            return TROUBLE_SECONDS
        if self._clients:
            return POLL_SECONDS
        longer = UNASKED if time.monotonic() - self._asked_at > UNASKED_SECONDS else 1
        return min(max(POLL_SECONDS, longer * RESTS * last_look_seconds), longer * LONGEST_POLL_SECONDS)

    async def _watch(self) -> None:
        seconds = 0.0
        while True:
            await asyncio.sleep(self._pause(seconds))
            begun = time.monotonic()
            try:
                await self.look()
                seconds = time.monotonic() - begun
            except MediSyncError:
                continue  # noted by the reader
            except Exception:
                log.exception("The lake could not be looked at; trying again.")
                await asyncio.sleep(TROUBLE_SECONDS)

    def tell_all(self, name: str, data: dict[str, Any], *, event_id: str | None = None) -> None:
        """An event for whoever listens now, whatever the role."""
        lines = as_lines(name, data, event_id=event_id)
        for client in list(self._clients):
            self._give(client, lines)

    def _give(self, client: Client, lines: bytes) -> None:
        if not client.put(lines):
            metrics.STREAMS_DROPPED.inc()
            self.leave(client)

    def _count(self, event: Event) -> None:
        metrics.EVENTS.labels(event.name).inc()
        about = {"event": event.name}
        if isinstance(event.of, dict) and "run_id" in event.of:
            about["run_id"] = event.of["run_id"]
        elif hasattr(event.of, "delivery_id"):
            about["delivery_id"] = event.of.delivery_id
        log.info("Event %s", event.name, extra=about)


def started_data(one: RunInProgress) -> dict[str, Any]:
    """A run that is going on, as everybody may see it."""
    return {
        "run_id": one.run_id,
        "analysis": one.analysis,
        "title": one.title,
        "started_at": one.started_at.isoformat(),
        "task_id": one.flow_run_id,
    }
