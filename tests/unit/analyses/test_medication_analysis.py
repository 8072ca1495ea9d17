"""Pareto on the negative control and on planted data."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from medisync.analyses import medication_analysis as analysis
from medisync.analyses.contract import Finding, Result
from medisync.errors import NoDataError, ParameterError
from medisync.stats.repeated import RepeatedCounts, one_way_design_effect
from tests.support.memory_lake import empty_lake, lake_of, sample_lake
from tests.support.planted import planted_admissions

PARAMS = analysis.Params()


def _run(frame: pd.DataFrame) -> Result:
    return analysis.compute(analysis.load(lake_of(frame), PARAMS), PARAMS)


@pytest.fixture(scope="module")
def sample() -> Result:
    return analysis.compute(analysis.load(sample_lake(), PARAMS), PARAMS)


@pytest.fixture(scope="module")
def planted() -> Result:
    return _run(planted_admissions())


def test_the_sample_has_no_vital_few(sample: Result) -> None:
    assert sample.finding is Finding.NOTHING
    assert sample.headline.startswith("There is no vital few among the 5 medications")
    assert sample.metrics["class_a_medications_count"] is None
    assert sample.frame("medications")["prescriptions_class"].isna().all()
    assert sample.frame("medications")["prescriptions"].sum() == sample.metrics["prescriptions_count"] == 50_000
    assert sample.metrics["largest_share_percent"] == pytest.approx(20.1, abs=0.1)
    assert (sample.data_from, sample.data_until) == (dt.date(2019, 5, 8), dt.date(2024, 5, 7))


def test_the_planted_vital_few_is_found(planted: Result) -> None:
    assert planted.finding is Finding.SIGNAL
    # Shares are 1/rank²: 0.627, 0.157, 0.070, ...: three make up 80 %.
    assert planted.metrics["class_a_medications_count"] == 3
    assert "Medication 01, Medication 02 and Medication 03" in planted.headline
    ranking = planted.frame("medications")
    assert ranking["prescriptions_class"].iloc[:3].tolist() == ["A", "A", "A"]
    assert ranking["prescriptions_cumulative_share"].iloc[-1] == pytest.approx(1)


def test_patients_count_once_per_medication(planted: Result) -> None:
    frame = planted_admissions()
    expected = frame.groupby("medication")["patient"].nunique()
    ranking = planted.frame("medications").set_index("medication")
    assert ranking["patients"].to_dict() == expected.to_dict()
    assert planted.metrics["patients_count"] == frame["patient"].nunique()


def test_a_patient_who_comes_often_does_not_make_a_medication_frequent() -> None:
    frame = planted_admissions(600).assign(patient=[f"p{place}" for place in range(600)])
    frame["medication"] = [f"M{place % 5}" for place in range(600)]
    regular = frame.head(1).assign(patient="regular", medication="M0")
    result = _run(pd.concat([frame, *[regular] * 80], ignore_index=True))
    summary = result.frame("concentration").set_index("counted_by")
    assert summary.loc["prescriptions", "design_effect"] > 2
    assert result.finding is Finding.NOTHING


def test_the_design_effect_agrees_with_sums_over_patients() -> None:
    frame = pd.concat([planted_admissions(3_000)] * 3)
    counts = pd.crosstab(frame["patient"], frame["medication"]).astype(float)
    total = counts.sum(axis=1)
    sums = RepeatedCounts(
        counts.sum().to_numpy(), (counts**2).sum().to_numpy(), counts.mul(total, axis=0).sum().to_numpy()
    )
    expected = one_way_design_effect(sums, float((total**2).sum()))
    assert expected > 1.5
    found = _run(frame).frame("concentration").set_index("counted_by")["design_effect"]
    assert found["prescriptions"] == pytest.approx(expected)
    assert found["patients"] == 1


def test_large_but_negligible_differences_do_not_matter() -> None:
    frame = pd.DataFrame({"medication": ["a"] * 20_700 + ["b"] * 20_000, "admitted_at": pd.Timestamp("2024-01-01")})
    result = _run(frame.assign(patient=[f"p{place}" for place in range(len(frame))]))
    assert result.metrics["even_use_p_value"] < 0.01  # type: ignore[operator]
    assert result.finding is Finding.NOTHING
    assert "too small to matter" in result.headline


def test_uneven_without_a_vital_few() -> None:
    frame = pd.DataFrame({"medication": list("a" * 60 + "b" * 30 + "c" * 30 + "d" * 30)})
    frame = frame.assign(patient=[f"p{place}" for place in range(150)], admitted_at=pd.Timestamp("2024-01-01"))
    result = _run(frame)
    assert result.finding is Finding.SIGNAL
    assert "no vital few" in result.headline


def test_unknown_medications_are_counted_and_left_out() -> None:
    lake = lake_of(planted_admissions(500))
    lake.connection.execute("UPDATE clinical.prescriptions SET medication = ' ' WHERE medication = 'Medication 01'")
    unknown = int((planted_admissions(500)["medication"] == "Medication 01").sum())
    result = analysis.compute(analysis.load(lake, PARAMS), PARAMS)
    assert f"{unknown} prescriptions without the name" in " ".join(result.warnings)
    assert result.metrics["prescriptions_count"] == 500 - unknown


def test_one_medication_alone() -> None:
    result = _run(planted_admissions(30).assign(medication="Only this"))
    assert result.finding is Finding.DESCRIPTION
    assert "Only this" in result.headline
    assert analysis.figures(result)


def test_no_prescription_is_no_data() -> None:
    with pytest.raises(NoDataError):
        analysis.compute(analysis.load(empty_lake(), PARAMS), PARAMS)


@pytest.mark.parametrize(
    "values", [{"class_a_share": 0.99}, {"class_b_share": 1.5}, {"resamples": 3}, {"from_day": "soon"}]
)
def test_wrong_parameters_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        analysis.Params.checked(values)


def test_a_few_patients_with_many_prescriptions_are_not_a_vital_few() -> None:
    once = pd.DataFrame({"medication": [f"m{place % 20}" for place in range(200)]})
    once["patient"] = [f"p{place}" for place in range(200)]
    often = pd.concat([once.iloc[[place % 60]] for place in range(60) if place % 20 < 2 for _ in range(60)])
    frame = pd.concat([once, often], ignore_index=True).assign(admitted_at=pd.Timestamp("2024-01-01"))
    result = _run(frame)
    assert result.frame("concentration")["verdict"].tolist() == ["uneven", "even within chance"]
    assert result.finding is Finding.DESCRIPTION
    assert "again and again" in result.headline
