"""Intervals: coverage on known truth, what they never do, and sample paths that keep margins and dependence."""

from __future__ import annotations

import numpy as np
import pytest

from medisync.errors import ParameterError
from medisync.stats.accuracy_test import Verdict
from medisync.stats.forecasting import forecast_panel, past_quantiles, quantile_names
from medisync.stats.intervals import fit_error_model, prediction_quantiles, sample_paths
from medisync.stats.scores import interval_coverage
from medisync.stats.series import panel_of


def poisson_panel(seed: int, series: int, length: int, mean: float = 40.0):
    return panel_of(np.random.default_rng(seed).poisson(mean, (series, length)).astype(float), "weekly")


def test_the_variance_line_of_errors_is_recovered():
    """On the square-root scale errors have variance 0.5 + 0.02 * forecast."""
    rng = np.random.default_rng(1)
    forecast = rng.uniform(20, 400, (200, 30, 4))
    root = np.sqrt(forecast) + rng.normal(size=forecast.shape) * np.sqrt(0.5 + 0.02 * forecast)
    model = fit_error_model(np.maximum(root, 0) ** 2, forecast)
    assert model.slope == pytest.approx(np.full(4, 0.02), rel=0.2)
    assert model.intercept == pytest.approx(np.full(4, 0.5), abs=0.2)
    assert model.shared < 1.5


def test_series_that_err_together_count_as_few():
    rng = np.random.default_rng(2)
    common = rng.normal(size=(1, 30, 4))
    forecast = np.full((50, 30, 4), 100.0)
    model = fit_error_model((10 + common + 0.1 * rng.normal(size=forecast.shape)) ** 2, forecast)
    assert model.shared > 30


def test_a_series_that_is_harder_to_forecast_gets_wider_intervals():
    rng = np.random.default_rng(3)
    forecast = np.full((10, 30, 3), 100.0)
    spread = np.where(np.arange(10) == 0, 2.0, 0.5)[:, None, None]
    model = fit_error_model((10 + spread * rng.normal(size=forecast.shape)) ** 2, forecast)
    quantiles = prediction_quantiles(model, forecast[:, 0])
    width = (quantiles[..., -1] - quantiles[..., 0]).mean(axis=1)
    assert width[0] > 2 * width[1:].max()


@pytest.mark.parametrize("series", [1, 40])
def test_intervals_of_independent_counts_hold_what_they_promise(series):
    inside = []
    for seed in range(40 if series == 1 else 3):
        panel = poisson_panel(seed, series, 168)
        made = forecast_panel(panel.until(160), 8, candidates=("combination",))
        inside.append(interval_coverage(made.quantiles, panel.values[:, 160:]))
    for width in (50, 80, 95):
        # 320 and 960 forecasts; those of one series share its mean: the band is wider than the binomial one.
        assert np.mean([one[width] for one in inside]) == pytest.approx(width, abs=6 if width < 95 else 4)


def test_growing_uncertainty_of_a_random_walk_is_covered():
    rng = np.random.default_rng(5)
    values = (np.sqrt(150) + np.cumsum(rng.normal(0, 0.3, (60, 180)), axis=1)) ** 2
    panel = panel_of(values, "weekly")
    made = forecast_panel(panel.until(172), 8)
    coverage = interval_coverage(made.quantiles, values[:, 172:])
    width = (made.quantiles[..., -1] - made.quantiles[..., 0]).mean(axis=0)
    assert 72 < coverage[80] < 88
    assert 90 < coverage[95] < 99
    assert width[7] > 1.7 * width[0]


def test_measured_coverage_is_measured_without_looking_ahead():
    """A break in the spread: intervals before it cannot know of it."""
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.normal(100, 2, (20, 150)), rng.normal(100, 30, (20, 12))], axis=1)
    panel = panel_of(np.maximum(values, 0), "weekly")
    made = forecast_panel(panel, 1, method="mean", origins=30, step=1)
    quantiles = past_quantiles(panel, made.past, "mean")
    width = (quantiles[..., -1] - quantiles[..., 0]).mean(axis=(0, 2))
    assert made.past.origins[10] == 142
    assert width[:9].max() < 20
    assert width[-1] > 60


def test_quantiles_are_sorted_and_never_negative_even_near_zero():
    rng = np.random.default_rng(7)
    panel = panel_of(rng.poisson([[0.05], [0.6], [1.5], [4.0]], (4, 120)).astype(float), "monthly")
    made = forecast_panel(panel, 6)
    assert (made.quantiles >= 0).all()
    assert (np.diff(made.quantiles, axis=2) >= 0).all()
    rare = made.quantiles[:2]
    assert np.array_equal(rare, np.round(rare))  # whole numbers where fewer than one is expected


def test_rare_events_are_covered_by_negative_binomial_quantiles():
    rng = np.random.default_rng(8)
    values = rng.negative_binomial(0.8, 0.8 / 1.3, (150, 130)).astype(float)  # mean 0.5
    made = forecast_panel(panel_of(values[:, :120], "weekly"), 10, candidates=("combination", "count_regression"))
    truth = values[:, 120:]
    assert 93 < interval_coverage(made.quantiles, truth)[95] <= 100
    assert ((truth > made.quantiles[..., -1]).mean()) < 0.035


def test_too_short_for_a_backtest_still_gets_intervals_of_counts():
    made = forecast_panel(panel_of(np.array([[12.0, 9, 15]]), "monthly"), 2)
    assert made.method == "mean"
    assert made.accuracy.verdicts == (Verdict.UNTESTED,)
    assert made.quantiles[0, 0, 0] < 9 < 15 < made.quantiles[0, 0, -1]


