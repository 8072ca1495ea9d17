"""How good a forecast was: scaled errors, interval scores, coverage. Lower is better for every error and score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError

Floats = NDArray[np.float64]

LEVELS: tuple[float, ...] = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
"""Quantile levels every forecast carries: the median and the 50, 80 and 95 % intervals."""


def checked_levels(levels: Sequence[float]) -> Floats:
    """Increasing levels inside (0, 1), symmetric round the median they contain; else :class:`ParameterError`."""
    given = np.asarray(levels, dtype=float)
    symmetric = given.ndim == 1 and given.size > 0 and bool(np.allclose(given + given[::-1], 1.0))
    if not (symmetric and given[0] > 0 and bool((np.diff(given) > 0).all()) and given.size % 2 == 1):
        raise ParameterError("Quantile levels must increase, lie inside 0 and 1, and be symmetric round 0.5.")
    return given


def naive_scale(values: Floats, season: int) -> Floats:
    """Mean absolute seasonal difference (n,) of ``values`` (n, t), the denominator of MASE.

    Hyndman and Koehler (2006), International Journal of Forecasting 22, 679-688. With no pair of values one season
    apart, differences of neighbours; NaN where these are missing, too, or where all differences are 0.
    """
    scale = np.full(len(values), np.nan)
    for lag in (season, 1):
        if lag < 1 or values.shape[1] <= lag:
            continue
        differences = np.abs(values[:, lag:] - values[:, :-lag])
        known = np.isfinite(differences)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(known, differences, 0.0).sum(axis=1) / known.sum(axis=1)
        scale = np.where(np.isfinite(scale), scale, mean)
    return np.where(scale > 0, scale, np.nan)


def interval_coverage(quantiles: Floats, truth: Floats, levels: Sequence[float] = LEVELS) -> dict[int, float]:
    """Percent of ``truth`` (...) inside each central interval of ``quantiles`` (..., levels), by nominal percent.

    NaN where nothing is known. The bounds belong to the interval.
    """
    given = checked_levels(levels)
    result: dict[int, float] = {}
    for i in range(len(given) // 2):
        lower, upper = quantiles[..., i], quantiles[..., len(given) - 1 - i]
        known = np.isfinite(truth) & np.isfinite(lower) & np.isfinite(upper)
        inside = (truth >= lower) & (truth <= upper) & known
        result[round(100 * (1 - 2 * given[i]))] = float(100 * inside.sum() / known.sum()) if known.any() else np.nan
    return dict(sorted(result.items()))


def weighted_interval_score(quantiles: Floats, truth: Floats, levels: Sequence[float] = LEVELS) -> Floats:
    """Weighted interval score (...) of ``quantiles`` (..., levels) against ``truth`` (...), in units of the truth.

    Bracher, Ray, Gneiting and Reich (2021), PLOS Computational Biology 17, e1008618; computed as twice the mean
    quantile loss, which is the same for symmetric levels with the median.
    """
    given = checked_levels(levels)
    error = truth[..., None] - quantiles
    score: Floats = 2 * np.maximum(given * error, (given - 1) * error).mean(axis=-1)
    return score


def known_mean(values: Floats, axis: int | tuple[int, ...] | None = None) -> Floats:
    """Mean of the finite entries along ``axis``; NaN, without a warning, where there is none."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.asarray(np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis))
    return mean
