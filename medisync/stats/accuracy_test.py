"""Is one forecast better than another, or was it luck? The test behind "better than the mean"."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from medisync.stats.scores import known_mean

Floats = NDArray[np.float64]

SIGNIFICANCE = 0.05
FEWEST_ORIGINS = 8
"""With fewer origins the test has no say."""


class Verdict(StrEnum):
    """What the accuracy test allows to be said."""

    BETTER = "better than the mean"
    NO_BETTER = "no better than the mean"
    UNTESTED = "too few forecasts to tell"


@dataclass(frozen=True)
class AccuracyTest:
    """Diebold-Mariano test of ``n`` series.

    ``mean_difference`` (n,), loss minus reference loss, negative where the forecast is better; ``statistic`` (n,),
    ``p_value`` (n,) two-sided; NaN with fewer than eight origins. ``origins`` (n,) counts the pairs compared.
    """

    mean_difference: Floats
    statistic: Floats
    p_value: Floats
    origins: NDArray[np.intp]

    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict per series."""
        return tuple(
            Verdict.UNTESTED
            if not np.isfinite(p)
            else Verdict.BETTER
            if p < SIGNIFICANCE and difference < 0
            else Verdict.NO_BETTER
            for p, difference in zip(self.p_value, self.mean_difference, strict=True)
        )


def diebold_mariano(loss: Floats, reference_loss: Floats, overlap: int = 1) -> AccuracyTest:
    """Compare the losses (n, origins) of two forecasts made at the same origins, in order of time, NaN where unknown.

    ``overlap`` is the number of consecutive origins whose forecasts share a period (horizon over step, rounded up):
    losses that far apart are correlated. Diebold and Mariano (1995), Journal of Business and Economic Statistics 13,
    253-263, with the small-sample correction and the t distribution of Harvey, Leybourne and Newbold (1997),
    International Journal of Forecasting 13, 281-291. Where the truncated variance is not positive, Bartlett weights
    keep it so. Two forecasts that never differ get statistic 0 and p-value 1.
    """
    from scipy.special import stdtr

    difference = np.atleast_2d(np.asarray(loss, dtype=float) - np.asarray(reference_loss, dtype=float))
    known = np.isfinite(difference)
    count = known.sum(axis=1)
    enough = count >= FEWEST_ORIGINS
    mean = known_mean(difference, axis=1)
    centred = np.where(known, difference - mean[:, None], 0.0)
    lags = np.minimum(max(int(overlap), 1) - 1, np.maximum(count // 2 - 1, 0))
    safe = np.maximum(count, 1)
    variance = (centred**2).sum(axis=1) / safe
    bartlett = variance.copy()
    for lag in range(1, int(lags.max(initial=0)) + 1):
        covariance = (centred[:, lag:] * centred[:, :-lag]).sum(axis=1) / safe
        variance = variance + 2 * covariance * (lag <= lags)
        bartlett = bartlett + 2 * covariance * (lag <= lags) * (1 - lag / (lags + 1))
    variance = np.where(variance > 0, variance, bartlett)
    same = np.where(known, np.abs(difference), 0.0).max(axis=1, initial=0.0) == 0
    steps = lags + 1
    correction = np.sqrt(np.maximum(safe + 1 - 2 * steps + steps * (steps - 1) / safe, 1.0) / safe)
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = correction * mean / np.sqrt(variance / safe)
    statistic = np.where(same, 0.0, statistic)
    p_value = np.where(np.isfinite(statistic), 2 * stdtr(np.maximum(safe - 1, 1), -np.abs(statistic)), np.nan)
    return AccuracyTest(
        mean_difference=mean,
        statistic=np.where(enough, statistic, np.nan),
        p_value=np.where(enough, p_value, np.nan),
        origins=count,
    )
