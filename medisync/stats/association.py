"""Are two classifications associated? Chi-square with expected counts, its exact relatives, and the effect's size.

An association says that two things occur together more or less often than chance explains. It is not a prediction
and not a cause.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError

FloatArray = NDArray[np.float64]
Method = Literal["chi-square", "monte-carlo", "fisher", "none"]

SMALLEST_EXPECTED = 5.0
"""Below it the chi-square distribution is not trusted (Cochran 1954, Biometrics 10:417)."""

MONTE_CARLO_DRAWS = 9_999
MONTE_CARLO_BATCH = 1_000
ENOUGH_AS_EXTREME = 200
LARGEST_MONTE_CARLO_TOTAL = 10**9 - 1
"""numpy's hypergeometric sampler goes no further."""

RELATIVE_TOLERANCE = 1e-7
"""Tables this close in probability or statistic count as equally extreme, so that rounding decides nothing."""


@dataclass(frozen=True)
class Association:
    """What one contingency table says.

    ``p_value`` is NaN and ``method`` "none" when fewer than two rows or columns hold a case (see ``flags``).
    ``cramers_v`` is bias-corrected, 0 (none) to 1 (perfect), with the interval ``cramers_v_low`` to
    ``cramers_v_high``. ``expected`` and ``adjusted_residuals`` have the shape of the table given; empty rows and
    columns hold expected 0 and residual NaN. An adjusted residual is about standard normal without association.
    """

    total: float
    chi_square: float
    degrees_of_freedom: int
    p_value: float
    method: Method
    smallest_expected: float
    design_effect: float
    cramers_v: float
    cramers_v_low: float
    cramers_v_high: float
    expected: FloatArray
    adjusted_residuals: FloatArray
    flags: tuple[str, ...] = ()


