"""Demographics on the negative control and on planted data."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from medisync.analyses import patient_demographics as analysis
from medisync.analyses.contract import Finding, Result
from medisync.errors import NoDataError, ParameterError
from tests.support.memory_lake import empty_lake, lake_of, sample_lake
from tests.support.planted import planted_admissions

PARAMS = analysis.Params()


def _run(frame: pd.DataFrame, params: analysis.Params = PARAMS) -> Result:
    return analysis.compute(analysis.load(lake_of(frame), params), params)


@pytest.fixture(scope="module")
def sample() -> Result:
    return analysis.compute(analysis.load(sample_lake(), PARAMS), PARAMS)


def test_nothing_changed_in_the_sample(sample: Result) -> None:
    assert sample.finding is Finding.NOTHING
    assert "nothing changed beyond chance, and any difference is negligible" in sample.headline
    assert sample.metrics["period_from"] == "2023-05-08"
    assert sample.metrics["age_unknown_count"] == 0
    assert set(sample.frame("comparison")["verdict"]) == {"no change beyond chance"}


def test_nobody_falls_between_two_bands(sample: Result) -> None:
    assert sample.frame("pyramid")["patients"].sum() == sample.metrics["patients_count"]
    params = analysis.Params(age_band_starts=(0, 13, 14, 89), period_months=60)
    every = analysis.compute(analysis.load(sample_lake(), params), params)
    by_band = every.frame("pyramid").groupby("age_band")["patients"].sum()
    assert by_band["0–12"] == 0
    assert by_band["13"] > 0
    assert by_band.sum() == every.metrics["patients_count"] == every.metrics["patients_all_time_count"]
    assert (every.metrics["youngest_age_years"], every.metrics["oldest_age_years"]) == (13, 89)


def test_the_planted_change_of_age_is_found_and_gender_is_not() -> None:
    result = _run(planted_admissions())
    assert result.finding is Finding.SIGNAL
    comparison = result.frame("comparison").set_index("characteristic")
    assert comparison.loc["mean age", "verdict"] == comparison.loc["age bands", "verdict"] == "changed"
    assert comparison.loc["gender", "verdict"] == "no change beyond chance"
    assert comparison.loc["blood type", "verdict"] == "not comparable"
    # Ages are 1 to 79, ten years more in the last period: 10 / 22.8 standard deviations.
    assert comparison.loc["mean age", "standardised_difference"] == pytest.approx(10 / np.sqrt(79**2 / 12), abs=0.08)
    assert "mean age and age bands changed" in result.headline


def test_patients_count_once_at_their_latest_admission() -> None:
    frame = pd.DataFrame(
        {
            "patient": ["a", "a", "b"],
            "gender": ["female", "female", None],
            "age_years": [39, 40, None],
            "admitted_at": pd.to_datetime(["2024-01-01", "2024-06-01", "2024-06-02"]),
        }
    )
    result = _run(frame)
    rows = result.frame("pyramid").set_index(["age_band", "gender"])["patients"]
    assert rows["40–49", "female"] == 1
    assert rows["30–39", "female"] == 0
    assert rows["Unknown", "unknown"] == 1
    assert result.metrics["patients_count"] == 2
    assert result.metrics["admissions_count"] == 3
    assert result.finding is Finding.DESCRIPTION
    assert "no earlier period" in result.headline
    assert any("age is unknown for 1 patient (50.0 %)" in warning for warning in result.warnings)


def test_a_short_period_before_is_said(sample: Result) -> None:
    assert not sample.warnings
    params = analysis.Params(period_months=40)
    result = analysis.compute(analysis.load(sample_lake(), params), params)
    assert any("shorter than 40 months" in warning for warning in result.warnings)


def test_impossible_ages_are_unknown() -> None:
    frame = planted_admissions(300).assign(patient=[f"p{place}" for place in range(300)])
    frame.loc[:9, "age_years"] = 400
    result = _run(frame, analysis.Params(period_months=120))
    assert result.metrics["age_unknown_count"] == 10
    assert result.metrics["oldest_age_years"] <= 90  # type: ignore[operator]


def test_false_alarms_stay_rare() -> None:
    """Two alike periods, many times: the whole analysis reports a change in at most alpha of them."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {
                "patient": [f"p{place}" for place in range(600)],
                "gender": rng.choice(["female", "male"], 600),
                "age_years": rng.integers(0, 90, 600),
                "insurer": rng.choice(list("abcd"), 600),
                "admitted_at": pd.Timestamp("2022-01-01") + pd.to_timedelta(rng.integers(0, 730, 600), unit="D"),
            }
        )
        alarms += _run(frame).finding is Finding.SIGNAL
    assert alarms <= 7  # binomial, 40 at 5 %: 7 or more has a probability below 0.5 %


def test_no_admission_is_no_data() -> None:
    with pytest.raises(NoDataError):
        analysis.compute(analysis.load(empty_lake(), PARAMS), PARAMS)


@pytest.mark.parametrize(
    "values", [{"age_band_starts": []}, {"age_band_starts": [0, 50, 20]}, {"period_months": 0}, {"alpha": 0.9}]
)
def test_wrong_parameters_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        analysis.Params.checked(values)


def test_days_are_days(sample: Result) -> None:
    assert (sample.data_from, sample.data_until) == (dt.date(2019, 5, 8), dt.date(2024, 5, 7))


def test_few_patients_are_too_few_to_say_that_nothing_changed() -> None:
    frame = planted_admissions(60).assign(patient=[f"p{place}" for place in range(60)], age_years=40)
    result = _run(frame)
    assert result.finding is Finding.TOO_LITTLE
    assert "may go unseen" in result.headline
