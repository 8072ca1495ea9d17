"""The stream: resumable ids, each role's view, slow clients, the end of a token."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import json
import socket
import threading
from collections.abc import Iterator
from queue import Empty, Queue

import httpx
import pytest

from medisync.access.permissions import Role
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.analyses.contract import Table
from medisync.api import changes, doorkeeper
from medisync.api.changes import Event, GapError, events_after, parse_id
from medisync.api.hub import LONGEST_QUEUE, POLL_SECONDS, Client, Hub
from medisync.api.views import Sight
from medisync.lake import Lake
from medisync.runs import planning
from tests.support.published import computed, publish_result, release
from tests.support.running import wait_until
from tests.unit.api.conftest import PASSWORD, Door

PATH = "/api/analytics/stream/"
FAILING = "illness_prediction"
MOST_TOLD = 400
"""Events of 200,000 bytes: more than any socket's buffers and our queue hold together."""


def sight(role: Role) -> Sight:
    return Sight(Principal(role.value, role, "token", "session"))


@contextlib.contextmanager
def listening(door: Door, role: Role = Role.ANALYST, **headers: str) -> Iterator[Queue[dict[str, str]]]:
    """The events one client gets, as dictionaries of their fields."""
    got: Queue[dict[str, str]] = Queue()
    with httpx.Client(base_url=door.served.url, timeout=300) as client:
        given = {**door.headers(role), **headers}
        with client.stream("GET", PATH, headers=given) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")

            def read() -> None:
                event: dict[str, str] = {}
                try:
                    for line in answer.iter_lines():
                        if not line and event:
                            got.put(event)
                            event = {}
                        elif line and not line.startswith(":"):
                            name, _, value = line.partition(": ")
                            event[name] = value
                except (httpx.HTTPError, RuntimeError):
                    pass
                got.put({"event": "closed"})

            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            yield got
            hang_up(answer)
            thread.join(30)


def hang_up(answer: httpx.Response) -> None:
    """Close as a client does that goes away. Closing alone would leave the other thread reading."""
    with contextlib.suppress(OSError):  # the server was quicker
        answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def named(got: Queue[dict[str, str]], *names: str) -> dict[str, str]:
    """The next event of one of these names."""
    while True:
        try:
            event = got.get(timeout=120)
        except Empty:
            raise AssertionError(f"no {names}") from None
        if event.get("event") in names:
            return event


def fail_once(door: Door) -> str:
    [plan] = planning.plan(door.lake, [FAILING], parameters={"alpha": 0.02})
    return publish_result(door.lake, plan, None).run_id


def test_a_commit_reaches_every_client_with_an_id_of_the_lake(door: Door) -> None:
    with listening(door) as one, listening(door, Role.VIEWER) as two:
        named(one, "stream.ready"), named(two, "stream.ready")
        run_id = fail_once(door)
        snapshot = door.lake.last_snapshot_id()
        events = [named(one, "run.failed"), named(two, "run.failed")]
    assert {event["id"] for event in events} == {f"{snapshot}-0"}
    full, released = (json.loads(event["data"]) for event in events)
    assert full["run_id"] == released["run_id"] == run_id
    assert "ward 7" in full["error_message"]
    assert "ward 7" not in events[1]["data"]


def test_whoever_hears_of_a_result_finds_it_there(door: Door) -> None:
    analysis = "patient_health_trends"
    [plan] = planning.plan(door.lake, [analysis], force=True)
    result = computed(door.settings, plan)
    with listening(door) as got:
        named(got, "stream.ready")
        record = publish_result(door.lake, plan, result)
        named(got, "run.completed")
        latest = door.get(f"/api/analytics/?type={analysis}").json()
    assert (latest["data"]["run_id"], latest["cached"]) == (record.run_id, True)


def test_what_was_missed_comes_first_and_once(door: Door) -> None:
    with listening(door) as got:
        named(got, "stream.ready")
        first = fail_once(door)
        last_id = named(got, "run.failed")["id"]
    missed = [fail_once(door), fail_once(door)]
    with listening(door, **{"Last-Event-ID": last_id}) as got:
        found = [json.loads(named(got, "run.failed", "stream.ready", "stream.reset")["data"]) for _ in missed]
        following = fail_once(door)
        assert json.loads(named(got, "run.failed")["data"])["run_id"] == following
    assert [one["run_id"] for one in found] == missed
    assert first not in missed