def measure_association(
    counts: Sequence[Sequence[float]] | NDArray[np.generic],
    *,
    design_effect: float = 1.0,
    confidence: float = 0.95,
    draws: int = MONTE_CARLO_DRAWS,
    seed: int = 0,
) -> Association:
    """Test a contingency table for association and measure its strength.

    Pearson's chi-square with (r-1)(c-1) degrees of freedom; when any expected count is below 5, Fisher's exact test
    for a 2x2 table and otherwise a Monte Carlo test over at most ``draws`` tables with the same margins (p-value
    (b+1)/(drawn+1), Davison and Hinkley 1997, section 4.2). Strength: Cramér's V with the bias correction of Bergsma
    (2013, J Korean Stat Soc 42:323, eqs 4-6); its interval inverts the non-central chi-square distribution (Smithson
    2003, Confidence Intervals, ch. 4), with V² = noncentrality / (n min(r-1, c-1)). Residuals are adjusted as by
    Haberman (1973, Biometrics 29:205).

    Parameters: ``counts``, r x c, whole numbers >= 0; ``design_effect``, the factor by which repeated observations of
    the same patient inflate the statistic (:mod:`medisync.stats.repeated`), at least 1: the statistic is divided by
    it and n counts as n / design_effect (Rao and Scott 1984, Ann Stat 12:46). Empty rows and columns are left out
    and flagged.

    Raises :class:`~medisync.errors.SeriesError` for a table that is not two-dimensional, or holds NaN, negative or
    fractional counts; :class:`~medisync.errors.ParameterError` for a wrong option.
    """
    table = checked_counts(counts, dimensions=2)
    if not (math.isfinite(design_effect) and design_effect >= 1):
        raise ParameterError("The design effect must be a number of at least 1.")
    if not 0 < confidence < 1:
        raise ParameterError("The confidence level must lie between 0 and 1.")
    if draws < 99:
        raise ParameterError("A Monte Carlo test needs at least 99 draws.")

    flags: list[str] = []
    used_rows, used_columns = table.sum(axis=1) > 0, table.sum(axis=0) > 0
    if not used_rows.all():
        flags.append("empty-rows-left-out")
    if not used_columns.all():
        flags.append("empty-columns-left-out")
    used = np.ix_(used_rows, used_columns)
    core = table[used]
    rows, columns = core.shape
    expected, residuals = np.zeros(table.shape), np.full(table.shape, np.nan)
    total = float(core.sum())
    nan = math.nan
    if rows < 2 or columns < 2:
        if total > 0:
            expected[used] = core
        flags.append("no-cases" if total == 0 else "only-one-row-or-column")
        return Association(
            total, nan, 0, nan, "none", nan, design_effect, nan, nan, nan, expected, residuals, tuple(flags)
        )

    core_expected = expected_counts(core)
    chi_square = float((np.square(core - core_expected) / core_expected).sum())
    freedom = (rows - 1) * (columns - 1)
    corrected = chi_square / design_effect
    smallest = float(core_expected.min())
    method: Method
    if smallest >= SMALLEST_EXPECTED:
        method, p_value = "chi-square", chi_square_tail(corrected, freedom)
    elif rows == columns == 2 and design_effect == 1:
        method, p_value = "fisher", fisher_exact_p_value(core)
    elif total <= LARGEST_MONTE_CARLO_TOTAL:
        method, p_value = "monte-carlo", _monte_carlo_p_value(core, corrected, draws, seed)
    else:
        method, p_value = "chi-square", chi_square_tail(corrected, freedom)
        flags.append("chi-square-despite-small-expected-counts")

    effective = max(total / design_effect, 2.0)
    v = _bias_corrected_v(corrected / effective, rows, columns, effective)
    low, high = noncentrality_interval(corrected, freedom, confidence=confidence)
    scale = effective * min(rows - 1, columns - 1)
    v_low, v_high = (min(1.0, math.sqrt(one / scale)) for one in (low, high))

    expected[used] = core_expected
    residuals[used] = _adjusted_residuals(core, core_expected)
    return Association(
        total=total,
        chi_square=chi_square,
        degrees_of_freedom=freedom,
        p_value=p_value,
        method=method,
        smallest_expected=smallest,
        design_effect=design_effect,
        cramers_v=v,
        cramers_v_low=min(v, v_low),
        cramers_v_high=max(v, v_high),
        expected=expected,
        adjusted_residuals=residuals,
        flags=tuple(flags),
    )


def checked_counts(counts: Sequence[object] | NDArray[np.generic], *, dimensions: int) -> FloatArray:
    """``counts`` as a float array; raises :class:`~medisync.errors.SeriesError` unless all are whole numbers >= 0."""
    try:
        table = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError):
        raise SeriesError("Counts must be numbers in rows of equal length.") from None
    if table.ndim != dimensions:
        raise SeriesError(f"Counts must have {dimensions} dimension(s), not {table.ndim}.")
    if not np.isfinite(table).all():
        raise SeriesError("A count is missing or infinite.")
    if (table < 0).any() or (table != np.floor(table)).any():
        raise SeriesError("Counts must be whole numbers and not negative.")
    return table


def expected_counts(table: FloatArray) -> FloatArray:
    """Counts expected without association: row total x column total / total; shape of ``table``."""
    expected: FloatArray = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return expected


def chi_square_tail(statistic: float, degrees_of_freedom: int) -> float:
    """Probability that a chi-square variable exceeds ``statistic``."""
    from scipy.special import chdtrc

    return float(chdtrc(degrees_of_freedom, statistic))


