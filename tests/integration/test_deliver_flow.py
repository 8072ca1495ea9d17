"""Loading that begins with the flow run's process, before Prefect's engine knows of the flow run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.flows import load_flow_from_entrypoint
from prefect.logging import disable_run_logger

from flows import deliver, loading
from medisync.intake import arrival
from medisync.intake.report import DeliveryStatus
from medisync.lake import Lake
from medisync.ledger import Claims, open_ledger
from tests.support.admissions_csv import admissions, write_csv

load: Any = deliver.load  # a task of Prefect's; here without its engine


@pytest.fixture
def flows_lake(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setattr(loading, "lake", lambda: lake)
    with disable_run_logger():
        yield lake


def claimed(lake: Lake, path: Path) -> str:
    delivery_id = arrival.reserve(lake.settings, arrival.DEFAULT_SOURCE)
    arrival.copy_in(lake.settings, delivery_id, path)
    Claims(open_ledger(lake.settings)).add(delivery_id, arrival.DEFAULT_SOURCE)
    return delivery_id


def test_what_began_is_loaded_once_and_the_flow_hears_of_it(flows_lake: Lake, tmp_path: Path) -> None:
    delivery_id = claimed(flows_lake, write_csv(tmp_path / "week.csv", admissions(3)))
    loading.begin(delivery_id)
    reports, failure = load.fn(delivery_id)
    assert failure is None
    assert [(one.delivery_id, one.status) for one in reports] == [(delivery_id, DeliveryStatus.LOADED)]
    assert reports[0].seconds > 0  # of this flow run, so its round is due
    assert len(flows_lake.query("FROM clinical.deliveries")) == 1
    again, _ = load.fn(delivery_id)  # the flow tried again in the same process: nothing is taken from before
    assert again[0].seconds == 0


def test_what_keeps_it_from_loading_is_told_with_what_was_loaded(
    flows_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = loading.turns.take

    def fails_afterwards(*arguments: Any) -> Iterator[Any]:
        yield from taken(*arguments)
        raise OSError("no room")

    monkeypatch.setattr(loading.turns, "take", fails_afterwards)
    delivery_id = claimed(flows_lake, write_csv(tmp_path / "week.csv", admissions(3)))
    loading.begin(delivery_id)
    reports, failure = load.fn(delivery_id)
    assert [one.delivery_id for one in reports] == [delivery_id]
    assert isinstance(failure, OSError)


def test_prefect_s_copy_of_the_flow_hears_of_it_too(flows_lake: Lake, tmp_path: Path) -> None:
    """Prefect runs the flow's file as a module of its own, beside the one that is imported."""
    copy: Any = load_flow_from_entrypoint("flows/deliver.py:deliver")
    assert copy is not deliver.deliver
    delivery_id = claimed(flows_lake, write_csv(tmp_path / "week.csv", admissions(3)))
    loading.begin(delivery_id)
    [report], failure = copy.fn.__globals__["load"].fn(delivery_id)
    assert failure is None
    assert report.seconds > 0, "told by what began, not found again"


def test_the_flow_loads_by_itself_what_nobody_began(flows_lake: Lake, tmp_path: Path) -> None:
    delivery_id = claimed(flows_lake, write_csv(tmp_path / "week.csv", admissions(3)))
    reports, failure = load.fn(delivery_id)
    assert (len(reports), failure) == (1, None)
