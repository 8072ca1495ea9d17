"""The Theta method for many series at once.

Assimakopoulos and Nikolopoulos (2000), International Journal of Forecasting 16, 521-530, in the form shown by Hyndman
and Billah (2003), same journal 19, 287-290: simple exponential smoothing with a drift of half the slope of the linear
trend, on seasonally adjusted data.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medisync.stats.seasonal import seasonal_indices
from medisync.stats.series import checked_horizon
from medisync.stats.smoothing import first_level

Floats = NDArray[np.float64]

ALPHAS: Floats = np.linspace(0.02, 0.98, 25)
"""Smoothing constants tried; the one with the smallest one-step squared error is used."""

_ROWS_AT_ONCE = 512  # keeps the working arrays within the processor's cache


def theta_forecast(
    values: Floats, season: int, horizon: int, *, kind: Literal["additive", "multiplicative"] = "multiplicative"
) -> Floats:
    """Point forecasts (n, horizon) from ``values`` (n, t), NaN where missing."""
    horizon = checked_horizon(horizon)
    pattern = seasonal_indices(values, season, kind=kind)
    adjusted = pattern.remove(values)
    alpha, level = simple_smoothing(adjusted)
    drift = linear_slope(adjusted) / 2
    flat = level[:, None] + drift[:, None] * (np.arange(horizon) + (1 / alpha)[:, None])
    return pattern.restore(flat, values.shape[1])


def linear_slope(values: Floats) -> Floats:
    """Least-squares slope (n,) per period of the observed values; 0 with fewer than two."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=1), 1)
    time = np.arange(values.shape[1])
    centred = np.where(known, time - ((known * time).sum(axis=1) / count)[:, None], 0.0)
    square = (centred**2).sum(axis=1)
    product: Floats = (centred * np.where(known, values, 0.0)).sum(axis=1)
    product[square == 0] = 0.0
    return product / np.where(square > 0, square, 1.0)


def simple_smoothing(values: Floats) -> tuple[Floats, Floats]:
    """The best smoothing constant (n,) and the last level (n,) under it."""
    parts = [_smoothed(values[i : i + _ROWS_AT_ONCE]) for i in range(0, max(len(values), 1), _ROWS_AT_ONCE)]
    return np.concatenate([alpha for alpha, _ in parts]), np.concatenate([level for _, level in parts])


def _smoothed(values: Floats) -> tuple[Floats, Floats]:
    known = np.isfinite(values)
    filled, seen, complete = np.where(known, values, 0.0).T.copy(), known.T.astype(float), np.asarray(known.all(axis=0))
    level = np.repeat(first_level(values, 3)[None, :], len(ALPHAS), axis=0)
    squares, error, step = np.zeros_like(level), np.empty_like(level), np.empty_like(level)
    alpha = ALPHAS[:, None]
    for t in range(values.shape[1]):
        np.subtract(filled[t], level, out=error)
        if not complete[t]:
            error *= seen[t]
        squares += np.multiply(error, error, out=step)
        level += np.multiply(alpha, error, out=step)
    best = squares.argmin(axis=0)
    return ALPHAS[best], level[best, np.arange(len(values))]
