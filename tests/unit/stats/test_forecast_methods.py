"""Candidates against planted truth, against each other's definitions, and what they do with hard series."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from medisync.errors import ParameterError
from medisync.stats.backtest import backtest, past_origins, spread_step
from medisync.stats.baselines import mean_forecast, seasonal_naive_forecast
from medisync.stats.combination import METHODS, candidate_forecasts, default_candidates
from medisync.stats.counts import count_regression_forecast, negative_binomial_quantiles
from medisync.stats.daily import daily_regression_forecasts, easter_sunday
from medisync.stats.seasonal import moving_average, seasonal_indices
from medisync.stats.series import panel_of
from medisync.stats.smoothing import smoothing_forecast
from medisync.stats.theta import linear_slope, theta_forecast

WITHOUT_ORDERS = tuple(name for name in METHODS if name not in ("sarima", "daily_regression"))


def test_mean_leaves_out_what_is_missing():
    values = np.array([[np.nan, 2.0, np.nan, 4.0], [np.nan] * 4])
    forecast = mean_forecast(values, 2, 2)
    assert forecast[0].tolist() == [3, 3]
    assert np.isnan(forecast[1]).all()


def test_seasonal_naive_repeats_the_last_season_and_looks_further_back_over_gaps():
    values = np.array([[1.0, 2, 3, 4, 5, np.nan, 7]])
    assert seasonal_naive_forecast(values, 3, 4).tolist() == [[5, 3, 7, 5]]


def test_centred_moving_average_of_an_even_season():
    values = np.arange(10.0)[None] ** 2
    expected = [(0.5 * v[0] + v[1] + v[2] + v[3] + 0.5 * v[4]) / 4 for v in (values[0, i : i + 5] for i in range(6))]
    assert moving_average(values, 4)[0, 2:8] == pytest.approx(expected)
    assert np.isnan(moving_average(values, 4)[0, [0, 1, 8, 9]]).all()


@pytest.mark.parametrize(("kind", "amplitude"), [("additive", 20.0), ("multiplicative", 0.2)])
def test_a_planted_season_is_recovered(kind, amplitude):
    rng = np.random.default_rng(1)
    pattern = np.sin(2 * np.pi * np.arange(12) / 12) * amplitude
    time = np.arange(96)
    base = 100 + 0.2 * time
    clean = base + pattern[time % 12] if kind == "additive" else base * (1 + pattern[time % 12])
    found = seasonal_indices((clean + rng.normal(0, 2, 96))[None], 12, kind=kind)
    neutral = 0 if kind == "additive" else 1
    assert found.indices[0] - neutral == pytest.approx(pattern, abs=0.12 * amplitude)
    assert found.weight[0] > 0.9


def test_noise_has_hardly_any_season():
    found = seasonal_indices(np.random.default_rng(2).poisson(50, (300, 84)).astype(float), 12)
    assert found.weight.mean() < 0.3
    assert (found.weight == 0).mean() > 0.3


def test_a_planted_yearly_wave_in_weeks_is_recovered():
    time = np.arange(208)
    wave = 30 * np.cos(2 * np.pi * time / 52)
    values = (100 + wave + np.random.default_rng(3).normal(0, 8, 208))[None]
    assert seasonal_indices(values, 52, kind="additive").indices[0] == pytest.approx(wave[:52], abs=8)


def test_slope_ignores_gaps():
    values = 3.0 + 0.5 * np.arange(30)
    values[4:9] = np.nan
    assert linear_slope(values[None]) == pytest.approx([0.5])
    assert linear_slope(np.array([[np.nan, 1.0]])) == pytest.approx([0.0])


def test_theta_agrees_with_statsmodels():
    from statsmodels.tsa.forecasting.theta import ThetaModel

    rng = np.random.default_rng(5)
    values = 50 + np.cumsum(rng.normal(0.3, 2, 80))
    peer = ThetaModel(pd.Series(values), period=1, deseasonalize=False).fit(use_mle=False).forecast(8).to_numpy()
    assert theta_forecast(values[None], 1, 8)[0] == pytest.approx(peer, rel=0.02)


def test_smoothing_agrees_with_statsmodels_on_a_level():
    from statsmodels.tsa.holtwinters import SimpleExpSmoothing

    rng = np.random.default_rng(6)
    values = np.maximum(60 + np.cumsum(rng.normal(0, 1.5, 150)) + rng.normal(0, 4, 150), 0)
    peer = SimpleExpSmoothing(values, initialization_method="estimated").fit().forecast(1)[0]
    assert smoothing_forecast(values[None], 1, 1)[0, 0] == pytest.approx(peer, rel=0.02)


@pytest.mark.parametrize("method", ["theta", "theta_sqrt", "smoothing", "smoothing_sqrt", "combination"])
def test_a_clear_season_and_trend_are_continued(method):
    time = np.arange(96)
    truth = (100 + 0.5 * time) * (1 + 0.3 * np.sin(2 * np.pi * time / 12))
    values = np.random.default_rng(7).poisson(truth[:84]).astype(float)
    forecast = candidate_forecasts(panel_of(values, "monthly"), 12, (method,))[method][0, 0]
    naive = np.abs(values[-12:] - truth[84:]).mean()
    assert np.abs(forecast - truth[84:]).mean() < 0.75 * naive


def test_autoregression_learns_a_wave_the_sites_share():
    rng = np.random.default_rng(8)
    time = np.arange(260)
    shared = np.exp(1.2 * np.sin(2 * np.pi * time / 52) + np.cumsum(rng.normal(0, 0.08, 260)))
    panel = panel_of(rng.poisson(rng.uniform(10, 60, (20, 1)) * shared).astype(float), "weekly")
    past = backtest(panel, 4, methods=("autoregression", "last_value", "mean"), origins=52)
    error = {name: np.nanmean(np.abs(made - past.truth)) for name, made in past.forecasts.items()}
    assert error["autoregression"] < 0.85 * min(error["last_value"], error["mean"])


def test_daily_regression_finds_weekday_time_of_year_and_holidays():
    days = pd.date_range("2020-01-01", periods=1200)
    weekday = np.array([10, 4, 2, 0, 3, -9, -10])[days.day_of_week]
    year = 8 * np.cos(2 * np.pi * days.day_of_year / 365.25)
    truth = np.where(days.strftime("%m-%d") == "12-25", 25.0, 60 + weekday + year)
    values = np.random.default_rng(9).poisson(truth).astype(float)
    end = int(np.flatnonzero(days == pd.Timestamp("2022-12-18"))[0])
    dates = [dt.date(y, 12, 25) for y in range(2019, 2024)]
    made = daily_regression_forecasts(values[None, :end], days[:end], 14, np.array([end]), holidays=dates)[0, 0]
    assert made == pytest.approx(truth[end : end + 14], rel=0.2)
    christmas = int(np.flatnonzero(days[end : end + 14] == pd.Timestamp("2022-12-25"))[0])
    assert made[christmas] < 0.65 * truth[end : end + 14].mean()


@pytest.mark.parametrize(
    ("year", "month", "day"), [(1961, 4, 2), (2000, 4, 23), (2008, 3, 23), (2024, 3, 31), (2025, 4, 20), (2038, 4, 25)]
)
def test_easter(year, month, day):
    assert easter_sunday(year) == dt.date(year, month, day)


def test_count_regression_recovers_a_low_season():
    time = np.arange(208)
    truth = np.exp(-0.7 + 1.0 * np.cos(2 * np.pi * time / 52))
    values = np.random.default_rng(10).negative_binomial(5, 5 / (5 + truth), (400, 208)).astype(float)
    made = count_regression_forecast(values[:, :156], 52, 52)
    assert made.mean(axis=0) == pytest.approx(truth[156:], abs=0.15)


@pytest.mark.parametrize("size", [0.4, 1.0, 7.0])
def test_negative_binomial_quantiles_are_those_of_the_distribution(size):
    from scipy import stats

    rng = np.random.default_rng(11)
    history = rng.negative_binomial(size, size / (size + 0.6), (1, 200_000)).astype(float)
    levels = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])
    found = negative_binomial_quantiles(history, np.array([[0.6]]), levels)[0, 0]
    assert found.tolist() == stats.nbinom.ppf(levels, size, size / (size + 0.6)).tolist()


def test_a_series_of_zeros_does_not_promise_zero_for_ever():
    upper = [negative_binomial_quantiles(np.zeros((1, n)), np.zeros((1, 1)), [0.975])[0, 0, 0] for n in (1, 3, 3000)]
    assert upper[0] >= upper[1] >= 1
    assert upper[2] == 0


@pytest.mark.parametrize("method", WITHOUT_ORDERS)
def test_no_candidate_looks_ahead(method):
    rng = np.random.default_rng(12)
    values = rng.poisson(30, (3, 120)).astype(float)
    values[0, 20:24] = np.nan
    changed = values.copy()
    changed[:, 100:] = 1000.0
    origins = past_origins(120, 12, origins=30)
    before = origins <= 100
    made = [
        candidate_forecasts(panel_of(one, "monthly"), 6, (method,), origins=origins)[method]
        for one in (values, changed)
    ]
    assert before.sum() >= 10
    assert np.array_equal(made[0][:, before], made[1][:, before])


@pytest.mark.parametrize(
    "method", [name for name in WITHOUT_ORDERS if "autoregression" not in name and "wide" not in name]
)
def test_a_past_origin_gives_what_the_panel_of_that_day_gave(method):
    values = np.random.default_rng(13).poisson(30, (2, 90)).astype(float)
    panel = panel_of(values, "monthly")
    back = candidate_forecasts(panel, 5, (method,), origins=np.array([70, 81, 90]))[method][:, 1]
    assert back == pytest.approx(candidate_forecasts(panel.until(81), 5, (method,))[method][:, 0])


@pytest.mark.parametrize("method", WITHOUT_ORDERS)
def test_hard_series_get_a_defined_answer(method):
    values = np.full((6, 60), np.nan)
    values[1, -1] = 7  # one point
    values[2, -2:] = (4, 6)  # two points
    values[3] = 0  # nothing but zeros
    values[4] = 9  # constant
    values[5, ::3] = 5 + np.arange(20) % 3  # gaps
    made = candidate_forecasts(panel_of(values, "monthly"), 3, (method,))[method][:, 0]
    assert np.isnan(made[0]).all()
    assert made[1] == pytest.approx([7, 7, 7])
    assert made[2] == pytest.approx([5, 5, 5])
    assert made[3] == pytest.approx([0, 0, 0], abs=1e-9)
    assert made[4] == pytest.approx([9, 9, 9], rel=0.01)
    assert ((made[5] >= 4) & (made[5] <= 8)).all()


def test_unknown_method_names_the_known_ones():
    with pytest.raises(ParameterError, match="combination"):
        candidate_forecasts(panel_of(np.ones((1, 20)), "daily"), 3, ("oracle",))


def test_default_candidates_follow_the_data():
    assert "daily_regression" in default_candidates(panel_of(np.full((1, 30), 9.0), "daily"))
    assert "count_regression" in default_candidates(panel_of(np.zeros((1, 30)), "weekly"))
    assert not {"daily_regression", "count_regression"} & set(
        default_candidates(panel_of(np.full((1, 30), 9.0), "weekly"))
    )


def test_origins_leave_two_seasons_and_end_one_period_before_the_last():
    assert past_origins(84, 12, origins=30).tolist() == list(range(54, 84))
    assert past_origins(40, 12, origins=30)[0] == 20
    assert past_origins(9, 12).tolist() == [8]
    assert past_origins(8, 12).tolist() == []
    assert spread_step(260, 52, 8, origins=30) == 4
    assert spread_step(84, 12, 12, origins=30) == 2
    assert spread_step(20, 52, 8) == 1


def test_truth_of_a_backtest_is_missing_where_it_is_still_to_come():
    past = backtest(panel_of(np.arange(40.0), "monthly"), 3, origins=2)
    assert past.origins.tolist() == [38, 39]
    assert np.array_equal(past.truth[0], [[38, 39, np.nan], [39, np.nan, np.nan]], equal_nan=True)
    assert past.overlap == 3
