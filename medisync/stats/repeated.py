"""When one patient is counted several times: how much that inflates a chi-square statistic.

Chi-square tests take every count for an independent patient. A patient who comes back, or who has two conditions, is
not. The first-order correction of Rao and Scott (1984, Ann Stat 12:46) divides the statistic by the mean design
effect, estimated here with patients as clusters from three sums per cell, so that nobody has to look at patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import SeriesError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RepeatedCounts:
    """Sums over patients for each cell of a table (arrays of one shape).

    With m a patient's count in the cell and M the same patient's count in the whole table: ``cases`` is the sum of m,
    ``squares`` of m*m, ``products`` of m*M. Every patient counted once: all three are equal.
    """

    cases: FloatArray
    squares: FloatArray
    products: FloatArray

    def __post_init__(self) -> None:
        if not self.cases.shape == self.squares.shape == self.products.shape:
            raise SeriesError("The sums over patients must have one shape.")
        for sums in (self.cases, self.squares, self.products):
            if not np.isfinite(sums).all() or (sums < 0).any():
                raise SeriesError("A sum over patients is missing, infinite or negative.")

    def variance_of_shares(self, total: float, total_squares: float) -> FloatArray:
        """Variance of each cell's share of ``total``; ``total_squares`` is the sum of M*M over patients."""
        share = self.cases / total
        variance: FloatArray = (self.squares - 2 * share * self.products + share**2 * total_squares) / total**2
        return np.maximum(variance, 0.0)


def one_way_design_effect(cells: RepeatedCounts, total_squares: float) -> float:
    """Mean design effect of a comparison of k counts with equal shares; at least 1 (Rao and Scott 1984, section 3)."""
    total = float(cells.cases.sum())
    if cells.cases.size < 2 or total == 0:
        return 1.0
    scaled = total * cells.variance_of_shares(total, total_squares) * cells.cases.size
    return max(1.0, float(scaled.sum()) / (cells.cases.size - 1))


def two_way_design_effect(
    cells: RepeatedCounts, rows: RepeatedCounts, columns: RepeatedCounts, total_squares: float
) -> float:
    """Mean design effect of a test of independence; at least 1 (Rao and Scott 1984, section 4).

    ``cells`` is r x c; ``rows`` (r) and ``columns`` (c) hold the sums of its margins, which do not follow from the
    cells since a patient may be in several. Empty rows and columns do not matter.
    """
    total = float(cells.cases.sum())
    used_rows, used_columns = rows.cases > 0, columns.cases > 0
    freedom = (int(used_rows.sum()) - 1) * (int(used_columns.sum()) - 1)
    if total == 0 or freedom < 1:
        return 1.0

    def scaled(counts: RepeatedCounts, share: FloatArray, used: NDArray[np.bool_]) -> float:
        variance = counts.variance_of_shares(total, total_squares)
        return float((total * variance[used] / share[used]).sum())

    row_share, column_share = rows.cases / total, columns.cases / total
    both = np.outer(row_share, column_share)
    effect = (
        scaled(cells, both, both > 0) - scaled(rows, row_share, used_rows) - scaled(columns, column_share, used_columns)
    ) / freedom
    return max(1.0, effect)
