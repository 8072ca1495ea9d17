"""Illness surges: silent on the sample, loud on planted outbreaks, honest when there is too little to say."""

from __future__ import annotations

import ast
import datetime as dt
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from medisync.analyses import illness_surge_prediction as analysis
from medisync.analyses.contract import Finding, Result
from medisync.errors import NoDataError, ParameterError
from medisync.runs.publishing import check_lake_rows
from tests.support.memory_lake import empty_lake, lake_of, sample_lake
from tests.support.pace import cpu_seconds

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "analyses" / "illness_surge_prediction.ipynb"
MONDAY = dt.date(2020, 1, 6)


def admissions(weekly: dict[tuple[str | None, str | None], Any], start: dt.date = MONDAY) -> pd.DataFrame:
    """One row per admission: ``weekly`` gives the number of each week by (condition, site), spread over its days."""
    rows = []
    for (condition, site), counts in weekly.items():
        for week, number in enumerate(counts):
            days = [start + dt.timedelta(days=7 * week + place % 7) for place in range(int(number))]
            rows.extend((day, condition, site) for day in days)
    frame = pd.DataFrame(rows, columns=["admitted_at", "condition", "site"])
    return frame.assign(patient=[f"p{place}" for place in range(len(frame))])


def run(frame: pd.DataFrame, **values: Any) -> Result:
    params = analysis.Params(**values)
    return analysis.compute(analysis.load(lake_of(frame), params), params)


def test_the_sample_has_no_surge() -> None:
    params = analysis.Params()
    inputs = analysis.load(sample_lake(), params)
    result = analysis.compute(inputs, params)
    assert result.finding is Finding.NOTHING
    assert result.headline.startswith("No surge in the week of 29 April 2024: all 6 series")
    assert result.metrics["surges_confirmed"] == 0
    assert "surge" not in set(result.frame("weekly")["state"])
    assert result.metrics["false_alarms_a_year_expected"] == pytest.approx(6 * 0.005 * 52.18, rel=0.3)
    assert any("2024-05-06 to 2024-05-12 is incomplete (2 of 7 days)" in one for one in result.warnings)
    assert result.frame("ahead")["any of them"].max() < 0.1
    assert analysis.compute(inputs, params) == result
    assert cpu_seconds(lambda: analysis.compute(inputs, params)) < 0.5


def test_a_planted_outbreak_is_the_headline() -> None:
    rng = np.random.default_rng(1)
    counts = {(f"Condition {one}", "North"): rng.poisson(20, 280) for one in range(6)}
    counts["Condition 3", "North"][-1] = 60
    result = run(admissions(counts))
    assert result.finding is Finding.SIGNAL
    assert "Condition 3 (60 admissions, about 2" in result.headline
    first = result.frame("current").iloc[0]
    assert (first["condition"], first["state"], first["observed"]) == ("Condition 3", "surge", 60)
    assert first["adjusted_p_value"] < 1e-6
    alerts = result.frame("alerts")
    assert "times a year" in alerts["says"].iloc[0]
    ahead = result.frame("ahead").set_index(["condition", "site"])["any of them"]
    assert ahead["Condition 3", "all sites"] == ahead.max()


def test_a_surge_at_one_site_is_told_with_its_site() -> None:
    rng = np.random.default_rng(2)
    counts = {(name, site): rng.poisson(15, 270) for name in ("A", "B") for site in ("North", "South")}
    counts["A", "South"][-1] = 55
    current = run(admissions(counts)).frame("current")
    surges = current[current["state"] == "surge"]
    assert ("A", "South") in set(zip(surges["condition"], surges["site"], strict=True))
    assert ("A", "North") not in set(zip(surges["condition"], surges["site"], strict=True))


def test_when_everything_rises_reporting_is_suspected() -> None:
    rng = np.random.default_rng(3)
    counts = {(name, None): rng.poisson(20, 270) for name in "ABCDE"}
    for one in counts.values():
        one[-1] *= 2
    result = run(admissions(counts))
    assert any("change in reporting" in one for one in result.warnings)
    total = result.frame("current").query("kind == 'total'")
    assert total["state"].tolist() == ["above"]  # a total is no illness, so it is never a surge


