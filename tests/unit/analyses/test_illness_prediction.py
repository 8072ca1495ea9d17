"""Associations on the negative control and on planted data."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from medisync.analyses import illness_prediction as analysis
from medisync.analyses.contract import Finding, Result
from medisync.errors import NoDataError, ParameterError
from tests.support.memory_lake import empty_lake, lake_of, sample_lake
from tests.support.planted import planted_admissions

PARAMS = analysis.Params()


@pytest.fixture(scope="module")
def sample() -> Result:
    return analysis.compute(analysis.load(sample_lake(), PARAMS), PARAMS)


@pytest.fixture(scope="module")
def planted() -> Result:
    return analysis.compute(analysis.load(lake_of(planted_admissions()), PARAMS), PARAMS)


def test_the_sample_has_no_association(sample: Result) -> None:
    assert sample.finding is Finding.NOTHING
    assert sample.metrics["factors_associated_count"] == 0
    assert sample.headline.startswith("None of 7 factors")
    assert "negligible" in sample.headline
    factors = sample.frame("factors").set_index("factor")
    assert factors.loc["gender", "p_value"] == pytest.approx(0.94, abs=0.03)
    assert factors.loc["site", "verdict"] == "not tested: fewer than two groups"
    assert not sample.frame("departures")["beyond_chance"].any()
    assert (sample.data_from, sample.data_until) == (dt.date(2019, 5, 8), dt.date(2024, 5, 7))


def test_the_text_says_that_it_is_no_prediction(sample: Result, planted: Result) -> None:
    assert any("not a prediction" in warning for warning in sample.warnings)
    assert "does not predict" in planted.headline


def test_the_planted_association_is_found_and_the_rest_is_not(planted: Result) -> None:
    assert planted.finding is Finding.SIGNAL
    factors = planted.frame("factors").set_index("factor")
    assert factors.loc["age_band", "verdict"] == "associated"
    assert factors.loc["age_band", "strength"] in ("moderate", "strong")
    assert factors.loc["gender", "verdict"] == "no association found"
    assert factors.loc["admission_type", "verdict"] == "no association found"
    assert factors.loc["blood_type", "method"] == "none"
    assert planted.headline.startswith("Age goes together")
    assert "Arthritis" in planted.headline or "Asthma" in planted.headline


def test_what_is_unknown_is_counted_and_kept_out_of_the_test(planted: Result) -> None:
    factors = planted.frame("factors").set_index("factor")
    unknown = int(factors.loc["admission_type", "cases_unknown"])
    assert 1_700 < unknown < 2_300
    assert int(factors.loc["admission_type", "cases"]) == 20_000 - unknown
    assert any(warning.startswith("Type of admission: unknown") for warning in planted.warnings)


def test_cells_add_up(planted: Result) -> None:
    cells = planted.frame("cells")
    assert cells["observed"].sum() == 20_000
    assert cells["expected"].sum() == pytest.approx(20_000)
    assert cells["group"].unique().tolist() == ["0–17", "18–29", "30–44", "45–59", "60–74", "75+"]


def test_returning_patients_raise_the_design_effect() -> None:
    once = planted_admissions(4_000)
    thrice = pd.concat([once, once, once], ignore_index=True)
    found = [
        analysis.compute(analysis.load(lake_of(frame), PARAMS), PARAMS).frame("factors").set_index("factor")
        for frame in (once, thrice)
    ]
    for factor in ("gender", "age_band", "admission_type"):
        effects = [float(frame.loc[factor, "design_effect"]) for frame in found]
        assert effects[1] == pytest.approx(3 * effects[0], rel=0.05)
        p_values = [float(frame.loc[factor, "p_value"]) for frame in found]
        assert p_values[1] == pytest.approx(p_values[0], abs=0.05)


def test_rare_conditions_and_groups_are_pooled_and_small_tables_simulated() -> None:
    frame = planted_admissions(400)
    frame.loc[0, "condition"] = "Seen once"
    params = analysis.Params(factors=("gender", "age_band", "site"), most_conditions=4, smallest_group=10)
    result = analysis.compute(analysis.load(lake_of(frame.assign(site="A")), params), params)
    factors = result.frame("factors").set_index("factor")
    assert result.metrics["conditions_count"] == 5
    assert factors.loc["site", "method"] == "none"
    params = analysis.Params(factors=("age_band",), most_conditions=20)
    result = analysis.compute(analysis.load(lake_of(frame), params), params)
    assert result.frame("factors")["method"].tolist() == ["monte-carlo"]


def test_several_conditions_or_none() -> None:
    lake = lake_of(planted_admissions(2_000))
    lake.connection.execute("INSERT INTO clinical.conditions SELECT * FROM clinical.conditions")
    lake.connection.execute(
        "DELETE FROM clinical.conditions "
        "WHERE admission_key IN (SELECT admission_key FROM clinical.admissions LIMIT 50)"
    )
    result = analysis.compute(analysis.load(lake, PARAMS), PARAMS)
    factors = result.frame("factors").set_index("factor")
    assert float(factors.loc["gender", "design_effect"]) > 1.9
    assert any("50 admissions without a condition" in warning for warning in result.warnings)


def test_a_period_can_be_chosen() -> None:
    params = analysis.Params(from_day=dt.date(2023, 1, 1), until_day=dt.date(2023, 12, 31))
    inputs = analysis.load(sample_lake(), params)
    assert (inputs.data_from, inputs.data_until) == (dt.date(2023, 1, 1), dt.date(2023, 12, 31))
    assert 9_000 < inputs.admissions < 11_000


def test_no_admission_and_no_condition() -> None:
    with pytest.raises(NoDataError):
        analysis.compute(analysis.load(empty_lake(), PARAMS), PARAMS)
    bare = lake_of(planted_admissions(50).drop(columns="condition"))
    result = analysis.compute(analysis.load(bare, PARAMS), PARAMS)
    assert result.finding is Finding.TOO_LITTLE
    assert analysis.figures(result) == []


@pytest.mark.parametrize(
    "values", [{"factors": ["shoe_size"]}, {"age_band_starts": [5, 10]}, {"alpha": 0}, {"nonsense": 1}]
)
def test_wrong_parameters_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        analysis.Params.checked(values)


def test_few_cases_are_too_few_to_say_that_there_is_nothing() -> None:
    frame = planted_admissions(25).assign(patient=[f"p{place}" for place in range(25)])
    params = analysis.Params(factors=("gender", "admission_type"))
    result = analysis.compute(analysis.load(lake_of(frame), params), params)
    assert result.finding is Finding.TOO_LITTLE
    assert result.headline.startswith("Gender does not go together")
    assert "may go unseen" in result.headline


def test_the_design_effect_is_about_the_same_from_a_sample_of_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lake_of(planted_admissions())
    whole = analysis.compute(analysis.load(lake, PARAMS), PARAMS).frame("factors")
    monkeypatch.setattr(analysis, "PATIENTS_FOR_DESIGN_EFFECT", 3_000)
    sampled = analysis.compute(analysis.load(lake, PARAMS), PARAMS).frame("factors")
    assert (whole["chi_square"].dropna() == sampled["chi_square"].dropna()).all()
    assert sampled["design_effect"].tolist() == pytest.approx(whole["design_effect"].tolist(), rel=0.1)
