"""Prediction intervals from what the forecasts missed by in the backtest.

Split-conformal in spirit (Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World"): the quantiles
are those of past errors of this very method at this very horizon. Three things make few errors go far:

* errors are taken on the square-root scale, where their variance is modelled as ``a + b * forecast`` (for ``b`` = 0
  Poisson-like counts, for ``a`` = 0 errors in proportion to the level), fitted over all series of the panel;
* each series has its own factor on that variance, shrunk towards the panel's;
* standardised errors are pooled over series, and over horizons where they are few, and their quantiles are drawn
  towards those of a Student distribution while there are hardly any.

On the square-root scale no quantile falls below 0, and quantiles are sorted, so that they never cross. Where a count is
expected below 1, or zeros are scattered among larger counts, quantiles are those of a negative-binomial distribution
instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.stats.counts import negative_binomial_quantiles
from medisync.stats.scores import LEVELS, checked_levels, known_mean
from medisync.stats.series import SHORTEST_HISTORY, intermittent

Floats = NDArray[np.float64]

FEWEST_ERRORS = 8
"""With fewer known errors of a panel, intervals are those of counts (negative binomial) instead."""
POOLING_LIMIT = 200
"""With fewer errors at a horizon, the errors of all horizons share one shape."""
FACTOR_PRIOR = 4.0
"""Independent errors the panel's variance counts for beside a series' own."""
SHAPE_PRIOR = 10.0
"""Independent errors the Student quantiles count for beside the observed ones."""
STUDENT_FREEDOM = 8.0
FEWEST_FREEDOM = 3.0
"""Degrees of freedom of the Student quantiles: as many as there are independent errors, within these."""
LARGEST_SQUARE = 25.0
"""Squared standardised errors above this (5 standard deviations) count as this in the variances."""


@dataclass(frozen=True)
class ErrorModel:
    """How wrong one method has been: enough to put quantiles round its next forecasts.

    On the square-root scale the error of series ``i`` at step ``h`` has variance ``factor[i] * (intercept[h] +
    slope[h] * forecast)``; ``standardised`` (n, k, h) are the past errors in that unit, each with a factor that leaves
    its own origin out, NaN where unknown. ``overlap`` as in :class:`~medisync.stats.backtest.Backtest`.
    """

    intercept: Floats
    slope: Floats
    factor: Floats
    standardised: Floats
    overlap: int

    @property
    def shared(self) -> float:
        """How many series of the panel err together, from 1 (independent of each other) to ``n`` (all alike).

        The usual design effect ``1 + (n - 1) * rho``, with ``rho`` the mean correlation between series.
        """
        n = len(self.standardised)
        if n == 1 or not self.known_errors:
            return 1.0
        total = float(known_mean(self.standardised**2))
        together = float(known_mean(known_mean(self.standardised, axis=0) ** 2))
        return float(np.clip(n * together / total, 1.0, n)) if total > 0 else 1.0

    @property
    def lasting(self) -> float:
        """How many steps of a path err together, from 1 (each on its own) to ``h`` (a level missed is missed at all).

        The same design effect over the steps from one origin.
        """
        horizon = self.standardised.shape[2]
        if horizon == 1 or not self.known_errors:
            return 1.0
        total = float(known_mean(self.standardised**2))
        together = float(known_mean(known_mean(self.standardised, axis=2) ** 2))
        return float(np.clip(horizon * together / total, 1.0, horizon)) if total > 0 else 1.0

    @property
    def known_errors(self) -> int:
        """Number of errors behind the model."""
        return int(np.isfinite(self.standardised).sum())

    def spread(self, forecast: Floats) -> Floats:
        """Standard deviation (n, h) of the error on the square-root scale."""
        variance = self.factor[:, None] * (self.intercept + self.slope * forecast)
        spread: Floats = np.sqrt(variance)
        return spread

    def shape(self, levels: Sequence[float]) -> Floats:
        """Quantiles (h, levels) of the standardised error, the median at 0."""
        from scipy.special import stdtrit

        given = np.asarray(levels, dtype=float)
        pooled = self.standardised[np.isfinite(self.standardised)]
        shared = self.shared

        def drawn_together(errors: Floats, alike: float) -> Floats:
            independent = len(errors) / self.overlap / shared / alike
            weight = independent / (independent + SHAPE_PRIOR)
            # Few errors tell little about their own spread, either: quantiles of a Student variable allow for that.
            student = stdtrit(np.clip(independent, FEWEST_FREEDOM, STUDENT_FREEDOM), given)
            # The median stays at the forecast: a past bias is more often luck than a promise.
            *observed, median = np.quantile(errors, [*given, 0.5])
            row: Floats = weight * (np.asarray(observed) - median) + (1 - weight) * student
            return row

        common = drawn_together(pooled, self.lasting) if len(pooled) else stdtrit(STUDENT_FREEDOM, given)
        rows = []
        for h in range(self.standardised.shape[2]):
            own = self.standardised[:, :, h]
            own = own[np.isfinite(own)]
            rows.append(drawn_together(own, 1.0) if len(own) >= POOLING_LIMIT else common)
        return np.asarray(rows)


def fit_error_model(truth: Floats, forecasts: Floats, overlap: int = 1) -> ErrorModel:
    """The error model of past ``forecasts`` (n, k, h) against ``truth`` (n, k, h), both NaN where unknown."""
    n, _, horizon = truth.shape
    error = np.sqrt(truth) - np.sqrt(forecasts)
    square = error**2
    intercept, slope = np.zeros(horizon), np.zeros(horizon)
    steps = _mean_squares(square)
    if np.isfinite(square).sum() // max(horizon, 1) >= POOLING_LIMIT:
        for h in range(horizon):
            intercept[h], slope[h] = _variance_line(forecasts[:, :, h], square[:, :, h] / steps[h])
    else:
        intercept[:], slope[:] = _variance_line(forecasts, square / steps)
    intercept, slope = intercept * steps, slope * steps
    variance = intercept + slope * forecasts
    ratio = np.minimum(square / variance, LARGEST_SQUARE)
    known = np.isfinite(ratio)
    by_origin, count_by_origin = np.where(known, ratio, 0.0).sum(axis=2), known.sum(axis=2)
    total, count = by_origin.sum(axis=1), count_by_origin.sum(axis=1)
    prior = FACTOR_PRIOR * overlap if n > 1 else 0.25 * FACTOR_PRIOR * overlap
    others = (total[:, None] - by_origin + prior) / (count[:, None] - count_by_origin + prior)
    return ErrorModel(
        intercept=intercept,
        slope=slope,
        factor=(total + prior) / (count + prior),
        standardised=error / np.sqrt(variance * others[:, :, None]),
        overlap=overlap,
    )


def prediction_quantiles(
    model: ErrorModel, forecast: Floats, levels: Sequence[float] = LEVELS, *, history: Floats | None = None
) -> Floats:
    """Quantiles (n, h, levels) round ``forecast`` (n, h): at least 0, increasing, NaN where the forecast is.

    ``history`` (n, t), given for counts, switches on negative-binomial quantiles where fewer than one event a period
    is expected, where the series is intermittent, or where the model knows too few errors.
    """
    given = checked_levels(levels)
    centre = np.sqrt(forecast)[:, :, None]
    root = centre + model.spread(forecast)[:, :, None] * model.shape(given.tolist())[None, :, :]
    quantiles = np.sort(np.maximum(root, 0.0) ** 2, axis=2)
    if history is not None:
        short = np.isfinite(history).sum(axis=1) < SHORTEST_HISTORY
        few = short | intermittent(history) | (model.known_errors < FEWEST_ERRORS)
        rare = np.isfinite(forecast) & ((forecast < 1) | few[:, None])
        if rare.any():
            counts = negative_binomial_quantiles(history, np.where(rare, forecast, np.nan), given)
            quantiles = np.where(rare[:, :, None], counts, quantiles)
    return quantiles


def sample_paths(
    model: ErrorModel, quantiles: Floats, paths: int, rng: np.random.Generator, levels: Sequence[float] = LEVELS
) -> Floats:
    """Joint sample paths (n, paths, h) whose margins are ``quantiles`` (n, h, levels).

    Neighbouring steps keep the dependence past errors had (Schaake shuffle: Clark, Gangopadhyay, Hay, Rajagopalan and
    Wilby 2004, Journal of Hydrometeorology 5, 243-262): whole past error paths of the series, or of the panel while
    the series has fewer than ten, are drawn and each step's rank decides which quantile it gets.
    """
    given = checked_levels(levels)
    n, horizon, _ = quantiles.shape
    finite = np.isfinite(model.standardised)
    complete = finite.min(axis=2, initial=True)
    everything = model.standardised[complete]
    result = np.empty((n, paths, horizon))
    for i in range(n):
        own = model.standardised[i][complete[i]]
        errors = own if len(own) >= 10 else everything
        if len(errors) >= 2:
            drawn = errors[rng.integers(len(errors), size=paths)]
            drawn = drawn + 1e-6 * rng.standard_normal(drawn.shape)  # breaks ties between repeated draws
        else:
            drawn = rng.standard_normal((paths, horizon))
        rank = drawn.argsort(axis=0).argsort(axis=0)
        chance = (rank + rng.random((paths, horizon))) / paths
        for h in range(horizon):
            result[i, :, h] = _inverse(chance[:, h], given, quantiles[i, h])
    return result


def _inverse(chance: Floats, levels: Floats, quantiles: Floats) -> Floats:
    """Values (paths,) at probabilities ``chance``: linear between the quantiles, the outer slopes go on, at least 0."""
    value = np.interp(chance, levels, quantiles)
    if len(levels) > 1:
        low, high = chance < levels[0], chance > levels[-1]
        # Tails of a normal distribution fitted to the two outer quantiles.
        from scipy.special import ndtri

        for mask, inner, outer in ((low, 1, 0), (high, -2, -1)):
            unit = (quantiles[outer] - quantiles[inner]) / (ndtri(levels[outer]) - ndtri(levels[inner]))
            value[mask] = quantiles[outer] + unit * (ndtri(chance[mask]) - ndtri(levels[outer]))
    return np.maximum(value, 0.0)


def _mean_squares(square: Floats) -> Floats:
    """Mean squared error (h,) by step, drawn towards a straight line in the step where there are few errors."""
    horizon = square.shape[2]
    raw, count = known_mean(square, axis=(0, 1)), np.isfinite(square).sum(axis=(0, 1))
    overall = known_mean(square).item() if count.any() else 1.0
    if not np.isfinite(overall) or overall <= 0:
        overall = 1e-9
    step = np.arange(horizon)
    line = np.full(horizon, overall)
    if (count > 0).sum() >= 3:
        line = np.polyval(np.polyfit(step[count > 0], raw[count > 0], 1, w=np.sqrt(count[count > 0])), step)
    line = np.clip(line, 0.5 * overall, 3 * overall)
    result: Floats = (np.where(count > 0, raw, 0.0) * count + 100 * line) / (count + 100)
    return np.maximum(result, 1e-12)


def _variance_line(forecast: Floats, square: Floats) -> tuple[float, float]:
    """Intercept and slope, neither negative, of the variance of the square-root error against the forecast.

    Weighted least squares of squared errors, four rounds with weights from the round before.
    """
    known = np.isfinite(square) & np.isfinite(forecast)
    x, y = forecast[known], square[known]
    if len(y) < 2 or y.mean() <= 0:
        return 1.0, 0.0
    average = float(y.mean())
    intercept, slope = average, 0.0
    if np.ptp(x) <= 1e-9 * max(float(np.abs(x).max()), 1e-300):
        return intercept, slope
    y = np.minimum(y, LARGEST_SQUARE * average)
    for _ in range(4):
        weight = 1 / (intercept + slope * x) ** 2
        s0, s1, s2 = weight.sum(), (weight * x).sum(), (weight * x * x).sum()
        t0, t1 = (weight * y).sum(), (weight * x * y).sum()
        determinant = s0 * s2 - s1 * s1
        intercept, slope = (s2 * t0 - s1 * t1) / determinant, (s0 * t1 - s1 * t0) / determinant
        if slope < 0 or not np.isfinite(slope):
            intercept, slope = t0 / s0, 0.0
        if intercept <= 0:
            intercept, slope = 0.02 * average, t1 / s2
    return float(intercept), float(slope)
