"""Demo data contain what their truth says."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medisync.demo import DemoTruth, write_demo_data
from medisync.demo.people import NAMES, SCRAMBLE
from medisync.demo.plan import make_plan
from medisync.errors import ParameterError
from medisync.stats.surveillance import WeekState, judge_surges

SAMPLE = Path(__file__).parents[3] / "data" / "sample" / "healthcare_dataset.csv.gz"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, DemoTruth]:
    path = tmp_path_factory.mktemp("demo") / "demo.csv"
    truth = write_demo_data(path, rows=40_000, years=6, sites=3, seed=11)
    assert DemoTruth.read(path.with_suffix(".truth.json")) == truth
    frame = pd.read_csv(path, parse_dates=["Date of Admission", "Discharge Date"])
    return frame, truth


def test_layout_is_the_samples(written: tuple[pd.DataFrame, DemoTruth]) -> None:
    with gzip.open(SAMPLE, "rt") as sample:
        assert list(written[0].columns) == sample.readline().strip().split(",")
    assert not written[0].isna().any(axis=None)


def test_as_many_rows_and_days_as_asked(written: tuple[pd.DataFrame, DemoTruth]) -> None:
    frame, truth = written
    assert len(frame) == truth.rows == 40_000
    assert frame["Date of Admission"].min().date() == truth.first_day
    assert frame["Date of Admission"].max().date() == truth.last_day
    assert (truth.last_day - truth.first_day).days + 1 == pytest.approx(6 * 365.25, abs=7)
    assert truth.first_day.weekday() == 0
    assert (frame["Discharge Date"] > frame["Date of Admission"]).all()


def test_nobody_is_admitted_twice_on_a_day_and_people_stay_themselves(
    written: tuple[pd.DataFrame, DemoTruth],
) -> None:
    frame, truth = written
    assert not frame.duplicated(["Name", "Date of Admission"]).any()
    people = frame.groupby("Name")
    assert (people[["Gender", "Blood Type"]].nunique() == 1).all(axis=None)
    returned = 1 - len(people) / len(frame)
    assert returned == pytest.approx(truth.readmission_share, abs=0.02)
    born = frame["Date of Admission"].dt.year + frame["Date of Admission"].dt.day_of_year / 366 - frame["Age"]
    by_name = born.groupby(frame["Name"])
    assert (by_name.max() - by_name.min() < 1.1).all()


def test_names_are_unique_per_patient() -> None:
    assert np.gcd(SCRAMBLE, NAMES) == 1
    who = np.arange(200_000, dtype=np.int64)
    assert np.unique(who * SCRAMBLE % NAMES).size == who.size
    assert NAMES * SCRAMBLE < 2**63


def test_conditions_depend_on_age_and_gender_as_planted(written: tuple[pd.DataFrame, DemoTruth]) -> None:
    frame, truth = written
    for one in truth.conditions:
        part = frame[frame["Medical Condition"] == one.name]
        female = (part["Gender"] == "Female").mean()
        assert abs(female - one.female_share) < 5 * np.sqrt(0.25 / len(part)) * (1 + truth.readmission_share) + 1e-9
    ages = frame.groupby("Medical Condition")["Age"].mean()
    assert ages["Hip fracture"] > 70 > ages["Hypertension"] > 50 > ages["Asthma"] > 25


def test_medications_have_the_pareto_shape(written: tuple[pd.DataFrame, DemoTruth]) -> None:
    frame, truth = written
    assert sum(one.share for one in truth.medications) == pytest.approx(1.0, abs=1e-4)
    fifth = sum(one.share for one in truth.medications[: len(truth.medications) // 5])
    assert fifth == pytest.approx(0.2 ** (1 - 1 / truth.pareto_shape), abs=1e-3)
    seen = frame["Medication"].value_counts(normalize=True)
    for one in truth.medications:
        assert abs(seen.get(one.name, 0.0) - one.share) < 5 * np.sqrt(one.share / len(frame))


def test_nothing_is_reported_in_the_gaps(written: tuple[pd.DataFrame, DemoTruth]) -> None:
    frame, truth = written
    assert len(truth.gaps) == 2
    for gap in truth.gaps:
        inside = frame["Date of Admission"].between(pd.Timestamp(gap.first_day), pd.Timestamp(gap.last_day))
        here = inside if gap.site is None else inside & (frame["Hospital"] == gap.site)
        assert not here.any()


def test_week_and_year_have_their_seasons(written: tuple[pd.DataFrame, DemoTruth]) -> None:
    frame, truth = written
    by_weekday = frame["Date of Admission"].dt.day_of_week.value_counts(normalize=True).sort_index() * 7
    np.testing.assert_allclose(by_weekday, truth.weekday_factors, atol=0.04)
    influenza = frame[frame["Medical Condition"] == "Influenza"]["Date of Admission"].dt.month.value_counts()
    assert influenza[[1, 2, 3]].sum() > 3 * influenza[[7, 8, 9]].sum()
    growing = frame[frame["Medical Condition"] == "Type 2 diabetes"]["Date of Admission"].dt.year.value_counts()
    assert growing[2024] / growing[2019] == pytest.approx(1.08**5, rel=0.15)


def test_planted_outbreaks_are_found_and_the_rest_stays_quiet() -> None:
    """Every planted outbreak is a confirmed surge in one of its weeks; far fewer other weeks are."""
    plan = make_plan(rows=60_000, years=6, sites=3, seed=5, outbreaks=True, gaps=False, last_day=dt.date(2024, 12, 29))
    truth = plan.truth
    weekly = plan.counts.reshape(-1, 7, *plan.counts.shape[1:]).sum(axis=1)  # weeks, sites, conditions
    names = [one.name for one in truth.conditions]
    series = np.concatenate([weekly.sum(axis=1).T, weekly[:, 0].T])  # everywhere, then the largest site
    judgement = judge_surges(series, last_weeks=130)
    surge = judgement.state == WeekState.SURGE
    planted = np.zeros_like(surge)
    for one in truth.outbreaks:
        first = (one.first_week - truth.first_day).days // 7
        row = names.index(one.condition) + (0 if one.site is None else len(names))
        weeks = np.flatnonzero(np.isin(judgement.weeks, np.arange(first, first + len(one.cases_by_week))))
        assert surge[row, weeks].any(), one
        for other in (names.index(one.condition), names.index(one.condition) + len(names)):
            planted[other, weeks] = True
    # Confirmed at 1 % over all series of a week: about 130 * 0.01 under independence, some more for the noise planted
    # on top of Poisson, which is common to all sites.
    assert (surge & ~planted).sum() <= 6


def test_same_seed_same_bytes_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_demo_data(tmp_path / f"{name}.csv", rows=2_000, years=2, seed=seed)
    first, again, other = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_several_deliveries_are_the_one_cut_in_time(tmp_path: Path) -> None:
    truth = write_demo_data(
        tmp_path / "in" / "demo.csv", rows=3_000, years=2, deliveries=3, truth_path=tmp_path / "truth.json"
    )
    files = sorted((tmp_path / "in").iterdir())
    assert [one.name for one in files] == ["demo-1.csv", "demo-2.csv", "demo-3.csv"]
    parts = [pd.read_csv(one) for one in files]
    assert sum(len(one) for one in parts) == truth.rows
    assert parts[0]["Date of Admission"].max() < parts[1]["Date of Admission"].min()
    assert DemoTruth.read(tmp_path / "truth.json") == truth


@pytest.mark.parametrize(
    "bad", [{"rows": 10}, {"years": 0}, {"years": 500}, {"sites": 0}, {"seed": -1}, {"deliveries": 0}]
)
def test_bad_options(bad: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ParameterError):
        write_demo_data(tmp_path / "demo.csv", **bad)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
