"""Coming back to the stream: from memory, once each, and in whichever worker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from medisync.access.permissions import Role
from medisync.access.principal import Principal
from medisync.api import changes
from medisync.api.changes import Event, GapError
from medisync.api.hub import Hub
from medisync.api.reading import LakeReader
from medisync.api.replay import Replay
from medisync.api.shelf import Shelf
from medisync.api.views import Sight
from medisync.lake import Lake
from medisync.runs import planning
from tests.support.published import publish_result

COMING_BACK = 1_000
SIGHT = Sight(Principal("a", Role.ANALYST, "token", "session"))


def newest_of(lake: Lake) -> int:
    return lake.last_snapshot_id() or 0


def with_reader(lake: Lake, play: Any) -> Any:
    """What ``play`` gives, in a loop of its own, with a reader of its own."""

    async def run() -> Any:
        reader = LakeReader(lake.settings)
        try:
            return await play(reader)
        finally:
            reader.close()

    return asyncio.run(run())


def fail_once(lake: Lake) -> str:
    [plan] = planning.plan(lake, ["illness_prediction"], parameters={"alpha": 0.02})
    return publish_result(lake, plan, None).run_id


def test_a_thousand_that_come_back_at_once_read_the_lake_once(
    answered_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = newest_of(answered_lake)
    whole = changes.events_after(answered_lake, 0)
    asked: list[int] = []

    def counted(lake: Lake, snapshot_id: int, *, until: int | None = None) -> list[Event]:
        asked.append(snapshot_id)
        return whole if snapshot_id == 0 else real(lake, snapshot_id, until=until)

    real = changes.events_after
    monkeypatch.setattr(changes, "events_after", counted)

    async def play(reader: LakeReader) -> list[list[Event]]:
        replay = Replay(reader)
        replay.start_at(newest)
        return await asyncio.gather(*(replay.after((1, 0), until=newest) for _ in range(COMING_BACK)))

    found = with_reader(answered_lake, play)
    assert asked == [0]
    assert len(found) == COMING_BACK
    wanted = [one.id for one in whole if (one.snapshot_id, one.number) > (1, 0)]
    assert all([one.id for one in events] == wanted for events in found)
    assert wanted


def test_an_id_of_the_future_is_none_and_one_that_is_too_old_is_a_gap(
    answered_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = newest_of(answered_lake)

    async def after(reader: LakeReader, seen: tuple[int, int], until: int) -> list[Event]:
        replay = Replay(reader)
        replay.start_at(until)
        return await replay.after(seen, until=until)

    with pytest.raises(GapError):
        with_reader(answered_lake, lambda reader: after(reader, (newest + 1, 0), newest))
    assert with_reader(answered_lake, lambda reader: after(reader, (newest, 0), newest - 1)) == []
    monkeypatch.setattr(changes, "LONGEST_REPLAY", 2)
    with pytest.raises(GapError):
        with_reader(answered_lake, lambda reader: after(reader, (newest - 2, 0), newest))


def test_memory_keeps_the_newest_events_only(answered_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "LONGEST_REPLAY", 3)
    base = newest_of(answered_lake)

    async def play(reader: LakeReader) -> list[str]:
        replay = Replay(reader)
        replay.start_at(base)
        for number in range(base + 1, base + 7):
            replay.add([Event(number, 0, "surge.raised", {})], until=number)
        return [one.id for one in await replay.after((base + 5, 0), until=base + 6)]

    assert with_reader(answered_lake, play) == [f"{base + 6}-0"]


def test_what_another_worker_told_already_is_not_told_again(answered_lake: Lake) -> None:
    """The client had the event from a worker that looked a moment earlier than this one."""

    async def play(reader: LakeReader) -> tuple[bytes, bytes | None, bytes | None]:
        hub = Hub(reader, Shelf(reader.lake))
        await hub.look()
        known, new = hub.join(SIGHT), hub.join(SIGHT)
        before = hub.position
        await asyncio.to_thread(fail_once, answered_lake)
        first = await hub.missed(f"{newest_of(answered_lake)}-0", known, before)
        await hub.look()
        assert hub.position > before
        return first, await known.take(0), await new.take(0)

    first, known, new = with_reader(answered_lake, play)
    assert first == b": nothing missed\n\n"
    assert not known
    assert b"event: run.failed" in (new or b"")