def test_incomplete_last_week_is_dropped_and_labelled() -> None:
    counts = {("A", None): np.full(120, 14), ("B", None): np.full(120, 7)}
    frame = admissions(counts)
    cut = frame[frame["admitted_at"] < MONDAY + dt.timedelta(days=7 * 119 + 3)]
    result = run(cut)
    assert result.metrics["week"] == (MONDAY + dt.timedelta(days=7 * 118)).isoformat()
    assert any("incomplete (3 of 7 days)" in one for one in result.warnings)
    assert result.metrics["surges_confirmed"] == 0


def test_short_history_is_compared_with_weeks_and_says_so() -> None:
    result = run(admissions({("A", None): np.r_[np.full(30, 10), 40]}))
    assert result.frame("current")["compared_with"].iloc[0] == "seven weeks"
    assert result.finding is Finding.SIGNAL
    assert any("knows no season" in one for one in result.warnings)
    assert result.frame("ahead")["any of them"].isna().all()
    assert analysis.figures(result)


@pytest.mark.parametrize("weeks", [2, 5])
def test_too_little_history(weeks: int) -> None:
    result = run(admissions({("A", None): np.full(weeks, 10)}))
    assert result.finding is Finding.TOO_LITTLE
    assert "too little" in result.headline.lower()
    assert result.metrics["surges_confirmed"] == 0
    for figure in analysis.figures(result):
        ET.fromstring(figure.svg)


def test_one_day() -> None:
    frame = pd.DataFrame({"patient": ["a", "b"], "admitted_at": [dt.date(2024, 1, 3)] * 2, "condition": ["A", "A"]})
    result = run(frame)
    assert result.finding is Finding.TOO_LITTLE
    assert analysis.figures(result) == []


def test_nothing_at_all() -> None:
    params = analysis.Params()
    with pytest.raises(NoDataError):
        analysis.load(empty_lake(), params)
    frame = pd.DataFrame({"patient": ["a"], "admitted_at": [dt.date(2024, 1, 3)]})
    with pytest.raises(NoDataError):
        run(frame)


def test_unknown_condition_and_site_are_shown_as_unknown() -> None:
    rng = np.random.default_rng(4)
    counts = {("A", "North"): rng.poisson(30, 130), ("", None): rng.poisson(30, 130)}
    current = run(admissions(counts)).frame("current")
    assert set(current["condition"]) == {"A", "Unknown", "All admissions"}
    assert set(current["site"]) == {"all sites", "North"}


def test_only_so_many_conditions_and_sites_are_watched() -> None:
    rng = np.random.default_rng(5)
    counts = {(f"C{one}", f"S{one % 3}"): rng.poisson(20 + one, 30) for one in range(9)}
    result = run(admissions(counts), most_conditions=4, most_sites=1)
    current = result.frame("current")
    assert current.query("kind == 'condition'")["condition"].nunique() == 4
    assert current.query("kind == 'condition at a site'")["site"].nunique() == 1
    assert any("Only the 4 most frequent of 9 conditions" in one for one in result.warnings)


@pytest.mark.parametrize(
    "values", [{"horizon_weeks": 0}, {"horizon_weeks": 5}, {"alpha": 0}, {"weeks_shown": 1000}, {"horizon": 3}]
)
def test_bad_parameters(values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        analysis.Params.checked(values)


@pytest.mark.parametrize("horizon_weeks", [1, 4])
def test_result_travels_and_figures_follow(horizon_weeks: int) -> None:
    rng = np.random.default_rng(6)
    counts = {(name, None): rng.poisson(20, 150) for name in ("Ache & <pain>", "B", "C")}
    result = run(admissions(counts), horizon_weeks=horizon_weeks)
    returned = Result.model_validate_json(result.model_dump_json())
    drawn = analysis.figures(returned)
    assert [one.name for one in drawn] == ["surge-panels", "surge-weeks"]
    for figure in drawn:
        ET.fromstring(figure.svg)
        assert figure.table in result.tables
        assert len(figure.alt) > 40
    assert len(result.frame("ahead").columns) == 2 + horizon_weeks + 1


def test_notebook_asks_for_exactly_the_parameters() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    assert notebook.metadata["medisync"]["analysis"] == analysis.ANALYSIS
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].metadata["tags"] == ["parameters"]
    assert all(not cell.outputs and "def " not in cell.source for cell in code)
    assigned = {
        line.targets[0].id: ast.literal_eval(line.value)  # type: ignore[attr-defined]
        for line in ast.parse(code[0].source).body
    }
    assert assigned.pop("snapshot_id") is None
    assert assigned == analysis.Params().model_dump()


