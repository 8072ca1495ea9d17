"""Quasi-Poisson regressions by the thousand, in numpy.

The model of one problem is ``log mean = level + slope * time`` with one intercept per level (a season's period) and at
most one slope, Var = dispersion * mean. Such a model's normal equations are an arrow (a diagonal with one border), so
they are solved in closed form for all problems at once: no matrix is ever inverted.

Iteratively reweighted least squares after McCullagh and Nelder (1989, Generalized Linear Models, section 2.5), started
at ``count + 0.1`` and stopped when the deviance changes by less than 1e-8 of itself, the customary rule; the weights
of the last iteration serve for leverages and covariance, as is customary, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

DEVIANCE_TOLERANCE = 1e-8
MAX_ITERATIONS = 25
START_ABOVE_COUNT = 0.1
LARGEST_LOG = 100.0
"""Logarithms of means are kept within: a trend through a single case has no finite slope."""


@dataclass(frozen=True)
class SeasonalDesign:
    """What all problems of a batch share: ``time`` (n,) in weeks before now (negative), ``level`` (n,) from 0."""

    time: FloatArray
    level: IntArray
    levels: int

    @property
    def membership(self) -> FloatArray:
        """(n, levels) zeros and ones."""
        return np.equal(self.level[:, None], np.arange(self.levels)[None, :]).astype(np.float64)


@dataclass(frozen=True)
class QuasiPoissonFit:
    """Fits of m problems over n observations. Everything about "now" is at time 0 and level 0."""

    fitted: FloatArray  # (m, n)
    leverage: FloatArray  # (m, n), hat values
    pearson: FloatArray  # (m,), weighted mean square of Pearson residuals
    relative_dispersion: FloatArray  # (m,), mean square of relative residuals (count - mean) / mean
    slope: FloatArray  # (m,), 0 where there is no trend
    slope_variance: FloatArray  # (m,), for dispersion 1
    mean_now: FloatArray  # (m,)
    log_mean_variance: FloatArray  # (m,), of log mean_now, for dispersion 1
    weeks_now: FloatArray  # (m,), sum of the weights of level 0
    degrees_of_freedom: FloatArray  # (m,)
    converged: NDArray[np.bool_]  # (m,)
    trend: bool

    @property
    def dispersion(self) -> FloatArray:
        """(m,) Pearson's dispersion, at least 1."""
        return np.maximum(self.pearson, 1.0)


def fit_quasipoisson(
    counts: FloatArray,
    weights: FloatArray,
    design: SeasonalDesign,
    *,
    trend: bool,
    start: FloatArray | None = None,
) -> QuasiPoissonFit:
    """Fit every row of ``counts`` (m, n), finite and not negative, with prior ``weights`` (m, n); weight 0 = not there.

    ``start``: (m, n) positive means to start from instead of ``counts + 0.1``.
    A level without a case has its mean driven to 0 as far as the tolerance goes (about 1e-8), never an error.
    """
    m, n = counts.shape
    member = design.membership
    centre = float(design.time.mean())
    time = design.time - centre  # centred: the closed form subtracts squares
    timed_member = member * time[:, None]
    time_squared = time * time
    there = (weights @ member) > 0

    mean = counts + START_ABOVE_COUNT if start is None else start.copy()
    eta = np.log(mean)
    weighted_counts = weights * counts
    with np.errstate(divide="ignore"):
        saturated = np.where(counts > 0, counts * np.log(np.where(counts > 0, counts, 1.0)) - counts, 0.0)
    saturated_sum = np.einsum("mn,mn->m", weights, saturated)
    deviance = _deviance(saturated_sum, weighted_counts, eta, weights, mean)

    intercepts = np.zeros((m, design.levels))
    slope = np.zeros(m)
    work = np.empty((m, n))
    converged = np.zeros(m, dtype=bool)
    active = np.arange(m)
    for iteration in range(MAX_ITERATIONS):
        part = slice(None) if active.size == m else active
        mu, prior, y_weighted = mean[part], weights[part], weighted_counts[part]
        w = prior * mu
        score = y_weighted - w
        if iteration == 0:
            score = score + w * eta
        level_weight, level_score = w @ member, score @ member
        level_weight = np.where(level_weight > 0, level_weight, 1.0)
        step = level_score / level_weight
        if trend:
            level_time = (w @ timed_member) / level_weight
            spread = w @ time_squared - np.einsum("ml,ml->m", level_time**2, level_weight)
            slope_step = (score @ time - np.einsum("ml,ml->m", level_time, level_score)) / np.where(
                spread > 0, spread, np.inf
            )
            step = step - level_time * slope_step[:, None]
            slope[part] = slope_step + (slope[part] if iteration else 0.0)
        intercepts[part] = step + (intercepts[part] if iteration else 0.0)
        new_eta = intercepts[part][:, design.level]
        if trend:
            new_eta += slope[part][:, None] * time[None, :]
        np.clip(new_eta, -LARGEST_LOG, LARGEST_LOG, out=new_eta)
        new_mean = np.exp(new_eta)
        work[part], mean[part] = w, new_mean
        before = deviance[part].copy()
        after = _deviance(saturated_sum[part], y_weighted, new_eta, prior, new_mean)
        deviance[part] = after
        settled = np.abs(after - before) / (np.abs(after) + 0.1) < DEVIANCE_TOLERANCE
        converged[active[settled]] = True
        active = active[~settled]
        if not active.size:
            break
    return _summary(counts, weights, work, mean, intercepts, slope, converged, there, design, time, centre, trend=trend)


