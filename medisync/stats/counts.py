"""Low counts: a negative-binomial model with harmonics, and quantiles that are whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medisync.stats.scores import known_mean

Floats = NDArray[np.float64]

HARMONICS = 2
RIDGE = 2.0
"""Penalty on each harmonic coefficient of the log mean: as if it had been seen near 0 with standard deviation 0.7."""
ROUNDS = 12
LARGEST_DISPERSION = 5.0


def count_regression_forecast(values: Floats, season: int, horizon: int) -> Floats:
    """Expected counts (n, horizon) from ``values`` (n, t), NaN where missing, by a log-linear model with harmonics.

    Iteratively reweighted least squares of a negative-binomial model (Hilbe 2011, "Negative Binomial Regression",
    chapter 8) whose dispersion is estimated by moments. With less than two seasons of history the model is the mean.
    """
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
    so that a series of zeros does not promise zero for ever. Dispersion by moments from the history. Expectations
    above 1000 are rounded to a normal distribution with the same mean and variance. NaN where the forecast is.
    """
    known = np.isfinite(history)
    periods = np.maximum(known.sum(axis=1), 1)
    mean = np.nan_to_num(known_mean(history, axis=1))
    dispersion = _moment_dispersion(np.where(known, history, 0.0), np.maximum(mean, 1e-9)[:, None], known)
    expected = forecast + 0.5 / periods[:, None]
    # Variance of a Gamma with shape (events + 1/2) adds 1 / shape to the dispersion.
    events = np.maximum(forecast, 0.0) * periods[:, None] + 0.5
    total = dispersion[:, None] + 1 / np.where(np.isfinite(events), events, 1.0)
    result = np.full((*forecast.shape, len(levels)), np.nan)
    for i, h in np.argwhere(np.isfinite(forecast)):
        result[i, h] = _quantiles(float(expected[i, h]), float(total[i, h]), np.asarray(levels, dtype=float))
    return result


def _quantiles(mean: float, dispersion: float, levels: Floats) -> Floats:
    """Smallest whole numbers whose negative-binomial distribution function reaches ``levels``."""
    if mean > 1000:
        from scipy.special import ndtri

        spread = np.sqrt(mean + dispersion * mean**2)
        return np.asarray(np.maximum(np.round(mean + spread * ndtri(levels)), 0.0))
    size = 1 / max(dispersion, 1e-8)
    largest = int(np.ceil(mean + 20 * np.sqrt(mean + dispersion * mean**2) + 20))
    step = np.arange(1, largest + 1)
    log_start = -size * np.log1p(mean / size)
    log_ratio = np.log((size + step - 1) / step) + np.log(mean) - np.log(size + mean)
    distribution = np.cumsum(np.exp(log_start + np.concatenate([[0.0], np.cumsum(log_ratio)])))
    return np.searchsorted(distribution, levels - 1e-12).clip(max=largest).astype(float)


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
