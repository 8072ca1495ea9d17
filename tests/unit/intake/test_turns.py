"""Deliveries that wait are taken in the order they came, all of a source's by one process, and announced so."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from medisync import intake
from medisync.intake import DeliveryStatus, arrival, turns, watcher
from medisync.intake.delivery import IntakeFailedError
from medisync.intake.watcher import Watcher
from medisync.lake import Lake
from medisync.ledger import Claims, ClaimState, open_ledger
from medisync.settings import Settings
from tests.support.admissions_csv import admission, admissions, write_csv


@pytest.fixture
def claims(workspace: Settings) -> Claims:
    return Claims(open_ledger(workspace))


@pytest.fixture
def watching(workspace: Settings) -> Watcher:
    made = Watcher(workspace)
    yield made
    made.close()


def claim(workspace: Settings, claims: Claims, number: int, source: str = "default", **changes: str) -> str:
    file = write_csv(workspace.inbox / f"{number}.csv", [admission(1, **changes)])
    delivery_id = arrival.claim(workspace, file, source)
    assert delivery_id is not None
    claims.add(delivery_id, source)
    return delivery_id


def test_ids_of_one_second_sort_as_they_were_made() -> None:
    made = [arrival.new_delivery_id() for _ in range(3) if not _pause()]
    assert made == sorted(made)


def _pause() -> None:
    """Longer than what an id can tell apart."""
    time.sleep(0.001)


def test_one_taker_loads_all_of_the_source_in_the_order_it_came(lake: Lake, claims: Claims) -> None:
    amounts = ("30.00", "10.00", "20.00")
    ids = [claim(lake.settings, claims, n, Billing_Amount=amount) for n, amount in enumerate(amounts)]
    other = claim(lake.settings, claims, 9, "ward")
    reports = list(turns.take(lake, claims, ids[1]))
    assert [one.delivery_id for one in reports] == ids
    assert [str(row["billing_amount"]) for row in lake.query("SELECT billing_amount FROM clinical.admissions")] == [
        "20.00"
    ]
    assert arrival.claimed(lake.settings) == [other]
    [again] = turns.take(lake, claims, ids[0])  # as a flow run that is tried again does
    assert (again.delivery_id, again.status, again.seconds) == (ids[0], DeliveryStatus.LOADED, 0.0)


def test_what_cannot_be_loaded_now_is_not_overtaken(
    lake: Lake, claims: Claims, watching: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (claim(lake.settings, claims, n, Age=str(30 + n)) for n in range(3))
    refused = claim(lake.settings, claims, 4, Age="300")
    real = intake.deliver

    def full(lake: Lake, delivery_id: str) -> intake.DeliveryReport:
        if delivery_id == second:
            raise IntakeFailedError("no room")
        return real(lake, delivery_id)

    taken = []
    with monkeypatch.context() as patched:
        patched.setattr(turns, "deliver", full)
        with pytest.raises(IntakeFailedError):
            taken.extend(one.delivery_id for one in turns.take(lake, claims, first))
    assert arrival.claimed(lake.settings) == [second, third, refused]
    told: list[str] = []
    monkeypatch.setattr(watching, "_announce", lambda delivery, _source: not told.append(delivery))
    watching.announce_open_claims()
    assert told == [], "its next try is a while away"
    reports = list(turns.take(lake, claims, third))
    assert [one.delivery_id for one in reports] == [second, third, refused]
    assert reports[-1].status is DeliveryStatus.REFUSED, "a refused one holds nothing up"


def test_a_turn_that_lasts_too_long_ends(lake: Lake, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (claim(lake.settings, claims, n, Age=str(30 + n)) for n in range(2))
    monkeypatch.setattr(turns, "LONGEST_SECONDS", -1.0)
    assert [one.delivery_id for one in turns.take(lake, claims, second)] == [first]
    assert arrival.claimed(lake.settings) == [second]


def test_ahead_of_its_flow_run_a_delivery_is_loaded_alone_and_in_its_turn(lake: Lake, claims: Claims) -> None:
    first, second = claim(lake.settings, claims, 1), claim(lake.settings, claims, 2)
    assert turns.take_one(lake, second) is None, "what came before it may be corrected by it"
    with turns.turn(lake.settings, "default"):
        assert turns.take_one(lake, first) is None
    ahead = turns.take_one(lake, first)
    assert ahead is not None
    assert (ahead.delivery_id, ahead.status) == (first, DeliveryStatus.LOADED)
    assert arrival.claimed(lake.settings) == [second], "nobody has been asked to analyse it yet"
    assert turns.take_one(lake, first) is None
    found, taken = turns.take(lake, claims, first)
    assert (found.delivery_id, found.created, found.seconds) == (first, ahead.created, 0.0)
    assert taken.delivery_id == second
    assert turns.take_one(lake, arrival.new_delivery_id()) is None


def test_only_what_the_server_knows_of_is_loaded_ahead(
    workspace: Settings, watching: Watcher, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(watching._ahead, "begin", begun.append)
    first = claim(workspace, claims, 1)
    watching.announce_open_claims()
    assert begun == [], "the server is away, and nobody would analyse it"
    monkeypatch.setattr(watching._announcer, "arrived", lambda *_: None)
    monkeypatch.setattr(watching._announcer, "waiting", lambda *_: None)
    watching.announce_open_claims()
    assert begun == [first]
    monkeypatch.setattr(watcher, "ANNOUNCE_AGAIN_SECONDS", 0.0)
    watching.announce_open_claims()
    assert begun == [first], "its first try came to nothing"


def test_only_the_oldest_of_each_source_is_announced(
    workspace: Settings, watching: Watcher, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(watching, "_announce", lambda delivery, _source: not told.append(delivery))
    first, second = claim(workspace, claims, 1), claim(workspace, claims, 2)
    ward = claim(workspace, claims, 3, "ward")
    watching.announce_open_claims()
    watching.announce_open_claims()
    assert told == [first, ward]
    arrival.put_away(workspace, first)
    with turns.turn(workspace, "default"):
        watching.announce_open_claims()
        assert told == [first, ward], "who has the turn takes the others, too"
    watching.announce_open_claims()
    assert told == [first, ward, second]
    found = claims.get(first)
    assert found is not None
    assert found.state is ClaimState.FINISHED


def test_files_are_claimed_in_the_order_they_arrived(workspace: Settings, watching: Watcher, tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        os.rename(write_csv(tmp_path / f"{name}.csv", admissions(1)), workspace.inbox / f"{name}.csv")
        _wait_for_a_tick(workspace.inbox / f"{name}.csv", tmp_path)
    ids = [*watching.claim_complete_files(), *watching.claim_complete_files()]
    assert ids == sorted(ids)
    found = [arrival.claimed_file(workspace, one) for one in ids]
    assert [one[1].name for one in found if one] == ["b.csv", "c.csv", "a.csv"]


def _wait_for_a_tick(path: Path, folder: Path) -> None:
    """Until the file system's clock has moved on since ``path`` came."""
    probe = folder / "probe"
    while True:
        probe.write_text("")
        if arrival.arrived_at(probe) > arrival.arrived_at(path):
            return
