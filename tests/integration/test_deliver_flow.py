"""Loading: by the flow run, or ahead of it by a process of its own, for which the flow run waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.flows import load_flow_from_entrypoint
from prefect.logging import disable_run_logger

from flows import deliver
from medisync.fastlane import flow_runs
from medisync.intake import arrival, turns
from medisync.intake.ahead import Ahead
from medisync.intake.report import DeliveryStatus
from medisync.lake import Lake
from medisync.ledger import Claims, open_ledger
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv
from tests.support.fork_servers import fork_server
from tests.support.running import wait_until

load: Any = deliver.load  # a task of Prefect's; here without its engine


@pytest.fixture
def flows_lake(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setattr(deliver, "lake", lambda: lake)
    with disable_run_logger():
        yield lake


def claimed(settings: Settings, path: Path, source: str = arrival.DEFAULT_SOURCE) -> str:
    delivery_id = arrival.reserve(settings, source)
    arrival.copy_in(settings, delivery_id, path)
    Claims(open_ledger(settings)).add(delivery_id, source)
    return delivery_id


def test_the_flow_loads_what_nobody_loaded_ahead(flows_lake: Lake, tmp_path: Path) -> None:
    delivery_id = claimed(flows_lake.settings, write_csv(tmp_path / "week.csv", admissions(3)))
    [report], failure = load.fn(delivery_id)
    assert failure is None
    assert (report.delivery_id, report.status) == (delivery_id, DeliveryStatus.LOADED)
    assert report.seconds > 0
    [again], failure = load.fn(delivery_id)  # the flow tried again
    assert (again.created, again.seconds, failure) == (3, 0, None)


def test_the_flow_waits_for_who_is_loading_and_hears_what_came_of_it(flows_lake: Lake, tmp_path: Path) -> None:
    settings = flows_lake.settings
    delivery_id = claimed(settings, write_csv(tmp_path / "week.csv", admissions(3)))
    outcome: list[Any] = []
    with turns.turn(settings, arrival.DEFAULT_SOURCE):
        waiting = threading.Thread(target=lambda: outcome.append(load.fn(delivery_id)))
        waiting.start()
        turns.deliver(flows_lake, delivery_id)
        assert not outcome
    waiting.join()
    [([report], failure)] = outcome
    assert failure is None
    assert (report.delivery_id, report.created, report.seconds) == (delivery_id, 3, 0)
    assert report.changed, "so its analyses are run"
    assert len(flows_lake.query("FROM clinical.deliveries")) == 1


def test_what_keeps_it_from_loading_is_told_with_what_was_loaded(
    flows_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = turns.take

    def fails_afterwards(*arguments: Any) -> Iterator[Any]:
        yield from taken(*arguments)
        raise OSError("no room")

    monkeypatch.setattr(turns, "take", fails_afterwards)
    delivery_id = claimed(flows_lake.settings, write_csv(tmp_path / "week.csv", admissions(3)))
    reports, failure = load.fn(delivery_id)
    assert [one.delivery_id for one in reports] == [delivery_id]
    assert isinstance(failure, OSError)


def test_prefect_s_copy_of_the_flow_is_the_same(tmp_path: Path, workspace: Settings) -> None:
    """Prefect runs the flow's file as a module of its own, beside the one that is imported."""
    copy: Any = load_flow_from_entrypoint("flows/deliver.py:deliver")
    assert copy is not deliver.deliver
    delivery_id = claimed(workspace, write_csv(tmp_path / "week.csv", admissions(3)))
    with disable_run_logger():
        [report], failure = copy.fn.__globals__["load"].fn(delivery_id)
    assert (report.created, failure) == (3, None)


def test_a_process_of_its_own_loads_ahead(workspace: Settings, lake: Lake, tmp_path: Path) -> None:
    path = flow_runs.socket_path(workspace)
    good = claimed(workspace, write_csv(tmp_path / "week.csv", admissions(3)))
    bad = claimed(workspace, write_csv(tmp_path / "bad.csv", admissions(3)), source="ward")
    ahead = Ahead(workspace)
    ahead.begin(good)
    assert not ahead.is_busy(), "without a fork server it would not be sooner"
    with fork_server(tmp_path, "-m", flow_runs.__name__, str(path)):
        ahead.begin(good)
        ahead.begin(bad)  # one at a time
        wait_until(lambda: not ahead.is_busy(), seconds=60, what="it is loaded and the process has ended")
        assert [row["delivery_id"] for row in lake.query("SELECT delivery_id FROM clinical.deliveries")] == [good]
        workspace.keys.joinpath("pseudonyms.key").unlink()
        workspace.keys.joinpath("pseudonyms.key").write_bytes(b"short")
        ahead.begin(bad)
        wait_until(lambda: not ahead.is_busy(), seconds=60, what="the process has ended")
    assert arrival.claimed(workspace) == [bad], "what comes to nothing is left to the flow run"
