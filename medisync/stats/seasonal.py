"""The seasonal pattern of many series at once: centred moving averages, shrunk towards "no season".

Indices are averages of ratios (or differences) to a centred moving average, as in the classical decomposition, and
are then pulled towards no season by as much as their own noise suggests: Miller and Williams (2003), "Shrinkage
estimators of time series seasonal factors", International Journal of Forecasting 19, 669-684, with the positive-part
James-Stein weight. Long seasons (weekly data) are first smoothed along the year, because four observations per week of
the year say little about that week alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LONGEST_UNSMOOTHED_SEASON = 24
"""Seasons longer than this are smoothed by harmonics before they are shrunk."""

HARMONICS = 3
"""Harmonic pairs kept of a long season: a winter peak, its width and its asymmetry."""


@dataclass(frozen=True)
class Seasonality:
    """Seasonal indices of ``n`` series.

    ``indices`` has shape (n, season), entry ``j`` belonging to every column ``t`` with ``t % season == j``;
    ``weight`` (n,) is the share of the raw pattern that survived shrinking, 0 where there is no season.
    """

    indices: Floats
    weight: Floats
    kind: Literal["additive", "multiplicative"]

    def at(self, columns: NDArray[np.intp]) -> Floats:
        """Indices (n, len(columns)) at the given columns; columns past the end are the future."""
        return self.indices[:, columns % self.indices.shape[1]]

    def remove(self, values: Floats) -> Floats:
        """``values`` (n, t) without their season."""
        pattern = self.at(np.arange(values.shape[1]))
        return values - pattern if self.kind == "additive" else values / pattern

    def restore(self, values: Floats, first_column: int) -> Floats:
        """Put the season back on ``values`` (n, h) whose first column is ``first_column``."""
        pattern = self.at(first_column + np.arange(values.shape[1]))
        return values + pattern if self.kind == "additive" else values * pattern


def moving_average(values: Floats, season: int) -> Floats:
    """Centred moving average (n, t) over one season, half weights at both ends if ``season`` is even.

    A window counts if at least three quarters of its weight is observed and it lies between the first and the last
    observation; elsewhere NaN.
    """
    weights = np.ones(season + 1) if season % 2 == 0 else np.ones(season)
    if season % 2 == 0:
        weights[0] = weights[-1] = 0.5
    width, half = len(weights), len(weights) // 2
    result = np.full_like(values, np.nan)
    if values.shape[1] < width:
        return result
    known = np.isfinite(values)
    total, weight = _window(np.where(known, values, 0.0), weights), _window(known.astype(float), weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        average = np.where(weight >= 0.75 * weights.sum(), total / weight, np.nan)
    begun, not_over = known.cumsum(axis=1) > 0, known[:, ::-1].cumsum(axis=1)[:, ::-1] > 0
    inside = begun[:, : average.shape[1]] & not_over[:, width - 1 :]
    result[:, half : values.shape[1] - half] = np.where(inside, average, np.nan)
    return result


def _window(values: Floats, weights: Floats) -> Floats:
    """Weighted sums over each full window; equal inner weights allow one cumulative sum."""
    width = len(weights)
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    full: Floats = sums[:, width:] - sums[:, :-width]
    if weights[0] != 1.0:
        full -= (1 - weights[0]) * (values[:, : values.shape[1] - width + 1] + values[:, width - 1 :])
    return full


def seasonal_indices(
    values: Floats, season: int, *, kind: Literal["additive", "multiplicative"] = "multiplicative"
) -> Seasonality:
    """Shrunk seasonal indices of ``values`` (n, t), NaN where missing.

    A series with fewer than two full seasons, or with a moving average that touches 0 under ``multiplicative``, gets
    the neutral pattern and weight 0.
    """
    n, length = values.shape
    neutral = 0.0 if kind == "additive" else 1.0
    none = Seasonality(np.full((n, max(season, 1)), neutral), np.zeros(n), kind)
    if season < 2 or length < 2 * season:
        return none
    trend = moving_average(values, season)
    with np.errstate(invalid="ignore", divide="ignore"):
        detrended = values - trend if kind == "additive" else np.where(trend > 0, values / trend, np.nan)
    cycles = -(-length // season)
    table = np.full((n, cycles * season), np.nan)
    table[:, :length] = detrended
    table = table.reshape(n, cycles, season)
    known = np.isfinite(table)
    count = known.sum(axis=1)
    mean = np.where(known, table, 0.0).sum(axis=1) / np.maximum(count, 1)
    residual = np.where(known, table - mean[:, None, :], 0.0)
    freedom = np.maximum(known.sum(axis=(1, 2)) - season, 1)
    noise = (residual**2).sum(axis=(1, 2)) / freedom
    usable = (count >= 1).all(axis=1) & (known.sum(axis=(1, 2)) >= season) & _two_seasons(values, season)
    index_noise = noise / np.maximum(count.mean(axis=1), 1e-9)
    parameters = season - 1
    if season > LONGEST_UNSMOOTHED_SEASON:
        # Deviations of long seasons are smoothed; the smoother keeps 2 * HARMONICS of season - 1 dimensions.
        mean = _harmonic(mean - neutral, HARMONICS) + neutral
        parameters = 2 * HARMONICS
        # The residual round the smooth pattern is the honest noise: with few cycles the raw one is near 0.
        residual = np.where(known, table - mean[:, None, :], 0.0)
        noise = (residual**2).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)) - parameters, 1)
        index_noise = noise / np.maximum(count.mean(axis=1), 1e-9) * parameters / season
    deviation = mean - mean.mean(axis=1, keepdims=True)
    spread = (deviation**2).sum(axis=1) / season
    expected = index_noise * (1.0 if parameters == 2 * HARMONICS else parameters / season)
    usable &= (spread > 0) & ((count >= 2).all(axis=1) | (season > LONGEST_UNSMOOTHED_SEASON))
    share = np.zeros(n)
    share[usable] = np.maximum(0.0, 1.0 - max(parameters - 2, 1) / parameters * expected[usable] / spread[usable])
    indices = neutral + share[:, None] * np.where(usable[:, None], deviation, 0.0)
    if kind == "multiplicative":
        indices = np.maximum(indices, 0.05)
        indices /= indices.mean(axis=1, keepdims=True)
    return Seasonality(indices, share, kind)


def _two_seasons(values: Floats, season: int) -> NDArray[np.bool_]:
    enough: NDArray[np.bool_] = np.isfinite(values).sum(axis=1) >= 2 * season
    return enough


def _harmonic(pattern: Floats, harmonics: int) -> Floats:
    """``pattern`` (n, season) with only its lowest harmonics kept (a circular least-squares fit)."""
    spectrum = np.fft.rfft(pattern, axis=1)
    spectrum[:, harmonics + 1 :] = 0
    smooth: Floats = np.fft.irfft(spectrum, n=pattern.shape[1], axis=1)
    return smooth