def noncentrality_interval(
    statistic: float, degrees_of_freedom: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Non-centralities of a chi-square distribution for which ``statistic`` is not surprising; both at least 0.

    The lower end makes values of ``statistic`` or more rare, the upper end values of it or less, each with probability
    (1-confidence)/2. A statistic far below its expectation would give an upper end of 0, which claims more than
    anyone can know; the upper end therefore takes it for at least its expectation without association.
    """
    from scipy.special import chndtr, chndtrinc

    tail = (1 - confidence) / 2
    ends = []
    for value, probability_below in ((statistic, 1 - tail), (max(statistic, degrees_of_freedom), tail)):
        reachable = float(chndtr(value, degrees_of_freedom, 0.0)) > probability_below
        ends.append(float(chndtrinc(value, degrees_of_freedom, probability_below)) if reachable else 0.0)
    return ends[0], ends[1]


def fisher_exact_p_value(table: FloatArray) -> float:
    """Two-sided p-value of Fisher's exact test for a 2x2 table: all tables no more probable than the one seen."""
    from scipy.special import gammaln

    first_row, first_column, total = table[0].sum(), table[:, 0].sum(), table.sum()
    cell = np.arange(max(0.0, first_row + first_column - total), min(first_row, first_column) + 1)
    log_probability = -(
        gammaln(cell + 1)
        + gammaln(first_row - cell + 1)
        + gammaln(first_column - cell + 1)
        + gammaln(total - first_row - first_column + cell + 1)
    )
    probability = np.exp(log_probability - log_probability.max())
    seen = probability[int(table[0, 0] - cell[0])]
    extreme = probability <= seen * (1 + RELATIVE_TOLERANCE)
    return float(min(1.0, probability[extreme].sum() / probability.sum()))


def _monte_carlo_p_value(table: FloatArray, statistic: float, draws: int, seed: int) -> float:
    """Share of random tables with the margins of ``table`` whose chi-square reaches ``statistic``.

    Drawn in batches; stops before ``draws`` once so many are as extreme that the p-value is plainly not small (the
    sequential idea of Besag and Clifford 1991, Biometrika 78:301).
    """
    rng = np.random.default_rng(seed)
    as_extreme = drawn = 0
    while drawn < draws and as_extreme < ENOUGH_AS_EXTREME:
        batch = min(MONTE_CARLO_BATCH, draws - drawn)
        chi_squares = _random_chi_squares(table, batch, rng)
        as_extreme += int((chi_squares >= statistic * (1 - RELATIVE_TOLERANCE)).sum())
        drawn += batch
    return (as_extreme + 1) / (drawn + 1)


def _random_chi_squares(table: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """Chi-squares of ``draws`` tables with the margins of ``table`` and no association."""
    expected = expected_counts(table)
    remaining = np.tile(table.sum(axis=0).astype(np.int64), (draws, 1))
    chi_squares = np.zeros(draws)
    rows, columns = table.shape
    for row in range(rows):
        left_in_row = np.full(draws, int(table[row].sum()), dtype=np.int64)
        elsewhere = remaining.sum(axis=1)
        for column in range(columns):
            here = remaining[:, column].copy()
            elsewhere -= here
            if row == rows - 1:
                cell = here
            elif column == columns - 1:
                cell = left_in_row
            else:  # one cell given all before it is hypergeometric (Patefield 1981, Appl Stat 30:91)
                cell = rng.hypergeometric(here, elsewhere, left_in_row)
            left_in_row = left_in_row - cell
            remaining[:, column] = here - cell
            chi_squares += np.square(cell - expected[row, column]) / expected[row, column]
    return chi_squares


def _bias_corrected_v(phi_square: float, rows: int, columns: int, total: float) -> float:
    phi_corrected = max(0.0, phi_square - (rows - 1) * (columns - 1) / (total - 1))
    rows_corrected = rows - (rows - 1) ** 2 / (total - 1)
    columns_corrected = columns - (columns - 1) ** 2 / (total - 1)
    smaller = min(rows_corrected, columns_corrected) - 1
    return min(1.0, math.sqrt(phi_corrected / smaller)) if smaller > 0 else 0.0


def _adjusted_residuals(table: FloatArray, expected: FloatArray) -> FloatArray:
    total = table.sum()
    outside_row = 1 - table.sum(axis=1, keepdims=True) / total
    outside_column = 1 - table.sum(axis=0, keepdims=True) / total
    adjusted: FloatArray = (table - expected) / np.sqrt(expected * outside_row * outside_column)
    return adjusted
