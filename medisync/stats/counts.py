"""Low counts: a negative-binomial model with harmonics, and quantiles that are whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medisync.stats.scores import known_mean
from medisync.stats.series import checked_horizon

Floats = NDArray[np.float64]

HARMONICS = 2
RIDGE = 2.0
"""Penalty on each harmonic coefficient of the log mean: as if it had been seen near 0 with standard deviation 0.7."""
ROUNDS = 12
LARGEST_DISPERSION = 5.0
PRIOR_PERIODS = 100
LARGEST_EXACT_MEAN = 1000.0
"""Above this the normal distribution with the same mean and variance is used."""


def count_regression_forecast(values: Floats, season: int, horizon: int) -> Floats:
    """Expected counts (n, horizon) from ``values`` (n, t), NaN where missing, by a log-linear model with harmonics.

    Iteratively reweighted least squares of a negative-binomial model (Hilbe 2011, "Negative Binomial Regression",
    chapter 8) whose dispersion is estimated by moments. With less than two seasons of history the model is the mean.
    """
    horizon = checked_horizon(horizon)
    length = values.shape[1]
    pairs = min(HARMONICS, (season - 1) // 2) if length >= 2 * season else 0
    design = _harmonics(np.arange(length + horizon), season, pairs)
    known = np.isfinite(values)
    counts = np.where(known, values, 0.0)
    mean = np.nan_to_num(known_mean(values, axis=1))
    coefficients = np.zeros((len(values), design.shape[1]))
    coefficients[:, 0] = np.log(np.maximum(mean, 0.5 / np.maximum(known.sum(axis=1), 1)))
    penalty = RIDGE * np.eye(design.shape[1])
    penalty[0, 0] = 1e-9
    past = design[:length]
    outer = np.einsum("tp,tq->tpq", past, past).reshape(length, -1)
    dispersion = np.zeros(len(values))
    for _ in range(ROUNDS if pairs else 0):
        expected = np.exp(np.clip(coefficients @ past.T, -20, 20))
        dispersion = _moment_dispersion(counts, expected, known)
        weight = known * expected / (1 + dispersion[:, None] * expected)
        working = coefficients @ past.T + (counts - expected) / expected
        gram = (weight @ outer).reshape(len(values), *penalty.shape) + penalty
        coefficients = np.linalg.solve(gram, ((weight * working) @ past)[:, :, None])[:, :, 0]
        coefficients = np.clip(coefficients, -15, 15)
    forecast = np.exp(np.clip(coefficients @ design[length:].T, -20, 20))
    forecast = np.where(mean[:, None] > 0, forecast, 0.0)
    forecast[~known.any(axis=1)] = np.nan
    return forecast


def negative_binomial_quantiles(history: Floats, forecast: Floats, levels: Sequence[float] | Floats) -> Floats:
    """Quantiles (n, h, levels), whole numbers, of counts expected to be ``forecast`` (n, h) after ``history`` (n, t).

    The mean itself is uncertain: with ``m`` observed periods it counts as Gamma distributed with half an event added,
    so that a series of zeros does not promise zero for ever. Dispersion by moments from the history, shrunk towards
    the panel's. NaN where the forecast is.
    """
    known = np.isfinite(history)
    periods = np.maximum(known.sum(axis=1), 1)
    mean = np.nan_to_num(known_mean(history, axis=1))
    dispersion = _shrunk_dispersion(np.where(known, history, 0.0), np.maximum(mean, 1e-9)[:, None], known)
    wanted = np.isfinite(forecast)
    expected = np.where(wanted, np.maximum(forecast, 0.0), 0.0) + 0.5 / periods[:, None]
    # The variance of a Gamma with shape (events + 1/2) adds 1 / shape to the dispersion.
    total = dispersion[:, None] + 1 / (expected * periods[:, None])
    result = _quantiles(expected[wanted], total[wanted], np.asarray(levels, dtype=float))
    full = np.full((*forecast.shape, len(levels)), np.nan)
    full[wanted] = result
    return full


def _quantiles(mean: Floats, dispersion: Floats, levels: Floats) -> Floats:
    """Smallest whole numbers (r, levels) whose negative-binomial distribution function reaches ``levels``."""
    from scipy.special import ndtri

    spread = np.sqrt(mean + dispersion * mean**2)
    result: Floats = np.maximum(np.round(mean[:, None] + spread[:, None] * ndtri(levels)), 0.0)
    rows = np.flatnonzero(mean <= LARGEST_EXACT_MEAN)
    size = 1 / np.maximum(dispersion, 1e-8)
    log_mass = -size * np.log1p(mean / size)
    log_odds = np.log(mean) - np.log(size + mean)
    distribution, count = np.zeros(len(mean)), 0
    found = np.zeros(result.shape, dtype=bool)
    while len(rows):
        distribution[rows] += np.exp(log_mass[rows])
        reached = (distribution[rows, None] >= levels - 1e-12) & ~found[rows]
        result[rows] = np.where(reached, count, result[rows])
        found[rows] |= reached
        count += 1
        # Rounding may keep the sum just below a high level: far in the tail the search ends.
        rows = rows[~found[rows].all(axis=1) & (count < mean[rows] + 40 * spread[rows] + 40)]
        log_mass[rows] += np.log((size[rows] + count - 1) / count) + log_odds[rows]
    return result


def _shrunk_dispersion(counts: Floats, expected: Floats, known: NDArray[np.bool_]) -> Floats:
    """Dispersion (n,) of each series, drawn towards the panel's as if that had been seen in 100 more periods."""
    excess = np.where(known, (counts - expected) ** 2 - expected, 0.0).sum(axis=1)
    square = np.where(known, expected**2, 0.0).sum(axis=1)
    common = np.clip(excess.sum() / max(float(square.sum()), 1e-9), 0.0, LARGEST_DISPERSION)
    prior = PRIOR_PERIODS * expected[:, 0] ** 2
    shrunk: Floats = np.clip((excess + common * prior) / np.maximum(square + prior, 1e-9), 0.0, LARGEST_DISPERSION)
    return shrunk


def _moment_dispersion(counts: Floats, expected: Floats, known: NDArray[np.bool_]) -> Floats:
    """Dispersion (n,) with variance ``mean + dispersion * mean**2``; 0 for Poisson or less, at most 5."""
    excess = np.where(known, (counts - expected) ** 2 - expected, 0.0).sum(axis=1)
    square = np.where(known, expected**2, 0.0).sum(axis=1)
    dispersion: Floats = np.clip(excess / np.maximum(square, 1e-9), 0.0, LARGEST_DISPERSION)
    return dispersion


def _harmonics(time: NDArray[np.intp], season: int, pairs: int) -> Floats:
    """Design (t, 1 + 2 * pairs): a constant and sine-cosine pairs of the season."""
    angle = 2 * np.pi * time / max(season, 1)
    return np.stack(
        [np.ones(len(time)), *(wave(k * angle) for k in range(1, pairs + 1) for wave in (np.sin, np.cos))], 1
    )