def test_nothing_observed_gives_nothing():
    made = forecast_panel(panel_of(np.full((1, 30), np.nan), "weekly"), 3)
    assert np.isnan(made.quantiles).all()


def test_sample_paths_have_the_margins_of_the_quantiles_and_the_dependence_of_past_errors():
    rng = np.random.default_rng(9)
    steps = np.cumsum(rng.normal(0, 0.4, (1, 200, 5)), axis=2)
    forecast = np.full((1, 200, 5), 100.0)
    model = fit_error_model((10 + steps) ** 2, forecast)
    quantiles = prediction_quantiles(model, forecast[:, 0])
    paths = sample_paths(model, quantiles, 4000, rng)[0]
    levels = [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975]
    margins = np.quantile(paths, levels, axis=0).T
    assert margins == pytest.approx(quantiles[0], rel=0.03)
    found = np.corrcoef(paths.T)
    expected = np.corrcoef(steps[0].T)
    assert found == pytest.approx(expected, abs=0.08)


def test_paths_repeat_with_the_seed():
    model = fit_error_model(np.full((1, 12, 2), 90.0) + np.arange(12)[None, :, None], np.full((1, 12, 2), 95.0))
    quantiles = prediction_quantiles(model, np.full((1, 2), 95.0))
    first, second, other = (sample_paths(model, quantiles, 50, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_names_of_quantiles():
    assert quantile_names() == ("lower_95", "lower_80", "lower_50", "median", "upper_50", "upper_80", "upper_95")
    assert quantile_names((0.005, 0.5, 0.995)) == ("lower_99", "median", "upper_99")


def test_the_frame_has_one_row_per_series_and_step():
    made = forecast_panel(poisson_panel(1, 2, 60), 3)
    frame = made.frame()
    assert frame.columns.tolist() == ["unique_id", "ds", "step", *quantile_names()]
    assert frame["step"].tolist() == [1, 2, 3, 1, 2, 3]
    assert frame["ds"].iloc[0] == made.panel.periods[-1] + np.timedelta64(7, "D")


@pytest.mark.parametrize("horizon", [0, -1, 367, 500, 2.5, True, "8"])
def test_horizons_out_of_range_are_refused(horizon):
    with pytest.raises(ParameterError, match="1 to 366"):
        forecast_panel(poisson_panel(1, 1, 60), horizon)


def test_noise_is_no_better_than_its_mean_and_a_season_is():
    noise = [forecast_panel(poisson_panel(seed, 1, 260), 8).accuracy.verdicts[0] for seed in range(24)]
    assert sum(one is Verdict.BETTER for one in noise) <= 2
    time = np.arange(260)
    season = 60 + 25 * np.sin(2 * np.pi * time / 52)
    found = []
    for seed in range(5):
        made = forecast_panel(panel_of(np.random.default_rng(seed).poisson(season).astype(float), "weekly"), 8)
        found.append(made.accuracy.verdicts[0])
        assert made.accuracy.skill_mean_percent[0] > 20
    assert all(one is Verdict.BETTER for one in found)


def test_one_method_can_be_asked_for():
    made = forecast_panel(poisson_panel(1, 1, 120), 4, method="theta")
    assert made.method == "theta"
    assert made.methods == ("theta",)
    assert set(made.accuracies) == {"mean", "seasonal_naive", "theta"}


def test_steps_that_err_together_count_as_few():
    rng = np.random.default_rng(12)
    forecast = np.full((1, 40, 8), 100.0)
    level = rng.normal(size=(1, 40, 1))
    lasting = fit_error_model((10 + level + 0.1 * rng.normal(size=forecast.shape)) ** 2, forecast)
    alone = fit_error_model((10 + rng.normal(size=forecast.shape)) ** 2, forecast)
    assert lasting.lasting > 6
    assert alone.lasting < 1.5
    # Two handfuls of independent errors tell little about the outer quantiles, so these lie further out.
    few = fit_error_model((10 + level[:, :5] + 0.1 * rng.normal(size=(1, 5, 8))) ** 2, forecast[:, :5])
    assert few.shape([0.025, 0.5, 0.975])[0, 2] > alone.shape([0.025, 0.5, 0.975])[0, 2]


def test_short_random_walks_are_covered_nearly_as_promised():
    """Two and a half years of months, 60 times: the level wanders, and few errors are known."""
    rng = np.random.default_rng(13)
    quantiles, truths = [], []
    for _ in range(60):
        walk = rng.poisson(300 * np.exp(np.cumsum(rng.normal(0, 0.06, 34)))).astype(float)
        made = forecast_panel(panel_of(walk[:30], "monthly"), 4)
        quantiles.append(made.quantiles[0])
        truths.append(walk[30:])
    coverage = interval_coverage(np.stack(quantiles), np.stack(truths))
    assert coverage[80] > 60  # 54 with the quantiles of many errors
    assert coverage[95] > 80


def test_with_few_origins_a_method_has_to_win_each_time():
    rng = np.random.default_rng(14)
    noise = [forecast_panel(panel_of(rng.poisson(100, 14).astype(float), "monthly"), 3).method for _ in range(20)]
    assert noise.count("mean") >= 17
    trend = forecast_panel(panel_of(100.0 + 25 * np.arange(14) + rng.normal(0, 5, 14), "monthly"), 3)
    assert trend.method != "mean"
