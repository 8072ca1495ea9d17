"""Correction for having looked at many things at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medisync.errors import SeriesError

FloatArray = NDArray[np.float64]


def adjust_benjamini_hochberg(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """P-values adjusted so that rejecting all below ``q`` keeps the expected share of false discoveries at ``q``.

    Step-up procedure of Benjamini and Hochberg (1995, J R Stat Soc B 57:289, Theorem 1); valid for independent and
    for positively dependent tests. NaN means "not tested": it stays NaN and does not count as a test.

    Parameters: ``p_values``, any shape; every value in [0, 1] or NaN. Returns: same shape, float64, capped at 1.
    Raises :class:`~medisync.errors.SeriesError` for a value outside [0, 1].
    """
    given = np.asarray(p_values, dtype=np.float64)
    tested = ~np.isnan(given)
    tests = given[tested]
    if tests.size and not bool(((tests >= 0) & (tests <= 1)).all()):
        raise SeriesError("A p-value lies outside 0 to 1.")
    adjusted = np.full(given.shape, np.nan)
    if tests.size == 0:
        return adjusted
    order = np.argsort(tests, kind="stable")
    scaled = tests[order] * (tests.size / np.arange(1, tests.size + 1))  # in this order never below the p-value
    stepped_up = np.minimum.accumulate(scaled[::-1])[::-1]
    result = np.empty_like(tests)
    result[order] = np.minimum(stepped_up, 1.0)
    adjusted[tested] = result
    return adjusted
