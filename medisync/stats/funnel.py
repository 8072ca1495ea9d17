"""Funnel plots: units of different size against what all of them share, with limits that widen for small ones.

Proportions are compared on the arcsine scale, where their variance does not depend on the proportion. When units
differ more than chance allows without any standing out, limits are widened by a random effect between them, estimated
from z-scores winsorised at a tenth on each side.

Source: Spiegelhalter (2005), Statistics in Medicine 24:1185-1202 (funnel plots, winsorising); Spiegelhalter,
Sherlaw-Johnson, Bardsley, Blunt, Wood and Grigg (2012), JRSS A 175:1-47, section 4 (the additive random effect).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

WINSORISED_SHARE = 0.1
FEWEST_UNITS = 5
"""With fewer units the spread between them cannot be told from chance, and limits stay as they are."""


@dataclass(frozen=True)
class Funnel:
    """``share``: that of all units together. ``overdispersion``: mean squared winsorised z, 1 by chance.
    ``between_variance``: of the random effect, on the arcsine scale. ``z`` and ``p_values`` are adjusted for it."""

    share: float
    overdispersion: float
    between_variance: float
    z: FloatArray
    p_values: FloatArray

    def limits(self, totals: ArrayLike, level: float) -> tuple[FloatArray, FloatArray]:
        """Between which shares a unit of each size lies with probability ``level`` (0.95, 0.998)."""
        sizes = np.asarray(totals, dtype=np.float64)
        width = stats.norm.ppf(0.5 + level / 2) * np.sqrt(0.25 / sizes + self.between_variance)
        centre = np.arcsin(np.sqrt(self.share))
        low, high = (np.clip(centre + sign * width, 0.0, np.pi / 2) for sign in (-1.0, 1.0))
        return np.sin(low) ** 2, np.sin(high) ** 2


def funnel(events: ArrayLike, totals: ArrayLike) -> Funnel:
    """The funnel of ``events`` among ``totals``, one entry a unit; totals are positive.

    Raises ValueError when a count is negative, above its total or not a number, or there is no unit.
    """
    hits, sizes = _counted(events, totals)
    if hits.size == 0 or not (sizes > 0).all():
        raise ValueError("a funnel needs one unit at least, and positive totals")
    share = float(hits.sum() / sizes.sum())
    variance = 0.25 / sizes
    distance = np.arcsin(np.sqrt(hits / sizes)) - np.arcsin(np.sqrt(share))
    z = distance / np.sqrt(variance)
    low, high = np.quantile(z, [WINSORISED_SHARE, 1 - WINSORISED_SHARE])
    dispersion = float(np.mean(np.clip(z, low, high) ** 2))
    between = 0.0
    if hits.size >= FEWEST_UNITS and hits.size * dispersion > hits.size - 1:
        weights = 1 / variance
        spread = weights.sum() - (weights**2).sum() / weights.sum()
        between = float((hits.size * dispersion - (hits.size - 1)) / spread)
    adjusted = distance / np.sqrt(variance + between)
    return Funnel(share, dispersion, between, adjusted, 2 * stats.norm.sf(np.abs(adjusted)))


def wilson_interval(events: ArrayLike, totals: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Wilson's interval of a share; NaN where the total is 0.

    Raises ValueError when a count is negative, above its total or not a number.

    Source: Wilson (1927), JASA 22:209-212; recommended by Brown, Cai and DasGupta (2001), Statistical Science
    16:101-133.
    """
    hits, sizes = _counted(events, totals)
    z = stats.norm.ppf(0.5 + level / 2)
    n = np.where(sizes > 0, sizes, np.nan)
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def _counted(events: ArrayLike, totals: ArrayLike) -> tuple[FloatArray, FloatArray]:
    hits, sizes = (np.asarray(values, dtype=np.float64) for values in (events, totals))
    if hits.shape != sizes.shape or not ((hits >= 0) & (hits <= sizes) & np.isfinite(sizes)).all():
        raise ValueError("each unit has a count of events between 0 and its total")
    return hits, sizes
