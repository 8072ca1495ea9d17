"""The pieces of SQL mean what their Python counterparts mean."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from medisync.analyses.clinical_sql import age_band, day_of, known, within
from medisync.stats.age_bands import AgeBands
from tests.support.memory_lake import empty_lake


@pytest.mark.parametrize("starts", [(0,), (0, 18), (0, 1, 2, 65), (0, 10, 20, 130)])
def test_age_bands_in_sql_are_those_of_python(starts: tuple[int, ...]) -> None:
    bands = AgeBands(starts)
    every = "(SELECT unnest(range(-3, 140)) AS age UNION ALL SELECT NULL)"
    frame = empty_lake().query(f"SELECT age, {age_band('age', bands)} AS label FROM {every}")
    ages = [None if age != age else age for age in frame["age"].astype(float)]
    assert frame["label"].tolist() == bands.label(ages).tolist()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("NULL", "Unknown"), ("''", "Unknown"), ("'  '", "Unknown"), ("'unknown'", "Unknown"), ("' Asthma '", "Asthma")],
)
def test_unknown_has_many_spellings(value: str, expected: str) -> None:
    assert empty_lake().query(f"SELECT {known(value)} AS name")["name"].tolist() == [expected]


def test_both_days_of_a_period_are_included() -> None:
    days = "(SELECT unnest(['2024-01-01 00:00', '2024-01-02 23:59', '2024-01-03 00:00']::TIMESTAMP[]) AS day)"
    count = empty_lake().query(
        f"SELECT count(*) AS n FROM {days} WHERE {within('day', dt.date(2024, 1, 1), dt.date(2024, 1, 2))}"
    )
    assert count["n"].tolist() == [2]
    assert within("day", None, None) == "TRUE"


def test_the_day_of_a_moment_and_of_none() -> None:
    assert day_of(pd.Timestamp("2024-05-07 13:00")) == dt.date(2024, 5, 7)
    assert day_of(pd.NaT) is None
    assert day_of(None) is None
