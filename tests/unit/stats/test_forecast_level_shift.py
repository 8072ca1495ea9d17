"""Series that changed or are unusual from the start: shifted levels, late starts, scattered zeros."""

from __future__ import annotations

import numpy as np
import pytest

from medisync.stats.forecasting import Forecast, forecast_panel
from medisync.stats.scores import interval_coverage
from medisync.stats.series import SeriesFlag, panel_of, series_flags

WEEKS, HORIZON, SERIES = 220, 8, 6


def forecasts(mean: np.ndarray) -> tuple[list[Forecast], np.ndarray]:
    """Forecasts of Poisson series one by one, as an analysis makes them, and what came (series, horizon)."""
    rng = np.random.default_rng(5)
    values = rng.poisson(mean, (SERIES, WEEKS + HORIZON)).astype(float)
    return [forecast_panel(panel_of(row[:WEEKS], "weekly"), HORIZON) for row in values], values[:, WEEKS:]


@pytest.mark.parametrize(("factor", "weeks_ago"), [(0.5, 3), (2.0, 9)])
def test_a_new_level_is_seen_said_and_covered(factor: float, weeks_ago: int) -> None:
    made, truth = forecasts(np.where(np.arange(WEEKS + HORIZON) >= WEEKS - weeks_ago, 200 * factor, 200.0))
    shift = np.array([one.level_shift_percent[0] for one in made])
    seen = np.isfinite(shift)
    assert seen.sum() >= SERIES - 1
    assert shift[seen] == pytest.approx(100 * (factor - 1), abs=25)
    quantiles = np.stack([one.quantiles[0] for one in made])[seen]
    assert interval_coverage(quantiles, truth[seen])[95] >= 90
    assert np.abs(quantiles[:, :, 3] - truth[seen]).mean() < 0.15 * 200 * factor


def test_an_even_level_and_one_extraordinary_week_are_no_shift() -> None:
    made, _ = forecasts(np.full(WEEKS + HORIZON, 200.0))
    assert all(np.isnan(one.level_shift_percent[0]) for one in made)
    spike = np.full(WEEKS, 200.0)
    spike[-1] = 2000.0
    values = np.random.default_rng(6).poisson(spike).astype(float)
    assert np.isnan(forecast_panel(panel_of(values, "weekly"), HORIZON).level_shift_percent).all()


def test_scattered_zeros_are_forecast_by_their_mean_and_covered() -> None:
    rng = np.random.default_rng(7)
    values = (rng.random((20, WEEKS + HORIZON)) < 0.2) * rng.poisson(20, (20, WEEKS + HORIZON)).astype(float)
    panel = panel_of(values[:, :WEEKS], "weekly")
    assert all(SeriesFlag.INTERMITTENT in flags for flags in panel.flags)
    made = forecast_panel(panel, HORIZON)
    assert set(made.methods) <= {"mean", "count_regression"}
    coverage = interval_coverage(made.quantiles, values[:, WEEKS:])
    assert coverage[95] >= 93
    assert coverage[80] >= 75
    assert (made.quantiles[:, :, :3] == 0).all()


def test_a_season_with_zeros_is_not_intermittent() -> None:
    wave = np.round(30 * np.maximum(np.cos(2 * np.pi * np.arange(208) / 52), 0))
    assert (wave == 0).mean() > 0.25
    assert series_flags(wave) == ()


def test_what_lies_before_the_start_is_left_out() -> None:
    values = np.r_[np.zeros(150), np.random.default_rng(8).poisson(50, 70)].astype(float)
    panel = panel_of(values, "weekly")
    assert panel.flags[0] == (SeriesFlag.LATE_START,)
    assert panel.values[0, 0] == 0  # the panel itself says what was there
    made = forecast_panel(panel, HORIZON)
    assert made.method == "mean"
    assert made.median == pytest.approx(50, abs=4)
    rare = np.r_[np.zeros(30), 1, np.zeros(40), 2, np.zeros(9)]
    assert SeriesFlag.LATE_START not in series_flags(rare)
