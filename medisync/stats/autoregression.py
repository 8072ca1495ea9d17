"""Direct autoregression with harmonics, fitted over all series of a panel at once.

On the square-root scale, in units of each series' own spread, the change over the next ``h`` periods is
regressed on recent changes, on the distance from the series' mean, on the same of the panel's average, and on the
season's first two harmonics: one ridge regression per horizon ("direct" forecasting: Marcellino, Stock and Watson
2006, Journal of Econometrics 135, 499-526). Waves that
all sites share, such as influenza, are learned from all of them.

Cross-products are cumulated over time, so that the coefficients of several past origins come out of one pass over the
data: a backtest costs little more than a few forecasts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medisync.stats.scores import known_mean
from medisync.stats.seasonal import LONGEST_UNSMOOTHED_SEASON
from medisync.stats.series import checked_horizon

Floats = NDArray[np.float64]

CHANGES = 3
"""Recent one-period changes used of each series."""
HARMONICS = 2
RIDGE = 10.0
"""Penalty in squared standard units: as much evidence for "no change" as ten observations of unit size."""
ORIGINS_PER_PASS = 8
"""Neighbouring origins that share one standardisation, taken from what was known at the first of them."""
WARM_UP = 6
"""Periods a series must have been seen before its rows are used."""


def autoregression_forecast(values: Floats, season: int, horizon: int) -> Floats:
    """Point forecasts (n, horizon) from the end of ``values`` (n, t), NaN where missing."""
    return autoregression_forecasts(values, season, checked_horizon(horizon), np.array([values.shape[1]]))[:, 0]


def autoregression_forecasts(values: Floats, season: int, horizon: int, origins: NDArray[np.intp]) -> Floats:
    """Point forecasts (n, k, horizon) from each of ``origins`` (k,), increasing, using only the columns before each.

    A series without any observation before an origin gets NaN there.
    """
    horizon = checked_horizon(horizon)
    forecast = np.full((len(values), len(origins), horizon), np.nan)
    for first in range(0, len(origins), ORIGINS_PER_PASS):
        chunk = slice(first, first + ORIGINS_PER_PASS)
        forecast[:, chunk] = _one_pass(values[:, : origins[chunk][-1]], season, horizon, origins[chunk])
    return forecast


def _one_pass(values: Floats, season: int, horizon: int, origins: NDArray[np.intp]) -> Floats:
    """Forecasts (n, k, horizon) from neighbouring origins, in units known at the first of them."""
    length = values.shape[1]
    root, mean, spread = _standards(values, int(origins[0]))
    features = _features((root - mean) / spread, season)  # (n, t, p)
    seen = np.cumsum(np.isfinite(values), axis=1)
    usable = (seen >= WARM_UP) & np.isfinite(features).all(axis=2) & np.isfinite(values)
    size = features.shape[2]
    clean = np.where(usable[:, :, None], features, 0.0)
    products = np.cumsum(np.matmul(clean.transpose(1, 2, 0), clean.transpose(1, 0, 2)), axis=0)  # (t, p, p)
    latest = np.nan_to_num(features[:, origins - 1])  # (n, k, p)
    forecast = np.repeat(root[:, origins - 1][:, :, None], horizon, axis=2)
    observed = np.sqrt(values)
    for step in range(1, min(horizon, length - 1) + 1):
        change = (observed[:, step:] - root[:, :-step]) / spread
        with_truth = usable[:, :-step] & np.isfinite(change)
        rows = np.where(with_truth[:, :, None], clean[:, :-step], 0.0).transpose(1, 2, 0)
        target = np.where(with_truth, change, 0.0).T[:, :, None]
        moments = np.cumsum(np.matmul(rows, target)[:, :, 0], axis=0)
        last_row = origins - 1 - step  # the truth of this row is the last column known
        at = np.maximum(last_row, 0)
        weights = np.linalg.solve(products[at] + RIDGE * np.eye(size), moments[at][:, :, None])[:, :, 0]  # (k, p)
        forecast[:, :, step - 1] += np.einsum("nkp,kp->nk", latest, weights * (last_row >= 0)[:, None]) * spread
    return np.maximum(forecast, 0.0) ** 2


def _standards(values: Floats, until: int) -> tuple[Floats, Floats, Floats]:
    """Square roots (n, t) carried forward over gaps; their mean and spread (n, 1) in the first ``until`` columns."""
    length = values.shape[1]
    known = np.isfinite(values)
    latest = np.maximum.accumulate(np.where(known, np.arange(length), -1), axis=1)
    root = np.where(latest >= 0, np.sqrt(np.take_along_axis(values, np.maximum(latest, 0), axis=1)), np.nan)
    mean = np.nan_to_num(known_mean(np.sqrt(values[:, :until]), axis=1))[:, None]
    variance = np.nan_to_num(known_mean((np.sqrt(values[:, :until]) - mean) ** 2, axis=1))[:, None]
    # The floor keeps a series that has been constant so far from having no unit at all.
    return root, mean, np.sqrt(variance) + 0.02 * mean + 1e-3


def _features(level: Floats, season: int) -> Floats:
    """Regressors (n, t, p) from standardised ``level`` (n, t), NaN before a series begins."""
    n, length = level.shape
    change = np.full_like(level, np.nan)
    change[:, 1:] = np.diff(level, axis=1)
    own = [_lagged(change, lag) for lag in range(CHANGES)]
    columns = [np.ones_like(level), *own, level]
    if n > 1:
        # With one series the panel's average is the series itself.
        columns += [np.repeat(_average(own[lag])[None, :], n, axis=0) for lag in range(CHANGES - 1)]
        columns.append(np.repeat(_average(level)[None, :], n, axis=0))
    if season > 3:
        angle = 2 * np.pi * np.arange(length) / season
        pairs = HARMONICS if season > LONGEST_UNSMOOTHED_SEASON or season >= 12 else 1
        for pair in range(1, pairs + 1):
            columns += [np.repeat(wave(pair * angle)[None, :], n, axis=0) for wave in (np.sin, np.cos)]
    return np.stack(columns, axis=2)


def _lagged(values: Floats, lag: int) -> Floats:
    moved = np.full_like(values, np.nan)
    moved[:, lag:] = values[:, : values.shape[1] - lag]
    return moved


def _average(values: Floats) -> Floats:
    """Mean over series (t,) of what is known; 0, the neutral value, where nothing is."""
    known = np.isfinite(values)
    mean: Floats = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean
