"""The contract of series: calendar, zeros and gaps, incomplete edges, flags, and what is refused."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from medisync.errors import ParameterError, SeriesError
from medisync.stats.series import SeriesFlag, panel_of, period_end, regular_panel, series_flags


def long_frame(**series: dict[str, float]) -> pd.DataFrame:
    rows = [(name, day, value) for name, values in series.items() for day, value in values.items()]
    return pd.DataFrame(rows, columns=["unique_id", "ds", "y"])


def test_weeks_start_on_monday_and_any_day_of_the_week_may_stand_for_it():
    panel = regular_panel(long_frame(a={"2024-01-03": 5, "2024-01-14": 7}), "weekly")
    assert panel.periods.strftime("%Y-%m-%d").tolist() == ["2024-01-01", "2024-01-08"]
    assert panel.values.tolist() == [[5, 7]]


def test_the_iso_year_boundary_is_one_week():
    panel = regular_panel(long_frame(a={"2020-12-31": 1, "2021-01-04": 2}), "weekly")
    assert panel.periods.strftime("%G-W%V").tolist() == ["2020-W53", "2021-W01"]


@pytest.mark.parametrize(
    ("frequency", "start", "end"),
    [
        ("daily", "2024-02-05", "2024-02-05"),
        ("weekly", "2024-02-05", "2024-02-11"),
        ("monthly", "2024-02-01", "2024-02-29"),
    ],
)
def test_last_day_of_a_period(frequency, start, end):
    assert period_end(pd.Timestamp(start), frequency) == pd.Timestamp(end)


def test_a_period_without_a_row_is_missing_unless_the_source_was_reporting():
    frame = long_frame(a={"2024-01-01": 5, "2024-01-22": 7}, b={"2024-01-08": 1})
    assert np.isnan(regular_panel(frame, "weekly").values[0, 1:3]).all()
    panel = regular_panel(frame, "weekly", reporting={"a": ["2024-01-10"]})
    assert panel.values[0, 1] == 0
    assert np.isnan(panel.values[0, 2])
    assert np.isnan(panel.values[1, 0])
    everyone = regular_panel(frame, "weekly", reporting=pd.to_datetime(["2024-01-01", "2024-01-08", "2024-01-15"]))
    assert everyone.values[1, :3].tolist() == [0, 1, 0]
    assert np.isnan(everyone.values[1, 3])


def test_incomplete_edges_are_dropped_and_say_so():
    frame = long_frame(a={"2024-01-03": 1, "2024-01-08": 7, "2024-01-15": 3})
    panel = regular_panel(frame, "weekly", covered_from=dt.date(2024, 1, 3), covered_until=dt.date(2024, 1, 16))
    assert panel.values.tolist() == [[7]]
    assert [str(one) for one in panel.dropped] == [
        "The first period 2024-01-01 to 2024-01-07 is incomplete (5 of 7 days) and was left out.",
        "The last period 2024-01-15 to 2024-01-21 is incomplete (2 of 7 days) and was left out.",
    ]


def test_complete_edges_stay():
    frame = long_frame(a={"2024-01-01": 1, "2024-01-08": 7})
    panel = regular_panel(frame, "weekly", covered_from=dt.date(2024, 1, 1), covered_until=dt.date(2024, 1, 14))
    assert panel.dropped == ()
    assert panel.values.tolist() == [[1, 7]]


def test_nothing_complete_is_an_error_and_not_an_empty_answer():
    frame = long_frame(a={"2024-01-03": 1})
    with pytest.raises(SeriesError, match="No complete period"):
        regular_panel(frame, "monthly", covered_from=dt.date(2024, 1, 3), covered_until=dt.date(2024, 1, 5))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"unique_id": ["a"], "y": [1]}), "ds"),
        (long_frame(), "no rows"),
        (long_frame(a={"never": 1}), "not a date"),
        (long_frame(a={"2024-01-01": -1}), "negative"),
        (long_frame(a={"2024-01-01": np.inf}), "infinite"),
        (long_frame(a={"2024-01-01": 1, "2024-01-07": 2}), "1 rows repeat"),
        (long_frame(a={"1700-01-01": 1, "2024-01-07": 2}), "200 years"),
        (pd.DataFrame({"unique_id": ["a"], "ds": ["2024-01-01"], "y": ["many"]}), "not a number"),
        (pd.DataFrame({"unique_id": [None], "ds": ["2024-01-01"], "y": [1]}), "unique_id has missing"),
    ],
)
def test_bad_frames_are_refused_with_a_reason(frame, message):
    with pytest.raises(SeriesError, match=message):
        regular_panel(frame, "weekly")


def test_unknown_frequency_names_the_known_ones():
    with pytest.raises(ParameterError, match="daily, weekly, monthly"):
        regular_panel(long_frame(a={"2024-01-01": 1}), "hourly")


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ([np.nan] * 4, {SeriesFlag.EMPTY}),
        ([3.0], {SeriesFlag.TOO_SHORT}),
        ([3.0] * 20, {SeriesFlag.CONSTANT}),
        ([0.0] * 20, {SeriesFlag.ALL_ZERO, SeriesFlag.LOW_COUNT}),
        ([1.0, 2.0] * 10 + [np.nan] * 10, {SeriesFlag.GAPPY, SeriesFlag.STALE}),
        ([0.0, 1.0] * 10, {SeriesFlag.LOW_COUNT}),
        ([np.nan] * 30 + [1.0, 2.0] * 10, set()),
    ],
)
def test_flags(values, flags):
    assert set(series_flags(np.array(values))) == flags


def test_future_periods_follow_the_calendar():
    assert panel_of(np.ones((1, 2)), "monthly", first_day="2023-11-01").future(2).strftime("%Y-%m-%d").tolist() == [
        "2024-01-01",
        "2024-02-01",
    ]


def test_until_is_the_panel_as_it_was():
    panel = panel_of(np.arange(24.0).reshape(2, 12), "monthly").until(5)
    assert panel.values.shape == (2, 5)
    assert len(panel.periods) == 5
    assert SeriesFlag.TOO_SHORT in panel.flags[0]


def test_the_long_frame_comes_back():
    frame = long_frame(a={"2024-01-01": 5, "2024-01-15": 7})
    back = regular_panel(frame, "weekly").frame()
    assert back.columns.tolist() == ["unique_id", "ds", "y"]
    assert back["y"].isna().tolist() == [False, True, False]
