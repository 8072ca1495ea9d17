"""Recalibration in a real lake: orders and scores are stored once, and the forecast runs again with them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medisync import intake
from medisync.analyses import patient_volume_prediction as volume
from medisync.cli.main import app
from medisync.errors import NoDataError, ParameterError
from medisync.lake import Lake, Snapshot
from medisync.runs import calibration, story
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.settings import Settings
from tests.conftest import make_workspace
from tests.support.admissions_csv import admission, write_csv


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Fifty months with an autoregressive number of admissions."""
    folder = tmp_path_factory.mktemp("calibrated")
    environment = pytest.MonkeyPatch()
    settings: Settings = make_workspace(folder, environment)
    environment.undo()
    opened = Lake(settings)
    rng = np.random.default_rng(3)
    level, days = 0.0, []
    for month in pd.date_range("2019-11-01", periods=50, freq="MS"):
        level = 0.8 * level + rng.normal()
        days += [month + pd.Timedelta(days=int(day)) for day in rng.integers(0, 28, round(30 + 8 * level))]
    days += [pd.Timestamp("2019-11-01"), pd.Timestamp("2023-12-31")]
    rows = [
        admission(number, Date_of_Admission=f"{day:%Y-%m-%d}", Discharge_Date=f"{day:%Y-%m-%d}")
        for number, day in enumerate(days)
    ]
    report = intake.ingest(opened, write_csv(Path(folder) / "months.csv", rows))
    assert report.created == len(rows), report.message
    return opened


def calibrate(lake: Lake, name: str) -> calibration.CalibrationReport:
    return calibration.recalibrate(lake, frequencies=["monthly"], most_sites=0, most_models=4, calibration_id=name)


def run(lake: Lake, snapshot_id: int | None = None) -> volume.Result:
    params = volume.Params.checked({"frequency": "monthly", "horizon": 3})
    with Snapshot(lake.settings, snapshot_id) as snapshot:
        return volume.compute(volume.load(snapshot, params), params)


def test_orders_are_stored_used_and_reproducible(filled: Lake) -> None:
    def key() -> str:
        [plan] = story.plan(filled, ["patient_volume_prediction"])
        return plan.run_key

    before, without, key_before = filled.last_snapshot_id(), run(filled), key()
    report = calibrate(filled, "c1")
    [series] = report.series
    assert (report.changed, series.unique_id, series.frequency, series.periods_known) == (
        True,
        "all sites",
        "monthly",
        50,
    )
    assert series.order is not None
    assert series.order.converged
    assert key() != key_before  # an arrival's forecast is another one now
    [row] = filled.query("SELECT * FROM analytics.sarima_orders")
    assert (row["calibration_id"], row["snapshot_id"], row["models_tried"]) == ("c1", before, series.order.models)
    assert row["code_version"].startswith("0.1.0")
    scores = filled.query("SELECT method, is_best, mase, origins FROM analytics.backtests")
    assert {one["method"] for one in scores} >= {"mean", "seasonal_naive", "combination", "sarima"}
    assert sum(one["is_best"] for one in scores) == 1
    with_orders = run(filled)
    assert "seasonal ARIMA" in set(with_orders.frame("accuracy")["method"])
    assert "seasonal ARIMA" not in set(without.frame("accuracy")["method"])
    assert run(filled, before) == without  # the old snapshot knows nothing of it

    again = calibrate(filled, "c1")  # a flow run that is repeated
    assert (again.series, again.changed) == ((), False)
    key_after, same = key(), calibrate(filled, "c2")
    assert not same.changed  # the same data give the same orders: nothing runs again
    assert key() == key_after
    assert len(filled.query("SELECT 1 FROM analytics.sarima_orders")) == 2


def test_sentences(filled: Lake) -> None:
    report = calibrate(filled, "c3")
    assert report.sentence() == "1 orders found for 1 series; they are as before."
    assert report.series[0].sentence().startswith("all sites, monthly: SARIMA (")
    nothing = dataclasses.replace(report.series[0], order=None)
    assert "no model" in nothing.sentence()
    assert report.as_json()["series"][0]["frequency"] == "monthly"


def test_bad_input_writes_nothing(lake: Lake, filled: Lake) -> None:
    with pytest.raises(NoDataError):
        calibrate(lake, "c1")
    with pytest.raises(ParameterError, match="frequency"):
        calibration.recalibrate(filled, frequencies=["hourly"])  # type: ignore[list-item]
    lake.connection()
    with pytest.raises(NoDataError):
        calibrate(lake, "c1")
    assert lake.query("SELECT * FROM clinical.table_versions") == []


def test_the_command_line_calls_the_same_function(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDISYNC_DATA", str(filled.settings.data))
    monkeypatch.setenv("MEDISYNC_REPORTS", str(filled.settings.reports))
    monkeypatch.setattr("medisync.stats.sarima.MOST_MODELS", 4)
    command = ["recalibrate", "--frequency", "monthly", "--sites", "0"]
    said = CliRunner().invoke(app, [*command, "--json"])
    assert said.exit_code == 0, said.output
    [series] = json.loads(said.stdout)["series"]
    assert (series["series"], series["frequency"], len(series["order"])) == ("all sites", "monthly", 6)
    wrong = CliRunner().invoke(app, ["recalibrate", "--frequency", "hourly"])
    assert isinstance(wrong.exception, ParameterError)


def test_two_processes_of_a_cluster_find_the_same(filled: Lake) -> None:
    def everything(report: calibration.CalibrationReport) -> list[dict[str, object]]:
        return [dataclasses.asdict(one) for one in report.series]

    def on_cluster(series: Sequence[calibration.UncalibratedSeries]) -> list[calibration.CalibratedSeries]:
        any_port = "127.0.0.1:0"
        threads = {name: value for name, value in FIXED_ENVIRONMENT.items() if name.endswith("_THREADS")}
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=any_port, memory_limit=0, env=threads
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            found = client.gather(client.map(calibration.calibrated, [*series, *series]))
        assert found[: len(series)] == found[len(series) :]
        return list(found[: len(series)])

    options: dict[str, Any] = {"frequencies": ["monthly"], "most_sites": 0, "most_models": 4}
    here = calibration.recalibrate(filled, calibration_id="here", **options)
    there = calibration.recalibrate(filled, calibration_id="there", on_each=on_cluster, **options)
    assert everything(there) == everything(here)
    assert not there.changed
