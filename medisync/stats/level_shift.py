"""Level shifts: the last periods lie so far off that the past no longer says where the series is.

A backtest over a year cannot see a change a few weeks old, and a mean would be wrong for months. So what came in the
last eight, and in the last two periods is held against what the method had expected of them: where it is off by more
than its usual errors make credible, the forecast of then is put right by the mean of its latest errors (an intercept
correction: Clements and Hendry 1996, Journal of Applied Econometrics 11, 475-494), which keeps season and weekdays, and
its intervals become wider by what so few errors leave uncertain. "Usual" are those of all past origins but the newest
quarter, which the shift may have reached already. This is for methods that may follow a new level slowly, if at all;
the others would be put right twice, and take the rise of an epidemic for a level. Whether a shift lasts nobody knows:
who shows the forecast has to say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medisync.stats.intervals import ErrorModel
from medisync.stats.scores import known_mean
from medisync.stats.series import LONGEST_HORIZON, SHORTEST_HISTORY

Floats = NDArray[np.float64]

WINDOWS = ((8, 4), (2, 2))
"""Periods looked at together, and of how many of them the errors put the forecast right."""
BY_CHANCE = 1e-4
"""A mean error at least as large as chance (Student) gives with this probability is a shift."""
SMALLEST_SPREAD = 0.25
"""Half of what chance alone makes of a count, on the square-root scale: errors within it are never a shift."""
FEWEST_ORIGINS = 10
"""Past origins a series needs before anything about it counts as unusual."""


@dataclass(frozen=True)
class LevelShift:
    """``forecast`` (n, h) put right, NaN without a shift; ``errors`` (n,) how many put it right, infinite without.

    ``percent`` (n,) by how much the last periods lie above what was expected of them, NaN without a shift.
    """

    forecast: Floats
    errors: Floats
    percent: Floats

    def moved(self, forecast: Floats) -> Floats:
        """``forecast`` (n, h), and where there is a shift the one put right."""
        result: Floats = np.where(np.isfinite(self.forecast), self.forecast, forecast)
        return result

    def widened(self, model: ErrorModel) -> ErrorModel:
        """``model`` that allows for how uncertain the shift itself is."""
        return replace(model, factor=model.factor * (1 + 1 / self.errors))


def no_shift(n: int, horizon: int) -> LevelShift:
    """None of ``n`` series has shifted."""
    return LevelShift(np.full((n, horizon), np.nan), np.full(n, np.inf), np.full(n, np.nan))


def level_shift(
    values: Floats, horizon: int, forecasts_from: Callable[[int, int], Floats], past_errors: Floats, step: int
) -> LevelShift:
    """What of ``values`` (n, t) has shifted at its end, and forecasts for ``horizon`` periods that allow for it.

    ``forecasts_from(origin, periods)`` gives what the method would have forecast (n, periods) after ``origin`` columns;
    ``past_errors`` (n, k, h) are its errors on the square-root scale from past origins, oldest first, NaN where
    unknown, the origins ``step`` periods apart.
    """
    from scipy.special import stdtrit

    length = values.shape[1]
    shift = no_shift(len(values), horizon)
    usual = past_errors[:, : past_errors.shape[1] * 3 // 4]
    for periods, latest in WINDOWS:
        if length < periods + SHORTEST_HISTORY or periods + horizon > LONGEST_HORIZON:
            continue
        made = np.sqrt(forecasts_from(length - periods, periods + horizon))
        error = np.sqrt(values[:, -periods:]) - made[:, :periods]
        paths = known_mean(usual[:, :, :periods], axis=2)
        spread = np.sqrt(known_mean(paths**2, axis=1))
        origins = np.isfinite(paths).sum(axis=1)
        last = error[:, -latest:]
        independent = np.maximum(origins * min(step / periods, 1.0), 1.0)
        limit = stdtrit(independent, 1 - BY_CHANCE / 2) * np.maximum(spread, SMALLEST_SPREAD)
        found = (origins >= FEWEST_ORIGINS) & np.isfinite(last).all(axis=1) & ~np.isfinite(shift.errors)
        found &= np.abs(known_mean(error, axis=1)) > limit
        # One extraordinary period is an outlier, no new level.
        found &= np.abs(last).min(axis=1) > np.abs(last.mean(axis=1)) / 2
        right = np.maximum(made[:, periods:] + last.mean(axis=1, keepdims=True), 0.0) ** 2
        expected = (made[:, periods - latest : periods] ** 2).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            percent = 100 * (values[:, -latest:].sum(axis=1) / expected - 1)
        shift = LevelShift(
            np.where(found[:, None], right, shift.forecast),
            np.where(found, latest, shift.errors),
            np.where(found & np.isfinite(percent), percent, shift.percent),
        )
    return shift
