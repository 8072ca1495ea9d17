"""How far two groups of patients differ, in units that do not depend on how many there are.

A standardised difference of 0.1 is commonly taken as negligible (Austin 2009, Stat Med 28:3083, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.association import checked_counts, measure_association, noncentrality_interval

NEGLIGIBLE = 0.1
ROUNDING = 1e-9


@dataclass(frozen=True)
class StandardisedDifference:
    """``value`` with the interval ``low`` to ``high`` and the p-value of "no difference"; NaN where undefined.

    Of a mean it is signed (now minus before); of a distribution over categories it is at least 0.
    """

    value: float
    low: float
    high: float
    p_value: float


UNDEFINED = StandardisedDifference(math.nan, math.nan, math.nan, math.nan)


def difference_of_means(
    mean_now: float,
    sd_now: float,
    n_now: float,
    mean_before: float,
    sd_before: float,
    n_before: float,
    *,
    confidence: float = 0.95,
) -> StandardisedDifference:
    """(mean now - mean before) / sqrt((variance now + variance before) / 2), as in Austin (2009, section 2).

    Interval and p-value are normal with the variance of Hedges and Olkin (1985, Statistical Methods for
    Meta-Analysis, p. 86): (n1+n2)/(n1 n2) + d^2 / (2 (n1+n2)). Undefined (NaN) with fewer than two cases on a side or
    no spread at all. Raises :class:`~medisync.errors.SeriesError` for a negative count or standard deviation.
    """
    from scipy.special import ndtr, ndtri

    _check_confidence(confidence)
    if min(n_now, n_before) < 0 or min(sd_now, sd_before) < 0:
        raise SeriesError("Numbers of cases and standard deviations cannot be negative.")
    pooled_variance = (sd_now**2 + sd_before**2) / 2
    if not min(n_now, n_before) >= 2 or not math.isfinite(mean_now - mean_before) or not pooled_variance > 0:
        return UNDEFINED
    value = (mean_now - mean_before) / math.sqrt(pooled_variance)
    n_both = n_now + n_before
    standard_error = math.sqrt(n_both / (n_now * n_before) + value**2 / (2 * n_both))
    reach = float(ndtri((1 + confidence) / 2)) * standard_error
    p_value = 2 * float(ndtr(-abs(value) / standard_error))
    return StandardisedDifference(value, value - reach, value + reach, p_value)


def difference_of_shares(
    counts_now: Sequence[float] | NDArray[np.generic],
    counts_before: Sequence[float] | NDArray[np.generic],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> StandardisedDifference:
    """Difference of two distributions over the same k categories, at least 0.

    The Mahalanobis distance d of the shares with the mean of the two multinomial covariances (Yang and Dalton 2012,
    SAS Global Forum paper 335, eq. 3). N d^2 with N = n1 n2/(n1+n2) is about non-central chi-square with k-1 degrees
    of freedom: that gives the interval, and its mean k-1 without any difference is taken off, since d would otherwise
    grow with the number of categories and shrinking groups: value^2 = max(0, d^2 - (k-1)/N). p-value:
    :func:`~medisync.stats.association.measure_association` of the 2 x k table. Categories without
    a case on either side are left out; undefined (NaN) when a side is empty or only one category is left; infinite
    when each side keeps to one category of its own.

    Raises :class:`~medisync.errors.SeriesError` for counts that are missing, negative, fractional or of different
    length.
    """
    _check_confidence(confidence)
    now, before = checked_counts(counts_now, dimensions=1), checked_counts(counts_before, dimensions=1)
    if now.shape != before.shape:
        raise SeriesError("The two distributions must have the same categories.")
    used = now + before > 0
    now, before = now[used], before[used]
    n_now, n_before = float(now.sum()), float(before.sum())
    if n_now == 0 or n_before == 0 or now.size < 2:
        return UNDEFINED
    p_now, p_before = now / n_now, before / n_before
    p_value = measure_association(np.vstack([now, before]), seed=seed).p_value
    covariance = np.mean([np.diag(p) - np.outer(p, p) for p in (p_now, p_before)], axis=0)[:-1, :-1]
    gap = (p_now - p_before)[:-1]  # the last category follows from the others
    inverse = np.linalg.pinv(covariance, hermitian=True)
    if np.abs(covariance @ inverse @ gap - gap).max() > ROUNDING:
        return StandardisedDifference(math.inf, math.nan, math.inf, p_value)
    distance_square = max(0.0, float(gap @ inverse @ gap))
    weight = n_now * n_before / (n_now + n_before)
    low, high = (
        math.sqrt(end / weight)
        for end in noncentrality_interval(weight * distance_square, now.size - 1, confidence=confidence)
    )
    value = math.sqrt(max(0.0, distance_square - (now.size - 1) / weight))
    return StandardisedDifference(value, min(low, value), max(high, value), p_value)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ParameterError("The confidence level must lie between 0 and 1.")
