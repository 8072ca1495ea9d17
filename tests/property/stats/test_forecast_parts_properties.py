"""The parts of a forecast driven on their own: each answers soundly, or refuses in the package's own words."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medisync.errors import MediSyncError, ParameterError, SeriesError
from medisync.stats.autoregression import autoregression_forecast, autoregression_forecasts
from medisync.stats.backtest import past_origins, spread_step
from medisync.stats.baselines import last_known, last_value_forecast, mean_forecast, seasonal_naive_forecast
from medisync.stats.census import daily_admission_paths
from medisync.stats.counts import count_regression_forecast
from medisync.stats.daily import daily_regression_forecasts, easter_sunday, public_holidays
from medisync.stats.forecasting import forecast_panel, quantile_names
from medisync.stats.reporting import Silence, complete_until, reporting_days, silences
from medisync.stats.sarima import SarimaOrder, restored_order, sarima_forecasts, search_order, search_orders
from medisync.stats.scoreboard import score_forecasts, scoreboard
from medisync.stats.scores import LEVELS, checked_levels, known_mean
from medisync.stats.series import SeriesFlag, panel_of, period_end, period_start, periods_between, series_flags
from medisync.stats.smoothing import smoothing_forecast
from medisync.stats.theta import linear_slope, simple_smoothing, theta_forecast

Floats = NDArray[np.float64]
FEW = settings(max_examples=20, deadline=None)
SMALL = settings(max_examples=40, deadline=None)

observations = st.one_of(st.just(np.nan), st.just(0.0), st.integers(0, 300).map(float))
lengths = st.sampled_from([1, 2, 3, 13, 30, 110])
histories = lengths.flatmap(lambda length: arrays(float, (2, length), elements=observations))
seasons = st.sampled_from([1, 7, 12, 52])
BY_HISTORY = (
    mean_forecast,
    last_value_forecast,
    seasonal_naive_forecast,
    theta_forecast,
    smoothing_forecast,
    count_regression_forecast,
    autoregression_forecast,
)


@FEW
@given(histories, seasons, st.integers(1, 30))
def test_each_method_on_its_own_is_finite_where_something_was_seen(values: Floats, season: int, horizon: int) -> None:
    seen = np.isfinite(values).any(axis=1)
    for method in BY_HISTORY:
        forecast = method(values, season, horizon)
        assert forecast.shape == (2, horizon)
        assert np.isfinite(forecast[seen]).all(), method.__name__
    days = pd.date_range("2023-12-20", periods=values.shape[1])
    regression = daily_regression_forecasts(values, days, horizon, np.array([values.shape[1]]))
    assert np.isfinite(regression[seen]).all()
    np.testing.assert_array_equal(np.isfinite(last_known(values)), seen)
    assert np.isfinite(linear_slope(values)).all()
    alpha, _ = simple_smoothing(values)
    assert ((alpha > 0) & (alpha <= 1)).all()


@pytest.mark.parametrize("horizon", [0, -1, 500, 2.5])
def test_each_method_refuses_an_impossible_horizon(horizon: int) -> None:
    values, end = np.arange(60.0)[None, :], np.array([60])
    days = pd.date_range("2024-01-01", periods=60)
    calls = [lambda method=method: method(values, 7, horizon) for method in BY_HISTORY]
    calls.append(lambda: autoregression_forecasts(values, 7, horizon, end))
    calls.append(lambda: daily_regression_forecasts(values, days, horizon, end))
    order = SarimaOrder((0, 0, 0), (0, 0, 0), 0, 1, 0, True)
    calls.append(lambda: sarima_forecasts(values[0], order, horizon, end))
    for call in calls:
        with pytest.raises(ParameterError, match="horizon"):
            call()


@settings(max_examples=6, deadline=None)
@given(
    arrays(float, st.sampled_from([1, 2, 23, 24, 40]), elements=st.one_of(observations, st.just(-1.0))),
    st.sampled_from([1, 12]),
)
def test_the_order_search_finds_an_order_or_says_why_not(values: Floats, season: int) -> None:
    if (values < 0).any() or np.isfinite(values).sum() < 24:
        with pytest.raises(SeriesError):
            search_order(values, season, most_models=2)
        return
    found = search_order(values, season, most_models=2)
    assert found.models <= 2
    assert restored_order({**found.__dict__, "order": list(found.order)}) == found
    made = sarima_forecasts(values, found, 3, np.array([len(values) - 1, len(values)]))
    assert not (made < 0).any()
    panel = panel_of(values, "monthly", ids=["a"])
    assert set(search_orders(panel, most_models=2)) <= {"a"}
    forecast = forecast_panel(panel, 3, orders={"a": found}, origins=4)
    assert np.isfinite(forecast.quantiles).all()


def test_an_order_that_fits_nothing_falls_back() -> None:
    values = np.r_[np.full(30, np.nan), 1.0, 2.0]
    order = SarimaOrder((3, 1, 3), (1, 1, 1), 12, 12, 0, False, parameters=(9.0,))
    assert np.isnan(sarima_forecasts(values, order, 2, np.array([32]))).all()
    made = forecast_panel(panel_of(values, "monthly", ids=["a"]), 2, orders={"a": replace(order, parameters=())})
    assert np.isfinite(made.median).all()


stored = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.one_of(st.dates(dt.date(2024, 1, 1), dt.date(2024, 2, 1)), st.sampled_from(["soon", None])),
        st.lists(st.one_of(st.integers(-5, 40).map(float), st.just(np.nan)), min_size=7, max_size=7),
    ),
    max_size=6,
)


@SMALL
@given(stored, stored, st.booleans())
def test_stored_forecasts_of_any_kind_are_scored_or_refused(
    forecasts: list[tuple[str, object, list[float]]], truths: list[tuple[str, object, list[float]]], ordered: bool
) -> None:
    names = list(quantile_names(LEVELS))
    rows = [(one, day, 1, *(sorted(values) if ordered else values)) for one, day, values in forecasts]
    made = pd.DataFrame(rows, columns=["unique_id", "ds", "step", *names])
    truth = pd.DataFrame([(one, day, values[0]) for one, day, values in truths], columns=["unique_id", "ds", "y"])
    with contextlib.suppress(SeriesError):
        scored = score_forecasts(made, truth)
        assert len(scored) <= len(made)
        assert np.isfinite(scored["absolute_error"]).all()
        assert scoreboard(scored)["forecasts"].sum() == len(scored)
    with pytest.raises(SeriesError, match="missing"):
        score_forecasts(made.drop(columns="median"), truth)


@SMALL
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(0, 900)), max_size=15),
    st.integers(-3, 500),
)
def test_whoever_lags_was_expected(rows: list[tuple[str, int, int]], behind: int) -> None:
    last = dt.date(2024, 6, 30)
    own = pd.Timestamp(last) - pd.Timedelta(days=behind)
    recent = pd.DataFrame(rows, columns=["unit", "weekday", "admissions"]).assign(last_day=own)
    found = silences(recent, last)
    usual = recent.groupby("unit")["admissions"].sum() / 8
    for one in found:
        assert behind >= 1
        assert one.usual_per_week == pytest.approx(usual[one.name])
        assert one.is_waited_for == (behind <= 28)
        assert (behind + 6) // 7 * one.usual_per_week > 13.8  # even if all of it came on the silent weekdays
    assert complete_until(found, last) == (own.date() if any(one.is_waited_for for one in found) else last)


def test_silence_needs_its_columns_and_order() -> None:
    with pytest.raises(SeriesError, match="missing"):
        silences(pd.DataFrame(), dt.date(2024, 1, 1))
    assert complete_until((), dt.date(2024, 1, 1)) == dt.date(2024, 1, 1)
    gone = Silence("a", dt.date(2020, 1, 1), 9.0, is_waited_for=False)
    assert complete_until([gone], dt.date(2024, 1, 1)) == dt.date(2024, 1, 1)
    with pytest.raises(SeriesError, match="before the first"):
        reporting_days(pd.DataFrame({"day": [], "admissions": []}), dt.date(2024, 1, 2), dt.date(2024, 1, 1))


@SMALL
@given(st.lists(st.dates(dt.date(1990, 1, 1), dt.date(2060, 1, 1)), min_size=1, max_size=5), st.integers(0, 60))
def test_periods_are_counted_as_the_calendar_does(days: list[dt.date], later: int) -> None:
    for frequency, rule in (("daily", "D"), ("weekly", "7D"), ("monthly", "MS")):
        start = period_start(pd.DatetimeIndex(days), frequency)  # type: ignore[arg-type]
        for one in start:
            assert one <= period_end(one, frequency)  # type: ignore[arg-type]
            ahead = pd.date_range(one, periods=later + 1, freq=rule)[-1]
            between = periods_between(pd.Series([one]), pd.Series([ahead]), frequency)  # type: ignore[arg-type]
            assert between.tolist() == [later]


@SMALL
@given(st.integers(0, 400), seasons, st.integers(1, 60), st.integers(1, 60), st.integers(1, 366))
def test_origins_leave_a_history_and_a_truth(length: int, season: int, origins: int, step: int, horizon: int) -> None:
    at = past_origins(length, season, origins=origins, step=step)
    assert len(at) <= origins
    assert ((at >= 8) & (at < max(length, 8))).all()
    assert (np.diff(at) == step).all()
    assert 1 <= spread_step(length, season, horizon, origins=origins) <= max(1, -(-horizon // 2))


@SMALL
@given(st.lists(st.floats(-0.5, 1.5), max_size=7))
def test_levels_are_fit_for_intervals_or_refused(levels: list[float]) -> None:
    try:
        given_levels = checked_levels(levels)
    except ParameterError:
        with pytest.raises(ParameterError):
            forecast_panel(panel_of(np.arange(20.0), "weekly"), 2, levels=levels)
        return
    assert len(set(quantile_names(given_levels.tolist()))) == len(levels)


@SMALL
@given(arrays(float, st.integers(0, 12), elements=observations))
def test_flags_say_what_is_there(values: Floats) -> None:
    flags = series_flags(values)
    assert (SeriesFlag.EMPTY in flags) == (not np.isfinite(values).any())
    assert (SeriesFlag.ALL_ZERO in flags) == (np.isfinite(values).any() and not np.nansum(values))
    mean = float(known_mean(values))
    assert np.isnan(mean) == (not np.isfinite(values).any())


@SMALL
@given(st.integers(1583, 4000))
def test_easter_is_a_sunday_in_spring(year: int) -> None:
    easter = easter_sunday(year)
    assert easter.isoweekday() == 7
    assert dt.date(year, 3, 22) <= easter <= dt.date(year, 4, 25)
    holidays = public_holidays(year, year)
    assert dt.date(year, 12, 25) in holidays
    assert len(set(holidays)) == len(holidays)


@SMALL
@given(arrays(float, (4, 3), elements=st.floats(0, 500)), st.lists(st.integers(0, 31), max_size=4))
def test_daily_paths_add_up_to_the_periods(paths: Floats, days: list[int]) -> None:
    rng = np.random.default_rng(1)
    with contextlib.suppress(MediSyncError):
        made = daily_admission_paths(paths, days, rng)
        assert made.shape == (4, sum(days))
        assert not (made < 0).any()
