"""What weighting past outbreaks down does to a series that had none.

Farrington's reweighting takes every week whose standardised Anscombe residual exceeds a bound for a past outbreak.
Quiet weeks exceed it, too, the more often the more skewed the counts are, so that mean and above all dispersion come
out too low: by 3 % for large counts, by a third for a count of one a week with dispersion 5. The usual remedy for a
robust estimator is a consistency factor (Huber and Ronchetti 2009, Robust Statistics, section 5.2): the value the
estimator takes for quiet counts, divided by the truth. It is computed here from the negative-binomial probabilities
on a grid, and interpolated.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MEANS = np.geomspace(0.05, 200.0, 14)
DISPERSIONS = np.geomspace(1.0, 16.0, 7)
FIXED_POINT_STEPS = 4


def undo_reweighting(mean: FloatArray, dispersion: FloatArray, bound: float) -> tuple[FloatArray, FloatArray]:
    """Factors by which to multiply a reweighted mean and a reweighted Pearson dispersion of quiet weeks.

    ``mean``, ``dispersion``: (m,) as estimated with weights, the dispersion not cut off at 1. Outside the grid (means
    0.05 to 200, dispersions 1 to 16) the nearest edge is used.
    """
    mean_factors, dispersion_factors = _factors(bound)
    true_mean, true_dispersion = mean, np.maximum(dispersion, 1.0)
    for _ in range(FIXED_POINT_STEPS):
        at = _position(true_mean, MEANS), _position(true_dispersion, DISPERSIONS)
        mean_factor, dispersion_factor = _interpolated(mean_factors, *at), _interpolated(dispersion_factors, *at)
        true_mean = mean / mean_factor
        true_dispersion = np.maximum(dispersion / dispersion_factor, 1.0)
    return 1.0 / mean_factor, 1.0 / dispersion_factor


@functools.cache
def _factors(bound: float) -> tuple[FloatArray, FloatArray]:
    """What a reweighted fit makes of a quiet series, relative to the truth; rows are means, columns dispersions."""
    from scipy.special import gammaln

    mean_factors = np.ones((MEANS.size, DISPERSIONS.size))
    dispersion_factors = np.ones_like(mean_factors)
    for i, mean in enumerate(MEANS):
        for j, dispersion in enumerate(DISPERSIONS):
            y = np.arange(np.ceil(mean + 8.0 * np.sqrt(dispersion * mean) + 12.0 * dispersion))
            if dispersion == 1.0:
                log_probability = y * np.log(mean) - mean - gammaln(y + 1.0)
            else:
                size = mean / (dispersion - 1.0)
                log_probability = (
                    gammaln(y + size)
                    - gammaln(size)
                    - gammaln(y + 1.0)
                    - size * np.log(dispersion)
                    + y * np.log1p(-1.0 / dispersion)
                )
            probability = np.exp(log_probability)
            residual = 1.5 * (np.cbrt(y) ** 2 / mean ** (1 / 6) - np.sqrt(mean)) / np.sqrt(dispersion)
            weight = np.where(residual > bound, 1.0 / np.maximum(residual, 1e-9) ** 2, 1.0)
            weight *= probability
            weight /= weight.sum()
            fitted = float(weight @ y)
            mean_factors[i, j] = fitted / mean
            dispersion_factors[i, j] = float(weight @ (y - fitted) ** 2) / fitted / dispersion
    return mean_factors, dispersion_factors


def _position(value: FloatArray, grid: FloatArray) -> FloatArray:
    """Fractional index of ``value`` on a geometric ``grid``, kept inside it."""
    step = np.log(grid[1] / grid[0])
    safe = np.where(value > 0, value, grid[0])
    position: FloatArray = np.clip(np.log(safe / grid[0]) / step, 0.0, grid.size - 1.0)
    return position


def _interpolated(table: FloatArray, row: FloatArray, column: FloatArray) -> FloatArray:
    i, j = np.minimum(row.astype(int), len(table) - 2), np.minimum(column.astype(int), table.shape[1] - 2)
    u, v = row - i, column - j
    lower = (1 - v) * table[i, j] + v * table[i, j + 1]
    upper = (1 - v) * table[i + 1, j] + v * table[i + 1, j + 1]
    value: FloatArray = (1 - u) * lower + u * upper
    return value