@pytest.mark.parametrize("last_id", ["", "x", "1-", "-1", "9" * 30 + "-0", "999999999-0", "../x"])
def test_an_id_that_is_none_of_ours_means_load_anew(door: Door, last_id: str) -> None:
    with listening(door, **{"Last-Event-ID": last_id}) as got:
        event = named(got, "stream.reset", "run.failed", "run.completed", "delivery.loaded")
        assert event["event"] == "stream.reset"
        assert json.loads(event["data"]) == {"snapshot": int(event["id"].partition("-")[0])}


def test_an_id_older_than_what_is_kept_means_load_anew(answered_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = answered_lake.last_snapshot_id() or 0
    assert events_after(answered_lake, newest) == []
    monkeypatch.setattr(changes, "LONGEST_REPLAY", 2)
    with pytest.raises(GapError):
        events_after(answered_lake, newest - 3)
    with pytest.raises(GapError):
        events_after(answered_lake, newest + 1)


def test_events_are_the_same_whenever_they_are_asked_for(answered_lake: Lake) -> None:
    newest = answered_lake.last_snapshot_id() or 0
    whole = events_after(answered_lake, 0)
    pieces = [one for number in range(newest) for one in events_after(answered_lake, number, until=number + 1)]
    assert [(one.id, one.name) for one in whole] == [(one.id, one.name) for one in pieces]
    assert [parse_id(one.id) for one in whole] == sorted(parse_id(one.id) for one in whole)
    assert whole[0].name == "delivery.loaded"


def test_a_delivery_says_to_each_role_what_it_may_know(answered_lake: Lake) -> None:
    loaded = next(one for one in events_after(answered_lake, 0) if one.name == "delivery.loaded")
    shown = {role: (loaded.lines(sight(role)) or b"").decode() for role in Role}
    assert {role for role, text in shown.items() if '"created":400' in text} == set(Role) - {Role.VIEWER}
    assert "file" not in shown[Role.VIEWER]


def test_a_surge_is_raised_once_and_not_for_viewers(answered_lake: Lake) -> None:
    [plan] = planning.plan(answered_lake, ["illness_surge_prediction"], force=True)
    columns = ("unique_id", "ds", "observed", "expected", "threshold", "p_value", "adjusted_p_value", "state")
    rows = (("condition: Flu | all sites", dt.date(2031, 1, 6).isoformat(), 40.0, 9.0, 17.0, 1e-9, 1e-8, "surge"),)
    result = computed(answered_lake.settings, plan).model_copy(
        update={"lake_rows": {"surges": Table(title="States", columns=columns, rows=rows)}}
    )
    before = answered_lake.last_snapshot_id() or 0
    publish_result(answered_lake, plan, result)
    publish_result(answered_lake, plan, result)
    events = [one for one in events_after(answered_lake, before) if one.name == "surge.raised"]
    [event] = events
    assert json.loads((event.lines(sight(Role.CLINICIAN)) or b"").split(b"data: ")[1])["series"].endswith(
        "Flu | all sites"
    )
    assert event.lines(sight(Role.VIEWER)) is None


def test_a_run_going_on_is_told_without_an_id(door: Door) -> None:
    from medisync.runs.progress import in_progress

    with listening(door) as got:
        named(got, "stream.ready")
        with in_progress(
            door.settings,
            run_id="r20310107T000000-abcdef",
            analysis=FAILING,
            title="Illness",
            run_key="k",
            trigger="test",
            flow_run_id=None,
            started_at=dt.datetime.now(dt.UTC),
        ):
            event = named(got, "run.started")
    assert "id" not in event
    assert json.loads(event["data"])["analysis"] == FAILING


def test_a_client_that_does_not_read_is_ended_and_the_others_are_not() -> None:
    async def play() -> tuple[bool, bool, bytes | None]:
        slow, quick = Client(sight(Role.ANALYST)), Client(sight(Role.ANALYST))
        dropped: list[bool] = []
        slow.on_drop = lambda: dropped.append(True)
        for _ in range(LONGEST_QUEUE + 1):
            slow.put(b"x")
            quick.put(b"x")
            await quick.take(0)
        return bool(dropped), slow.is_slow, await slow.take(0)

    dropped, is_slow, taken = asyncio.run(play())
    assert (dropped, is_slow, taken) == (True, True, None)


def test_while_nobody_listens_close_commits_are_looked_at_together(door: Door) -> None:
    hub = Hub(door.house.reader, door.house.shelf)
    assert [hub._pause(seconds) for seconds in (0.0, 0.1, 9.0)] == pytest.approx([POLL_SECONDS, 1.6, 3.0])
    hub.asked()
    assert [hub._pause(seconds) for seconds in (0.0, 0.1, 9.0)] == pytest.approx([POLL_SECONDS, 0.8, 1.5])
    hub.join(sight(Role.VIEWER))
    assert hub._pause(9.0) == POLL_SECONDS


def alone_at(door: Door) -> Hub:
    """The hub, when the streams of the tests before are forgotten."""
    hub = door.house.hub
    wait_until(lambda: hub.clients == 0, seconds=120, what="the streams of the tests before are forgotten")
    return hub


def test_a_socket_that_is_not_read_is_closed_while_others_hear_everything(door: Door) -> None:
    hub = alone_at(door)
    with socket.socket() as stuck, listening(door) as got:
        named(got, "stream.ready")
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.settimeout(60)
        stuck.connect(("127.0.0.1", door.served.port))
        head = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {door.headers(Role.ANALYST)['Authorization']}\r\n\r\n"
        stuck.sendall(head.encode())
        wait_until(lambda: hub.clients == 2, seconds=60, what="the stream is open")
        told = 0
        while hub.clients > 1 and told < MOST_TOLD:
            event = {"number": told, "filler": "x" * 200_000}
            door.served.loop.call_soon_threadsafe(functools.partial(hub.tell_all, "run.started", event))
            assert json.loads(named(got, "run.started")["data"])["number"] == told
            told += 1
        assert hub.clients == 1
        assert told > LONGEST_QUEUE
        with contextlib.suppress(ConnectionResetError):
            while stuck.recv(1_000_000):
                pass  # what was under way; then the end, which a client that is kept waiting would not get to


def test_a_token_s_end_is_the_stream_s_end(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "RECHECK_SECONDS", 0.1)
    accounts = Access.open(door.settings).accounts
    accounts.add("leaver", Role.CLINICIAN, PASSWORD, must_change=False)
    answer = door.client.post("/api/auth/token", json={"username": "leaver", "password": PASSWORD})
    token = {"Authorization": f"Bearer {answer.json()['data']['access_token']}"}
    with listening(door, **token) as got:
        named(got, "stream.ready")
        accounts.disable("leaver")
        assert json.loads(named(got, "stream.end")["data"]) == {"reason": "not-authenticated"}
        named(got, "closed")


def test_streams_that_ended_are_forgotten(door: Door) -> None:
    hub = alone_at(door)
    with listening(door) as got:
        named(got, "stream.ready")
        assert hub.clients == 1
    wait_until(lambda: hub.clients == 0, seconds=120, what="the stream is forgotten")


def test_an_event_is_made_once_for_equal_sight() -> None:
    event = Event(3, 0, "surge.raised", {"run_id": "r", "series": "s"})
    assert event.lines(sight(Role.ANALYST)) is event.lines(sight(Role.ADMIN))


def test_a_released_run_s_event_has_the_released_headline(answered_lake: Lake) -> None:
    [plan] = planning.plan(answered_lake, ["medication_analysis"], force=True)
    before = answered_lake.last_snapshot_id() or 0
    record = publish_result(answered_lake, plan, computed(answered_lake.settings, plan))
    release(answered_lake, record.run_id, plan.analysis, json.dumps({"headline": "Released."}))
    event = next(one for one in events_after(answered_lake, before) if one.name == "run.completed")
    assert "Released." in (event.lines(sight(Role.VIEWER)) or b"").decode()
    assert "Released." not in (event.lines(sight(Role.CLINICIAN)) or b"").decode()
