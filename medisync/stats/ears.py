"""Surges of series too short for years of comparison: the Early Aberration Reporting System's C1, C2 and C3.

Sources: Hutwagner, Thompson, Seeman, Treadwell (2003) J Urban Health 80:i89; Salmon, Schumacher, Höhle (2016) J Stat
Softw 70(10), section 2.1.3, whose published thresholds are met here. The p-value is our own addition: seven weeks do
not give a standard deviation but an estimate of one, so a week is compared with Student's t of six degrees of freedom,
and the rate of false alarms the plain thresholds really have is told with each result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medisync.errors import ParameterError
from medisync.stats.farrington import checked_counts

FloatArray = NDArray[np.float64]
Method = Literal["C1", "C2", "C3"]

BASELINE_WEEKS = 7
LAG_WEEKS: dict[Method, int] = {"C1": 0, "C2": 2, "C3": 2}
USUAL_ALPHA: dict[Method, float] = {"C1": 0.001, "C2": 0.001, "C3": 0.025}


@dataclass(frozen=True)
class EarsResult:
    """One row a series, one column a week; NaN or False in weeks before the baseline is full."""

    observed: FloatArray
    expected: FloatArray  # mean of the baseline's seven weeks
    deviation: FloatArray  # their standard deviation
    prediction_error: FloatArray  # standard error of a new quiet week, never less than Poisson's
    threshold: FloatArray
    p_value: FloatArray  # Student's t with six degrees of freedom, never less spread than Poisson
    alarm: NDArray[np.bool_]
    false_alarm_probability: float  # of one quiet week of normal counts, at these settings; NaN for C3


def weeks_needed(method: Method) -> int:
    """Weeks of history before the first week that can be judged."""
    return BASELINE_WEEKS + LAG_WEEKS[method] + (2 if method == "C3" else 0)


def detect_ears(counts: ArrayLike, *, method: Method = "C2", alpha: float | None = None) -> EarsResult:
    """Judge every week of each row of ``counts``: (series, weeks) or (weeks,), not negative, NaN where unreported.

    C1 compares with the seven weeks before, C2 with the seven weeks ending two weeks before, C3 lowers C2's threshold
    by what the last two weeks exceeded theirs. ``alpha`` None means the usual one (0.001; 0.025 for C3). The threshold
    of C3 starts from the observed count instead of the mean, as in the reference implementation: it raises an alarm
    exactly when the two weeks before exceeded enough.

    Raises :class:`~medisync.errors.SeriesError` for negative or infinite counts and
    :class:`~medisync.errors.ParameterError` for an unknown method or an alpha outside 0 to 0.5.
    """
    from scipy.special import ndtri, stdtr

    if method not in LAG_WEEKS:
        raise ParameterError("The method must be C1, C2 or C3.")
    level = USUAL_ALPHA[method] if alpha is None else alpha
    if not 0.0 < level < 0.5:
        raise ParameterError("alpha must lie between 0 and 0.5.")
    table = checked_counts(counts)
    z = -float(ndtri(level))
    expected, deviation = _baseline(table, LAG_WEEKS[method])
    false_alarms = float(stdtr(BASELINE_WEEKS - 1, -z / np.sqrt(1.0 + 1.0 / BASELINE_WEEKS)))
    if method == "C3":
        excess = np.maximum(0.0, _ratio(table - expected, deviation) - 1.0)
        carried = _shifted(excess, 1) + _shifted(excess, 2)
        with np.errstate(invalid="ignore"):
            threshold = table + deviation * (z - carried)
        threshold[np.isinf(carried)] = 0.0  # a week before rose from a constant baseline: every case counts
        false_alarms = float("nan")
    else:
        threshold = expected + z * deviation
    threshold = np.maximum(threshold, 0.0)
    spread = np.sqrt(np.maximum(deviation**2, np.maximum(expected, 1.0 / BASELINE_WEEKS)))
    prediction_error = spread * np.sqrt(1.0 + 1.0 / BASELINE_WEEKS)
    return EarsResult(
        observed=table,
        expected=expected,
        deviation=deviation,
        prediction_error=prediction_error,
        threshold=threshold,
        p_value=stdtr(BASELINE_WEEKS - 1, (expected - table) / prediction_error),
        alarm=table > threshold,
        false_alarm_probability=false_alarms,
    )


def _baseline(table: FloatArray, lag: int) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the seven weeks that end ``lag`` + 1 weeks before each week."""
    means, deviations = np.full(table.shape, np.nan), np.full(table.shape, np.nan)
    first = BASELINE_WEEKS + lag
    if table.shape[1] > first:
        windows = np.lib.stride_tricks.sliding_window_view(table[:, : table.shape[1] - lag - 1], BASELINE_WEEKS, axis=1)
        means[:, first:] = windows.mean(axis=2)
        deviations[:, first:] = windows.std(axis=2, ddof=1)
    return means, deviations


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Division in which a constant baseline gives 0 for its own value and infinity for anything above."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = numerator / denominator
    ratio[(denominator == 0) & (numerator == 0)] = 0.0
    return ratio


def _shifted(values: FloatArray, weeks: int) -> FloatArray:
    shifted = np.full(values.shape, np.nan)
    shifted[:, weeks:] = values[:, : max(values.shape[1] - weeks, 0)]
    return shifted