def test_the_state_of_every_series_is_kept_in_typed_rows_that_fit_the_lake() -> None:
    params = analysis.Params()
    result = analysis.compute(analysis.load(sample_lake(), params), params)
    check_lake_rows(result)
    kept, shown = result.lake_rows["surges"].to_frame(), result.frame("current")
    assert kept["unique_id"].is_unique
    assert kept["state"].tolist() == shown["state"].tolist()
    assert kept["threshold"].tolist() == shown["threshold"].tolist()


def test_conditions_and_sites_are_forecast_with_their_accuracy() -> None:
    rng = np.random.default_rng(7)
    season = 1 + 0.7 * np.cos(2 * np.pi * np.arange(270) / 52.18)
    counts = {("Influenza", site): rng.poisson(30 * season) for site in ("North", "South")}
    counts |= {("Fracture", site): rng.poisson(20, 270) for site in ("North", "South")}
    counts["New", "North"] = np.r_[np.zeros(240, dtype=int), rng.poisson(9, 30)]
    result = run(admissions(counts))
    check_lake_rows(result)
    table = result.frame("forecast").set_index(["condition", "site"])
    assert len(table) == result.metrics["series_forecast"] == 9 - 1  # not at the site that never had the new one
    assert table.loc[("Influenza", "all sites"), "verdict"] == "better than the mean"
    assert table.loc[("Influenza", "all sites"), "skill_against_mean_percent"] > 30
    assert set(table.loc["Fracture", "verdict"]) == {"no better than the mean"}
    flu = table.loc[("Influenza", "all sites")]
    expected = 60 * (1 + 0.7 * np.cos(2 * np.pi * np.array([270, 273]) / 52.18))
    assert flu["next_week_lower_80"] < expected[0] < flu["next_week_upper_80"]
    assert flu["week_4_lower_80"] < expected[1] < flu["week_4_upper_80"]
    assert 65 <= result.metrics["forecast_coverage_80_percent"] <= 92
    kept = result.lake_rows["forecasts"].to_frame()
    assert set(kept["unique_id"]) == {f"condition: {name} | all sites" for name in ("Influenza", "Fracture", "New")}
    assert len(kept) == 3 * 4 * 7
    assert result.frame("forecast_weeks").columns.tolist() == ["condition", "week", "median", "lower_80", "upper_80"]


def test_a_short_history_is_not_forecast() -> None:
    result = run(admissions({("A", None): np.full(40, 10)}))
    assert "forecast" not in result.tables
    assert "forecasts" not in result.lake_rows
    assert "series_forecast" not in result.metrics


def test_the_sample_is_forecast_no_better_than_its_mean() -> None:
    params = analysis.Params()
    result = analysis.compute(analysis.load(sample_lake(), params), params)
    assert result.metrics["series_forecast"] == 6
    assert result.metrics["series_forecast_better_than_mean"] == 0
    assert result.metrics["forecast_method"] == "mean"
    assert result.metrics["published_forecasts_scored"] == 0


def test_a_forecast_in_a_surge_says_what_it_does_not_know() -> None:
    rng = np.random.default_rng(8)
    counts = {(name, None): rng.poisson(20, 270) for name in "AB"}
    counts["A", None][-1] = 70
    told = [one for one in run(admissions(counts)).warnings if "present surge" in one]
    assert len(told) == 1
    assert told[0].startswith("Forecasts of A rest on")
