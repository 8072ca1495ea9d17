"""The six analyses find in demo data what was planted there, and only that. Truth: ``medisync/demo/plan.py``."""

from __future__ import annotations

import importlib

import pandas as pd
import pytest

from medisync.analyses.contract import Finding, Result
from medisync.demo import DemoTruth, write_demo_data
from medisync.stats.surveillance import WeekState
from tests.support.memory_lake import FILL, STAGE_SAMPLE, MemoryLake, empty_lake


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLake, DemoTruth]:
    path = tmp_path_factory.mktemp("demo") / "demo.csv"
    truth = write_demo_data(path, rows=45_000, years=5, sites=3, seed=3)
    lake = empty_lake()
    lake.connection.execute(STAGE_SAMPLE.format(path=path))
    lake.connection.execute(FILL)
    return lake, truth


def run(lake: MemoryLake, analysis: str) -> Result:
    module = importlib.import_module(f"medisync.analyses.{analysis}")
    params = module.Params()
    result: Result = module.compute(module.load(lake, params), params)
    return result


def test_conditions_go_with_age_gender_and_season_and_nothing_else(demo: tuple[MemoryLake, DemoTruth]) -> None:
    result = run(demo[0], "illness_prediction")
    factors = result.frame("factors").set_index("factor")["verdict"]
    assert result.finding is Finding.SIGNAL
    assert set(factors.index[factors == "associated"]) == {"age_band", "gender", "season"}


def test_the_vital_few_are_those_planted(demo: tuple[MemoryLake, DemoTruth]) -> None:
    lake, truth = demo
    result = run(lake, "medication_analysis")
    shares = pd.Series({one.name: one.share for one in truth.medications}).sort_values(ascending=False)
    planted = int((shares.cumsum() < 0.8).sum()) + 1
    assert result.finding is Finding.SIGNAL
    assert abs(result.metrics["class_a_medications_count"] - planted) <= 1
    assert result.frame("medications")["medication"].iloc[0] == shares.index[0]


def test_the_planted_growth_is_the_trend_found(demo: tuple[MemoryLake, DemoTruth]) -> None:
    lake, truth = demo
    changes = run(lake, "patient_health_trends").frame("changes").set_index("condition")
    for one in truth.conditions:
        low, high = float(changes.loc[one.name, "trend_low"]), float(changes.loc[one.name, "trend_high"])
        if one.season_amplitude == 0:  # a season lends a straight line over three years some of its shape
            assert low - 3 <= 100 * one.growth_per_year <= high + 3, one.name
        if changes.loc[one.name, "verdict"] == "falling":
            assert one.growth_per_year <= 0 or one.season_amplitude > 0


def test_the_season_makes_the_forecast_better_than_the_mean(demo: tuple[MemoryLake, DemoTruth]) -> None:
    lake, truth = demo
    volume = run(lake, "patient_volume_prediction")
    assert volume.finding is Finding.SIGNAL
    assert volume.metrics["skill_against_mean_percent"] > 10
    assert 65 <= volume.metrics["coverage_80_percent"] <= 92
    table = run(lake, "illness_surge_prediction").frame("forecast").set_index(["condition", "site"])
    seasonal = max(truth.conditions, key=lambda one: one.season_amplitude)
    assert table.loc[(seasonal.name, "all sites"), "skill_against_mean_percent"] > 15


def test_outbreaks_planted_in_the_weeks_shown_are_surges(demo: tuple[MemoryLake, DemoTruth]) -> None:
    lake, truth = demo
    weekly = run(lake, "illness_surge_prediction").frame("weekly")
    surges = weekly[weekly["state"] == WeekState.SURGE]
    first = pd.to_datetime(weekly["week"]).min().date()
    planted = [one for one in truth.outbreaks if one.site is None and one.first_week >= first]
    assert planted
    for one in planted:
        weeks = pd.date_range(one.first_week, periods=len(one.cases_by_week), freq="7D").strftime("%Y-%m-%d")
        own = surges[surges["condition"] == one.condition]["week"]
        assert own.isin(weeks).any(), one


def test_who_comes_has_not_changed(demo: tuple[MemoryLake, DemoTruth]) -> None:
    assert run(demo[0], "patient_demographics").finding is Finding.NOTHING
