"""Silence is a zero for a small ward and a gap for a large hospital."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from medisync.errors import SeriesError
from medisync.stats.reporting import reporting_days

DAYS = pd.date_range("2024-01-01", periods=140)
FIRST, LAST = DAYS[0].date(), DAYS[-1].date()


def frame(counts: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"day": DAYS, "admissions": counts})[counts > 0]


def missing(counts: np.ndarray) -> list[int]:
    reported = reporting_days(frame(counts), FIRST, LAST)
    return np.flatnonzero(~DAYS.isin(reported)).tolist()


def test_a_large_hospital_falls_silent_only_when_its_files_do_not_arrive():
    counts = np.full(140, 30)
    counts[[20, 50, 51]] = 0
    assert missing(counts) == [20, 50, 51]


def test_a_small_ward_has_quiet_days():
    counts = np.random.default_rng(1).poisson(0.5, 140)
    counts[0] = counts[-1] = 1
    assert missing(counts) == []


def test_closed_at_weekends_is_zero_and_a_silent_week_is_a_gap():
    counts = np.where(DAYS.day_of_week < 5, 20, 0)
    counts[70:77] = 0
    assert set(range(70, 75)) <= set(missing(counts)) <= set(range(68, 79))
    assert 5 not in missing(counts)


def test_a_long_gap_does_not_hide_itself_by_lowering_the_rate():
    counts = np.full(140, 2)
    counts[10:120] = 0
    assert missing(counts) == list(range(10, 120))


def test_days_in_the_wrong_order():
    with pytest.raises(SeriesError):
        reporting_days(frame(np.ones(140, dtype=int)), LAST, FIRST - dt.timedelta(days=1))
