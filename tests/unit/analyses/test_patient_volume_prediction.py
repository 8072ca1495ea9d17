"""Patient volume: silent on the sample, finds a planted season, and honest on odd data."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from medisync.analyses import patient_volume_prediction as analysis
from medisync.analyses.contract import Finding, Result
from medisync.errors import NoDataError, ParameterError
from medisync.runs.publishing import check_lake_rows
from tests.support.memory_lake import MemoryLake, empty_lake, lake_of, sample_lake
from tests.support.pace import cpu_seconds

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "analyses" / "patient_volume_prediction.ipynb"


def run(lake: MemoryLake, **values: object) -> Result:
    params = analysis.Params.checked(values)
    return analysis.compute(analysis.load(lake, params), params)


def admissions_on(days: pd.DatetimeIndex, counts: np.ndarray, **columns: object) -> pd.DataFrame:
    admitted = days.repeat(counts)
    nights = np.random.default_rng(1).integers(0, 9, len(admitted))
    frame = pd.DataFrame({"patient": [f"p{i}" for i in range(len(admitted))], "admitted_at": admitted, **columns})
    return frame.assign(discharged_at=admitted + pd.to_timedelta(nights, unit="D"))


def seasonal_lake(**columns: object) -> MemoryLake:
    """Five years of days from a Monday on: 20 a day, 10 more in winter, 8 fewer at weekends."""
    days = pd.date_range("2019-01-07", periods=7 * 260)
    mean = 20 + 10 * np.cos(2 * np.pi * days.day_of_year / 365.25) - 8 * (days.day_of_week >= 5)
    return lake_of(admissions_on(days, np.random.default_rng(2).poisson(mean), **columns))


@pytest.mark.parametrize(("frequency", "periods"), [("weekly", 260), ("monthly", 59), ("daily", 1827)])
def test_the_sample_is_no_better_than_its_mean(frequency: str, periods: int) -> None:
    result = run(sample_lake(), frequency=frequency)
    assert result.finding is Finding.NOTHING
    assert result.metrics["method"] == "mean"
    assert result.metrics["complete_periods"] == periods
    assert "Plan with the mean" in result.headline
    assert "no trend or season" in result.headline
    assert all(one != "better than the mean" for one in result.frame("accuracy")["verdict"])


def test_a_ward_that_closed_is_said_and_not_averaged_away() -> None:
    days = pd.date_range("2020-01-06", periods=7 * 200)
    counts = np.random.default_rng(3).poisson(np.where(np.arange(len(days)) < 7 * 196, 20, 8))
    result = run(lake_of(admissions_on(days, counts)), method="mean")
    assert result.finding is Finding.SIGNAL
    assert result.headline.startswith("The latest weeks brought ")
    assert "fewer admissions than expected: should that last, expect about 5" in result.headline
    assert any("need not last" in one for one in result.warnings)


def test_incomplete_weeks_of_the_sample_are_left_out_and_said() -> None:
    result = run(sample_lake())
    assert [one for one in result.warnings if "incomplete" in one] == [
        "The first period 2019-05-06 to 2019-05-12 is incomplete (5 of 7 days) and was left out.",
        "The last period 2024-05-06 to 2024-05-12 is incomplete (2 of 7 days) and was left out.",
    ]
    assert result.frame("forecast")["period"].iloc[0] == "2024-05-06"


@pytest.mark.parametrize("frequency", ["weekly", "monthly", "daily"])
def test_a_planted_season_is_found(frequency: str) -> None:
    result = run(seasonal_lake(), frequency=frequency, horizon=6)
    assert result.finding is Finding.SIGNAL
    assert result.metrics["skill_against_mean_percent"] > 20
    assert "% smaller than by always expecting the mean" in result.headline
    assert result.warnings == () or frequency == "monthly"


def test_tables_have_the_promised_columns() -> None:
    result = run(sample_lake(), horizon=3, beds=450)
    quantiles = ["lower_95", "lower_80", "lower_50", "median", "upper_50", "upper_80", "upper_95"]
    assert result.frame("forecast").columns.tolist() == ["period", "step", *quantiles]
    assert len(result.frame("forecast")) == 3
    assert result.frame("history")["admissions"].sum() < result.metrics["admissions"] == 50_000
    census = result.frame("census")
    assert census.columns.tolist() == ["day", "mean", *quantiles, "probability_more_than_beds_percent"]
    assert census["day"].iloc[0] == "2024-05-08"
    assert result.metrics["beds_occupied_now"] == 472
    # Little's law: 27.4 admissions a day stay 15.5 nights
    assert census["mean"].iloc[-1] == pytest.approx(27.37 * 15.5, rel=0.04)


def test_results_and_figures_travel_as_json_and_are_the_same_each_time() -> None:
    result, again = run(sample_lake(), beds=480), run(sample_lake(), beds=480)
    assert result == again
    returned = Result.model_validate_json(result.model_dump_json())
    drawn = analysis.figures(result)
    assert [one.name for one in drawn] == ["volume_forecast", "census"]
    assert [one.svg for one in analysis.figures(returned)] == [one.svg for one in drawn]
    for one in drawn:
        ET.fromstring(one.svg)
        assert one.table in result.tables
        assert len(one.alt) > 30


def test_compute_is_cheap_enough_for_every_arrival() -> None:
    params = analysis.Params()
    inputs = analysis.load(sample_lake(), params)
    analysis.compute(inputs, params)
    assert cpu_seconds(lambda: analysis.compute(inputs, params)) < 0.5


def test_an_empty_lake_and_an_unknown_site_say_what_to_do() -> None:
    with pytest.raises(NoDataError, match="inbox"):
        run(empty_lake())
    with pytest.raises(NoDataError, match="spelling"):
        run(sample_lake(), site="Nowhere General")


@pytest.mark.parametrize(
    "values",
    [
        {"horizon": 0},
        {"horizon": 53},
        {"frequency": "hourly"},
        {"beds": -1},
        {"weeks": 3},
        {"method": "daily_regression"},
    ],
)
def test_wrong_parameters(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        analysis.Params.checked(values)


def test_a_site_has_zeros_where_its_source_was_reporting_and_gaps_where_not() -> None:
    days = pd.date_range("2024-01-01", periods=70)
    busy = admissions_on(days.delete(slice(21, 28)), np.full(63, 3), site="Large")
    small = admissions_on(days[[1, 20, 40]], np.array([2, 1, 4]), site="Small")
    result = run(lake_of(pd.concat([busy, small])), site="Small", horizon=2)
    assert result.title.endswith("Small")
    history = result.frame("history")["admissions"]
    assert history.isna().sum() == 1
    assert history.fillna(-1).tolist() == [2, 0, 1, -1, 0, 4, 0, 0, 0, 0]
    assert any("In 1 period nothing was reported" in one for one in result.warnings)


def test_a_few_days_of_data_are_not_enough_to_test_and_not_a_crash() -> None:
    days = pd.date_range("2024-01-01", periods=28)
    result = run(lake_of(admissions_on(days, np.full(28, 5))), horizon=4)
    assert result.finding is Finding.TOO_LITTLE
    assert "too little history" in result.headline
    assert any("fewer than eight" in one for one in result.warnings)
    assert result.frame("forecast")["median"].tolist() == pytest.approx([35] * 4, abs=1)


def test_no_complete_period_is_a_clear_refusal() -> None:
    days = pd.date_range("2024-01-02", periods=3)
    with pytest.raises(NoDataError, match="complete"):
        run(lake_of(admissions_on(days, np.full(3, 5))))


def test_without_any_discharge_there_is_no_census() -> None:
    days = pd.date_range("2024-01-01", periods=140)
    frame = admissions_on(days, np.full(140, 4)).drop(columns="discharged_at")
    result = run(lake_of(frame), beds=10)
    assert "census" not in result.tables
    assert len(analysis.figures(result)) == 1


def test_rare_admissions_get_whole_numbers() -> None:
    days = pd.date_range("2022-01-03", periods=7 * 110)
    counts = np.random.default_rng(3).poisson(0.06, len(days))
    counts[[0, -1]] = 1
    result = run(lake_of(admissions_on(days, counts)), horizon=4)
    upper = result.frame("forecast")["upper_95"]
    assert upper.tolist() == upper.round().tolist()
    assert any("less than one admission" in one for one in result.warnings)


def test_notebook_has_the_parameters_of_the_model() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cell = next(one for one in notebook.cells if "parameters" in one.metadata.get("tags", []))
    given = {one.targets[0].id: ast.literal_eval(one.value) for one in ast.parse(cell.source).body}
    assert given.pop("snapshot_id") is None
    assert given == {name: field.default for name, field in analysis.Params.model_fields.items()}
    assert notebook.metadata["medisync"]["analysis"] == analysis.ANALYSIS
    assert all(not one.get("outputs") for one in notebook.cells)


def test_the_forecast_is_kept_in_typed_rows_that_fit_the_lake() -> None:
    result = run(sample_lake(), horizon=3)
    check_lake_rows(result)
    kept = result.lake_rows["forecasts"].to_frame()
    shown = result.frame("forecast")
    assert len(kept) == 3 * 7
    medians = kept[kept["quantile"] == 0.5].sort_values("ds")
    assert medians["ds"].tolist() == shown["period"].tolist()
    assert medians["value"].round(2).tolist() == shown["median"].tolist()
    assert (kept["origin"] < kept["ds"]).all()
