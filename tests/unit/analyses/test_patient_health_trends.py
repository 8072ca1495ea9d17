"""Weekly ranks and trends on the negative control and on planted data."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from medisync.analyses import patient_health_trends as analysis
from medisync.analyses.contract import Finding, Result
from medisync.errors import NoDataError, ParameterError
from tests.support.memory_lake import empty_lake, lake_of, sample_lake
from tests.support.planted import planted_admissions

PARAMS = analysis.Params()


def _run(frame: pd.DataFrame, params: analysis.Params = PARAMS) -> Result:
    return analysis.compute(analysis.load(lake_of(frame), params), params)


def _admissions(weeks: dict[str, dict[str, int]], day: int = 0) -> pd.DataFrame:
    """One row per case of ``{iso week: {condition: cases}}``, on one day of the week, and one on every Sunday."""
    rows = []
    for week, conditions in weeks.items():
        year, number = week.split("-W")
        monday = dt.date.fromisocalendar(int(year), int(number), 1)
        rows += [
            {"admitted_at": pd.Timestamp(monday) + pd.Timedelta(days=day), "condition": condition}
            for condition, cases in conditions.items()
            for _ in range(cases)
        ]
    frame = pd.DataFrame(rows)
    return frame.assign(patient=[f"p{place}" for place in range(len(frame))])


@pytest.fixture(scope="module")
def sample() -> Result:
    return analysis.compute(analysis.load(sample_lake(), PARAMS), PARAMS)


def test_the_sample_has_no_trend(sample: Result) -> None:
    assert sample.finding is Finding.NOTHING
    assert "none of 6 conditions is rising or falling" in sample.headline
    assert (sample.metrics["conditions_rising_count"], sample.metrics["conditions_falling_count"]) == (0, 0)
    assert sample.metrics["complete_weeks_count"] == 260
    assert sample.metrics["last_complete_week"] == "2024-W18"


def test_incomplete_weeks_are_marked_and_not_compared(sample: Result) -> None:
    ranks = sample.frame("ranks")
    assert set(ranks.loc[~ranks["complete"], "week"]) == {"2024-W19"}
    assert ranks["week"].nunique() == PARAMS.weeks_shown + 1
    assert any("2019-W19 and 2024-W19 are incomplete" in warning for warning in sample.warnings)


def test_weekly_counts_agree_with_the_file(sample: Result) -> None:
    count = sample_lake().query(
        "SELECT count(*) AS n FROM clinical.admissions a JOIN clinical.conditions USING (admission_key) "
        "WHERE condition = 'Diabetes' AND a.admitted_at >= '2024-04-29' AND a.admitted_at < '2024-05-06'"
    )["n"][0]
    changes = sample.frame("changes").set_index("condition")
    assert changes.loc["Diabetes", "cases_last_week"] == count == 39


def test_the_planted_trend_is_found() -> None:
    result = _run(planted_admissions())
    assert result.finding is Finding.SIGNAL
    changes = result.frame("changes").set_index("condition")
    assert changes.loc["Influenza", "verdict"] == "rising"
    assert "Influenza is rising" in result.headline


def test_ties_share_a_rank() -> None:
    result = _run(_admissions({f"2024-W{n:02d}": {"a": 7, "b": 5, "c": 5, "d": 5, "e": 1} for n in (1, 2, 3)}, day=6))
    newest = result.frame("ranks").query("week == '2024-W03'")
    assert newest[["rank", "condition", "tied"]].values.tolist() == [
        [1, "a", False], [2, "b", True], [2, "c", True], [2, "d", True], [5, "e", False],
    ]  # fmt: skip


def test_top_keeps_all_that_tie_for_the_last_rank() -> None:
    params = analysis.Params(top=2)
    frame = _admissions({f"2024-W{n:02d}": {"a": 7, "b": 5, "c": 5, "d": 1} for n in (1, 2, 3)}, day=6)
    newest = _run(frame, params).frame("ranks").query("week == '2024-W03'")
    assert newest["condition"].tolist() == ["a", "b", "c"]


def test_week_53_is_compared_with_the_week_52_weeks_before() -> None:
    weeks = [dt.date(2019, 12, 2) + dt.timedelta(weeks=n) for n in range(57)]
    names = [f"{d.isocalendar().year}-W{d.isocalendar().week:02d}" for d in weeks]
    assert names[-1] == "2020-W53"
    cases = {name: {"a": 20 + place} for place, name in enumerate(names)}
    changes = _run(_admissions(cases, day=6)).frame("changes")
    assert changes["cases_last_week"].tolist() == [76]
    assert changes["cases_same_week_last_year"].tolist() == [76 - 52]


def test_an_outbreak_in_the_last_week_is_found_with_an_interval_around_the_truth() -> None:
    rng = np.random.default_rng(2)
    cases = {
        f"{d.isocalendar().year}-W{d.isocalendar().week:02d}": {"a": int(rng.poisson(30)), "b": int(rng.poisson(30))}
        for d in (dt.date(2022, 1, 3) + dt.timedelta(weeks=n) for n in range(110))
    }
    cases[list(cases)[-1]]["a"] = 90
    result = _run(_admissions(cases, day=6))
    changes = result.frame("changes").set_index("condition")
    assert changes.loc["a", "p_adjusted_to_mean"] < 0.05 < changes.loc["b", "p_adjusted_to_mean"]
    assert changes.loc["a", "change_to_mean_percent_low"] < 200 < changes.loc["a", "change_to_mean_percent_high"]
    assert "a lies above the mean of the 8 weeks before" in result.headline


def test_weeks_without_any_admission_are_gaps_where_there_are_always_many() -> None:
    cases = {f"2023-W{n:02d}": {"a": 30} for n in range(1, 53) if n not in (20, 21, 22)}
    result = _run(_admissions(cases, day=6))
    assert result.metrics["weeks_without_reports_count"] == 3
    assert result.metrics["conditions_falling_count"] == 0
    recent_gaps = {f"2023-W{n:02d}": {"a": 30} for n in range(1, 53) if n not in (46, 47, 48, 50)}
    changes = _run(_admissions(recent_gaps, day=6)).frame("changes")
    assert changes["mean_of_weeks_before"].tolist() == [30]
    assert changes["change_to_mean_percent"].tolist() == [0]
    few = {f"2023-W{n:02d}": {"a": 1} for n in range(1, 53, 3)}
    assert _run(_admissions(few, day=6)).metrics["weeks_without_reports_count"] == 0


def test_the_whole_analysis_raises_few_false_alarms() -> None:
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        day = rng.integers(0, 7 * 80, 6_000)
        frame = pd.DataFrame(
            {
                "patient": [f"p{place}" for place in range(6_000)],
                "admitted_at": pd.Timestamp("2022-01-03") + pd.to_timedelta(day, unit="D"),
                "condition": rng.choice(list("abcdef"), 6_000),
            }
        )
        alarms += _run(frame).finding is Finding.SIGNAL
    assert alarms <= 7  # binomial, 40 at 5 %: 7 or more has a probability below 0.5 %


def test_one_day_and_two_weeks_are_too_little() -> None:
    one_day = pd.DataFrame({"patient": ["p"], "admitted_at": [pd.Timestamp("2024-03-06")], "condition": ["a"]})
    result = _run(one_day)
    assert result.finding is Finding.TOO_LITTLE
    assert analysis.figures(result) == []
    two_weeks = _run(_admissions({f"2024-W{n:02d}": {"a": 3} for n in (1, 2, 3)}, day=6))
    assert two_weeks.frame("changes")["verdict"].tolist() == ["not testable"]
    assert analysis.figures(two_weeks)


def test_no_admission_is_no_data() -> None:
    with pytest.raises(NoDataError):
        analysis.compute(analysis.load(empty_lake(), PARAMS), PARAMS)


@pytest.mark.parametrize("values", [{"top": 0}, {"baseline_weeks": 1}, {"trend_weeks": 5}, {"alpha": "high"}])
def test_wrong_parameters_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        analysis.Params.checked(values)


@pytest.mark.parametrize(
    ("last_week", "text"),
    [
        ({"a": 39, "b": 36}, "a (39 admissions, its lead over b is within chance)"),
        ({"a": 90, "b": 36}, "a (90 admissions, clearly ahead of b)"),
        ({"a": 36, "b": 36}, "a and b (36 admissions each)"),
        ({"a": 36}, "a (36 admissions)"),
    ],
)
def test_the_lead_of_the_first_is_judged(last_week: dict[str, int], text: str) -> None:
    frame = _admissions({"2024-W01": {"a": 9}, "2024-W02": {"a": 9}, "2024-W03": last_week}, day=6)
    assert text in _run(frame).headline


def test_a_condition_never_seen_before_is_reported() -> None:
    cases = {f"2023-W{n:02d}": {"a": 30} for n in range(1, 40)}
    headline = _run(_admissions(cases | {"2023-W40": {"a": 30, "new": 25}}, day=6)).headline
    assert "new lies above the mean of the 8 weeks before (from none)" in headline