def _deviance(
    saturated_sum: FloatArray, weighted_counts: FloatArray, eta: FloatArray, weights: FloatArray, mean: FloatArray
) -> FloatArray:
    fitted = np.einsum("mn,mn->m", weighted_counts, eta) - np.einsum("mn,mn->m", weights, mean)
    deviance: FloatArray = 2.0 * (saturated_sum - fitted)
    return deviance


def _summary(
    counts: FloatArray,
    weights: FloatArray,
    work: FloatArray,
    mean: FloatArray,
    intercepts: FloatArray,
    slope: FloatArray,
    converged: NDArray[np.bool_],
    there: NDArray[np.bool_],
    design: SeasonalDesign,
    time: FloatArray,
    centre: float,
    *,
    trend: bool,
) -> QuasiPoissonFit:
    """Leverages, dispersions and the mean at time 0 of level 0."""
    member = design.membership
    level_weight = np.where(there, work @ member, np.inf)
    now = -centre  # time 0 in centred time
    inverse = 1.0 / level_weight
    leverage_unit = inverse[:, design.level]
    log_mean_variance = inverse[:, 0]
    if trend:
        level_time = (work @ (member * time[:, None])) * inverse
        spread = work @ (time * time) - np.einsum("ml,ml->m", level_time**2, np.where(there, level_weight, 0.0))
        slope_variance = 1.0 / np.where(spread > 0, spread, np.inf)
        distance = time[None, :] - level_time[:, design.level]
        leverage_unit = leverage_unit + distance * distance * slope_variance[:, None]
        log_mean_variance = log_mean_variance + (now - level_time[:, 0]) ** 2 * slope_variance
    else:
        slope_variance = np.full(len(counts), np.inf)
    degrees = (weights > 0).sum(axis=1) - there.sum(axis=1) - (1.0 if trend else 0.0)
    relative = (counts - mean) / mean
    squared = relative * relative
    usable = np.where(degrees > 0, degrees, np.nan)
    pearson = np.einsum("mn,mn->m", work, squared) / usable
    relative_dispersion = np.einsum("mn,mn->m", weights, squared) / usable
    log_now = np.clip(intercepts[:, 0] + slope * now, -LARGEST_LOG, LARGEST_LOG)
    return QuasiPoissonFit(
        fitted=mean,
        leverage=work * leverage_unit,
        pearson=pearson,
        relative_dispersion=relative_dispersion,
        slope=slope,
        slope_variance=slope_variance,
        mean_now=np.where(there[:, 0], np.exp(log_now), np.nan),
        log_mean_variance=np.where(there[:, 0], log_mean_variance, np.nan),
        weeks_now=weights @ member[:, 0],
        degrees_of_freedom=degrees,
        converged=converged,
        trend=trend,
    )
