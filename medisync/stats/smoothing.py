"""Exponential smoothing for many series at once: level, damped trend and additive season.

The error-correction form of the additive models in Hyndman, Koehler, Ord and Snyder (2008), "Forecasting with
Exponential Smoothing", chapter 2. The smoothing constants come from a grid that is run for all series in one pass; the
corrected Akaike criterion chooses, so that a moving trend or a moving season has to pay for its states.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medisync.stats.seasonal import LONGEST_UNSMOOTHED_SEASON, seasonal_indices
from medisync.stats.series import checked_horizon

Floats = NDArray[np.float64]

LEVELS = (0.02, 0.06, 0.13, 0.25, 0.4, 0.6, 0.85)
TRENDS = (0.0, 0.1, 0.4)
"""Trend constants as a share of the level's constant."""
SEASONS = (0.0, 0.05, 0.12, 0.25)
"""Season constants as a share of one minus the level's constant."""
DAMPING = 0.9
"""The share of the trend kept from one period to the next."""

_ROWS_AT_ONCE = 256  # keeps the working arrays within the processor's cache


def smoothing_forecast(values: Floats, season: int, horizon: int) -> Floats:
    """Point forecasts (n, horizon) from ``values`` (n, t), NaN where missing. Missing values leave the states alone."""
    horizon = checked_horizon(horizon)
    pattern = seasonal_indices(values, season, kind="additive")
    seasonal = 2 <= season <= LONGEST_UNSMOOTHED_SEASON and values.shape[1] >= 2 * season
    grid = np.array(
        [
            (alpha, alpha * trend, gamma * (1 - alpha))
            for alpha in LEVELS
            for trend in TRENDS
            for gamma in (SEASONS if seasonal else (0.0,))
        ]
    )
    adjusted = values if seasonal else pattern.remove(values)
    start = pattern.indices if seasonal else np.zeros((len(values), 1))
    parts = [
        _chosen(adjusted[rows], start[rows], pattern.weight[rows], grid, horizon)
        for rows in (slice(i, i + _ROWS_AT_ONCE) for i in range(0, max(len(values), 1), _ROWS_AT_ONCE))
    ]
    forecast = np.concatenate(parts)
    return forecast if seasonal else pattern.restore(forecast, values.shape[1])


def first_level(values: Floats, count: int) -> Floats:
    """Mean (n,) of the first ``count`` observed values of each row; NaN if there is none."""
    known = np.isfinite(values)
    early = known & (np.cumsum(known, axis=1) <= count)
    with np.errstate(invalid="ignore", divide="ignore"):
        level: Floats = np.where(early, values, 0.0).sum(axis=1) / early.sum(axis=1)
    return level


def _chosen(values: Floats, start: Floats, weight: Floats, grid: Floats, horizon: int) -> Floats:
    """Forecasts (n, horizon) under each series' best row of ``grid`` (alpha, beta, gamma).

    The recursion runs in single precision, which halves its time, on series scaled to 1, where seven digits are more
    than any forecast has.
    """
    n, length = values.shape
    season = start.shape[1]
    known = np.isfinite(values)
    unit = np.maximum(np.where(known, np.abs(values), 0.0).max(axis=1, initial=0.0), 1e-300)[:, None]
    first = first_level(values - start[:, np.arange(length) % season], max(4, season))[:, None] / unit
    alpha, beta, gamma = grid.T.astype(np.float32)[:, :, None]
    filled = np.ascontiguousarray((np.where(known, values, 0.0) / unit).T, dtype=np.float32)
    seen, complete = known.T.astype(np.float32), np.asarray(known.all(axis=0))
    level = np.repeat(first.T.astype(np.float32), len(grid), axis=0)  # (grid, n), as everything in the recursion
    trend, squares = np.zeros_like(level), np.zeros_like(level)
    error, step = np.empty_like(level), np.empty_like(level)
    cycle = np.repeat((start / unit).T.astype(np.float32)[:, None, :], len(grid), axis=1)
    moving = season > 1
    for t in range(length):
        trend *= DAMPING
        level += trend
        np.subtract(filled[t], level, out=error)
        if moving:
            error -= cycle[t % season]
        if not complete[t]:
            error *= seen[t]
        squares += np.multiply(error, error, out=step)
        level += np.multiply(alpha, error, out=step)
        trend += np.multiply(beta, error, out=step)
        if moving:
            cycle[t % season] += np.multiply(gamma, error, out=step)
    best = _criterion(squares.T.astype(np.float64), known.sum(axis=1), weight, grid, season).argmin(axis=1)
    row = np.arange(n)
    damped = np.cumsum(DAMPING ** np.arange(1, horizon + 1))
    forecast: Floats = level[best, row][:, None] + trend[best, row][:, None] * damped
    position = (length + np.arange(horizon)) % season
    forecast += cycle[position][:, best, row].T
    forecast *= unit
    return forecast


def _criterion(squares: Floats, count: NDArray[np.intp], weight: Floats, grid: Floats, season: int) -> Floats:
    """Corrected Akaike criterion (n, grid). States that did not survive the season's shrinking cost if they move."""
    moves_trend, moves_season = grid[:, 1] > 0, grid[:, 2] > 0
    states = 2.0 + 2.0 * moves_trend + 1.0 * moves_season
    extra = (weight == 0)[:, None] * moves_season * (season - 1)
    parameters = states + extra
    observed = np.maximum(count, 1)[:, None]
    room = np.maximum(observed - parameters - 1, 1e-3)
    scale = np.maximum(squares, 1e-12 * np.maximum(squares.max(axis=1, keepdims=True), 1e-12))
    result: Floats = observed * np.log(scale) + 2 * parameters + 2 * parameters * (parameters + 1) / room
    return result
