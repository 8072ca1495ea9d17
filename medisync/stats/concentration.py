"""Do a few items make up most of the total? First whether use is even at all, then Pareto's classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.association import RELATIVE_TOLERANCE, SMALLEST_EXPECTED, checked_counts, chi_square_tail

FloatArray = NDArray[np.float64]

DRAWS = 1_999
LARGEST_CLASS_A_OF_A_VITAL_FEW = 0.5
"""Class A is "few" only when it holds at most this share of the items class A would hold if use were even."""


@dataclass(frozen=True)
class Uniformity:
    """Whether items are used equally often. ``cohens_w``: 0.1 is a small departure (Cohen 1988, section 7.2)."""

    chi_square: float
    degrees_of_freedom: int
    p_value: float
    method: Literal["chi-square", "monte-carlo", "none"]
    cohens_w: float


@dataclass(frozen=True)
class Concentration:
    """How a total spreads over items. Arrays have one entry per item given, in the order given.

    ``share`` and ``cumulative_share`` (of the items ranked by count, ties in the order given) lie in 0 to 1;
    ``rank`` gives equal counts the same, lowest rank; ``abc_class`` is "A", "B" or "C". ``gini`` is 0 (even) to
    (k-1)/k (one item has all); ``gini_if_even`` is what sampling alone gives k items used evenly.
    ``class_a_items`` has the bootstrap interval ``class_a_low`` to ``class_a_high``; ``class_a_if_even`` items
    would be needed if use were even.
    """

    total: float
    share: FloatArray
    cumulative_share: FloatArray
    rank: NDArray[np.int64]
    abc_class: NDArray[np.str_]
    gini: float
    gini_if_even: float
    class_a_items: int
    class_a_low: int
    class_a_high: int
    class_a_if_even: int

    @property
    def has_vital_few(self) -> bool:
        """Whether class A is at most half of what it would be under even use, the whole interval included."""
        return self.total > 0 and self.class_a_high <= LARGEST_CLASS_A_OF_A_VITAL_FEW * self.class_a_if_even


def compare_with_uniform(
    counts: Sequence[float] | NDArray[np.generic], *, design_effect: float = 1.0, draws: int = DRAWS, seed: int = 0
) -> Uniformity:
    """Test whether all items are equally frequent: Pearson's chi-square with k-1 degrees of freedom.

    When the expected count is below 5, the p-value comes from ``draws`` multinomial samples. The statistic is divided
    by ``design_effect`` (at least 1, :mod:`medisync.stats.repeated`) before it is judged. Fewer than two items or no
    case: method "none" and NaN.

    Raises :class:`~medisync.errors.SeriesError` for counts that are missing, negative or fractional.
    """
    seen = checked_counts(counts, dimensions=1)
    _check_options(design_effect, draws)
    total, items = float(seen.sum()), seen.size
    if items < 2 or total == 0:
        return Uniformity(math.nan, 0, math.nan, "none", math.nan)
    expected = total / items
    chi_square = float(np.square(seen - expected).sum() / expected)
    corrected = chi_square / design_effect
    w = math.sqrt(chi_square / total)
    if expected >= SMALLEST_EXPECTED:
        return Uniformity(chi_square, items - 1, chi_square_tail(corrected, items - 1), "chi-square", w)
    rng = np.random.default_rng(seed)
    drawn = np.square(rng.multinomial(int(total), np.full(items, 1 / items), size=draws) - expected).sum(axis=1)
    as_extreme = int((drawn / expected >= corrected * (1 - RELATIVE_TOLERANCE)).sum())
    return Uniformity(chi_square, items - 1, (as_extreme + 1) / (draws + 1), "monte-carlo", w)


LARGEST_RESAMPLE = 2**53
"""More events than this are resampled as if they were this many: their shares do not vary any more."""


def measure_concentration(
    counts: Sequence[float] | NDArray[np.generic],
    *,
    class_a_share: float = 0.8,
    class_b_share: float = 0.95,
    design_effect: float = 1.0,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Concentration:
    """Pareto's classes: A holds the fewest items that make up ``class_a_share`` of the total, B up to
    ``class_b_share``, C the rest (Juran 1951, Quality Control Handbook; Dickie 1951, Factory Management 109:92).

    The Gini coefficient is sum((2i-k-1) x_(i)) / (k sum x) with x sorted upwards. The interval of the number of items
    in class A is a percentile interval over ``draws`` multinomial resamples of total / ``design_effect`` cases.

    Raises :class:`~medisync.errors.SeriesError` for counts that are missing, negative or fractional, or no item at
    all; :class:`~medisync.errors.ParameterError` for shares out of order. A total of 0 gives NaN shares, class "C"
    for all and no item in class A.
    """
    seen = checked_counts(counts, dimensions=1)
    _check_options(design_effect, draws)
    if not 0 < class_a_share < class_b_share <= 1:
        raise ParameterError("The shares of classes A and B must increase, above 0 and up to 1.")
    if not 0 < confidence < 1:
        raise ParameterError("The confidence level must lie between 0 and 1.")
    items, total = seen.size, float(seen.sum())
    if items == 0:
        raise SeriesError("There is no item to rank.")
    order = np.argsort(-seen, kind="stable")
    rank = _ranks(seen)
    if total == 0:
        nothing = np.full(items, np.nan)
        classes = np.full(items, "C")
        return Concentration(0.0, nothing, nothing, rank, classes, math.nan, math.nan, 0, 0, 0, 0)

    share = seen / total
    ranked = np.cumsum(seen[order]) / total
    cumulative = np.empty(items)
    cumulative[order] = ranked
    in_a = _items_needed(seen[None, :], class_a_share)[0]
    in_a_and_b = _items_needed(seen[None, :], class_b_share)[0]
    classes = np.full(items, "C")
    classes[order[:in_a_and_b]] = "B"
    classes[order[:in_a]] = "A"

    rng = np.random.default_rng(seed)
    effective = min(max(1, round(total / design_effect)), LARGEST_RESAMPLE)
    resampled = np.sort(_items_needed(rng.multinomial(effective, share, size=draws), class_a_share))
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf")
    even = rng.multinomial(effective, np.full(items, 1 / items), size=min(draws, 200))
    return Concentration(
        total=total,
        share=share,
        cumulative_share=cumulative,
        rank=rank,
        abc_class=classes,
        gini=float(gini(seen[None, :])[0]),
        gini_if_even=float(gini(even).mean()),
        class_a_items=int(in_a),
        class_a_low=int(min(low, in_a)),
        class_a_high=int(max(high, in_a)),
        class_a_if_even=math.ceil(class_a_share * items - RELATIVE_TOLERANCE),
    )


def gini(counts: NDArray[np.generic]) -> FloatArray:
    """Gini coefficient of each row of ``counts`` (samples x items, no row all zero)."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64), axis=-1)
    items = ordered.shape[-1]
    weights = 2 * np.arange(1, items + 1) - items - 1
    coefficient: FloatArray = (ordered * weights).sum(axis=-1) / (items * ordered.sum(axis=-1))
    return coefficient


def _items_needed(counts: NDArray[np.generic], share: float) -> NDArray[np.int64]:
    """For each row the smallest number of items that make up ``share`` of its total."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64), axis=1)[:, ::-1]
    reached = np.cumsum(ordered, axis=1) >= share * ordered.sum(axis=1, keepdims=True) * (1 - 1e-12)
    needed: NDArray[np.int64] = reached.argmax(axis=1).astype(np.int64) + 1
    return needed


def _ranks(counts: FloatArray) -> NDArray[np.int64]:
    downwards = np.sort(-counts)
    return np.searchsorted(downwards, -counts, side="left").astype(np.int64) + 1


def _check_options(design_effect: float, draws: int) -> None:
    if not (math.isfinite(design_effect) and design_effect >= 1):
        raise ParameterError("The design effect must be a number of at least 1.")
    if draws < 99:
        raise ParameterError("Resampling needs at least 99 draws.")
