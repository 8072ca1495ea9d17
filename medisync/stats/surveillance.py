"""Is this week a surge? One judgement for series of any length, corrected for having looked at many.

Long series are judged by Farrington's flexible method with as many past years as there are, short ones by EARS C2.
A week is *above* when its own p-value is at most ``alpha``, and a *surge* when it also survives the
Benjamini-Hochberg correction over all series judged in that week. Every series says how many false alarms a year its
``alpha`` lets through.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.ears import BASELINE_WEEKS, detect_ears
from medisync.stats.farrington import (
    NOUFAILY,
    WEEKS_A_YEAR,
    FarringtonSettings,
    checked_counts,
    detect_farrington,
)
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.predictive import upper_quantile, upper_tail

FloatArray = NDArray[np.float64]

WEEKS_PER_YEAR = 365.2425 / 7
MOST_YEARS_BACK = 5
LEAST_REPORTED_SHARE = 0.5
"""A baseline with fewer of its weeks reported is no baseline."""


TINY = 1e-15


class WeekState(StrEnum):
    """What a week amounts to."""

    QUIET = "quiet"  # within what past weeks lead one to expect
    ABOVE = "above"  # above its own threshold; expected now and then by chance, not confirmed
    SURGE = "surge"  # above, and confirmed after correction for all series judged in the same week
    NOT_JUDGED = "not judged"  # too little history, or nothing reported


class Comparison(StrEnum):
    """What a week was compared with."""

    YEARS = "past years"  # Farrington's flexible method
    WEEKS = "seven weeks"  # EARS C2, for short histories
    NONE = "nothing"


@dataclass(frozen=True)
class SurgeJudgement:
    """Rows are series; columns are ``weeks`` (positions in the series, the last may lie after its end)."""

    weeks: NDArray[np.intp]
    observed: FloatArray  # NaN where unreported or yet to come
    expected: FloatArray
    threshold: FloatArray  # a count above it is above
    p_value: FloatArray  # P(at least the observed count in a quiet week)
    adjusted_p_value: FloatArray  # over the series, week by week
    quiet_mean: FloatArray  # of the distribution of a quiet week's count, uncertainty included; NaN unless past years
    quiet_dispersion: FloatArray
    false_alarms_a_year: FloatArray  # expected number of quiet weeks a year above the threshold
    state: NDArray[np.object_]  # WeekState
    comparison: NDArray[np.object_]  # Comparison

    def scores(self) -> tuple[FloatArray, FloatArray]:
        """Each observed week as a standard normal score: its expectation and its variance.

        A count stands for a whole stretch of the normal distribution, between the normal quantiles of its cumulative
        probabilities; the score is the normal variable given that it lies there (Johnson, Kotz and Balakrishnan 1994,
        section 13.10.1). 0 is as expected; NaN where a week was not compared with past years or not observed.
        """
        from scipy.special import ndtri

        at_least = upper_tail(self.observed, self.quiet_mean, self.quiet_dispersion)
        more = upper_tail(self.observed + 1.0, self.quiet_mean, self.quiet_dispersion)
        low, high = -ndtri(np.clip(at_least, TINY, 1.0)), -ndtri(np.clip(more, TINY, 1.0))
        low = np.maximum(low, -ndtri(1.0 - TINY))
        width = at_least - more
        wide = width > 1e-9
        safe = np.where(wide, width, 1.0)
        density_low, density_high = _density(low), _density(high)
        mean = np.where(wide, (density_low - density_high) / safe, low)
        square = 1.0 + (low * density_low - high * density_high) / safe
        variance = np.where(wide, np.maximum(square - mean**2, 0.0), 0.0)
        missing = np.isnan(at_least)
        return np.where(missing, np.nan, mean), np.where(missing, np.nan, variance)

    def threshold_score(self) -> FloatArray:
        """The normal score above which a count lies above its threshold."""
        from scipy.special import ndtri

        beyond = upper_tail(self.threshold + 1.0, self.quiet_mean, self.quiet_dispersion)
        score: FloatArray = -ndtri(np.clip(beyond, TINY, 1.0 - TINY))
        return score


def _density(score: FloatArray) -> FloatArray:
    density: FloatArray = np.exp(-0.5 * score * score) / np.sqrt(2.0 * np.pi)
    return density


def judge_surges(
    counts: ArrayLike,
    *,
    last_weeks: int = 1,
    weeks_ahead: int = 0,
    alpha: float = 0.005,
    false_discovery_rate: float = 0.01,
    least_cases: int = 5,
    minimum_years: int = 2,
    first_days: ArrayLike | None = None,
    families: ArrayLike | None = None,
    settings: FarringtonSettings = NOUFAILY,
) -> SurgeJudgement:
    """Judge the ``last_weeks`` weeks of each row of ``counts`` and give thresholds for ``weeks_ahead`` more.

    ``counts``: (series, weeks), not negative, NaN where nothing was reported. ``first_days``: the weeks' first days,
    see :func:`~medisync.stats.farrington.detect_farrington`. A week is above only with ``least_cases`` cases in the
    four weeks that end with it. Series with fewer than ``minimum_years`` years before a week are compared with seven
    weeks. ``families``: (series,) labels; series of one label are corrected together (None: all of them). Thresholds
    ahead need nothing of the last half year, so they are those the future weeks will have.

    Raises :class:`~medisync.errors.SeriesError` and :class:`~medisync.errors.ParameterError` for bad input.
    """
    _check(last_weeks, weeks_ahead, alpha, false_discovery_rate, minimum_years)
    table = checked_counts(counts)
    length = table.shape[1]
    if length == 0:
        raise SeriesError("The series have no weeks.")
    weeks = np.arange(max(length - last_weeks, 0), length + weeks_ahead)
    extended = np.concatenate([table, np.full((len(table), weeks_ahead), np.nan)], axis=1)
    dates = _extended_dates(first_days, length, weeks_ahead)
    settings = replace(settings, alpha=alpha, least_cases=least_cases)

    judged = _Columns(len(table), weeks.size)
    _compare_with_years(judged, extended, weeks, dates, settings, minimum_years)
    _compare_with_weeks(judged, extended, weeks, alpha)
    observed = extended[:, weeks]
    above = (judged.p_value <= alpha) & _enough_cases(extended, weeks, settings)
    adjusted = _adjusted(judged.p_value, families)
    state = np.full(observed.shape, WeekState.NOT_JUDGED, dtype=object)
    known = ~np.isnan(judged.p_value)
    state[known] = WeekState.QUIET
    state[known & above] = WeekState.ABOVE
    state[known & above & (adjusted <= false_discovery_rate)] = WeekState.SURGE
    return SurgeJudgement(
        weeks=weeks,
        observed=observed,
        expected=judged.expected,
        threshold=judged.threshold,
        p_value=judged.p_value,
        adjusted_p_value=adjusted,
        quiet_mean=judged.quiet_mean,
        quiet_dispersion=judged.quiet_dispersion,
        false_alarms_a_year=judged.false_alarms,
        state=state,
        comparison=judged.comparison,
    )


def _check(last_weeks: int, weeks_ahead: int, alpha: float, false_discovery_rate: float, minimum_years: int) -> None:
    if last_weeks < 1 or weeks_ahead < 0:
        raise ParameterError("At least one week must be judged, and weeks ahead must not be negative.")
    if weeks_ahead > NOUFAILY.excluded_weeks:
        raise ParameterError(f"Thresholds reach at most {NOUFAILY.excluded_weeks} weeks ahead.")
    if not 0.0 < alpha < 0.5 or not 0.0 < false_discovery_rate < 1.0:
        raise ParameterError("alpha must lie between 0 and 0.5, the false discovery rate between 0 and 1.")
    if not 1 <= minimum_years <= MOST_YEARS_BACK:
        raise ParameterError(f"minimum_years must lie between 1 and {MOST_YEARS_BACK}.")


def _adjusted(p_value: FloatArray, families: ArrayLike | None) -> FloatArray:
    labels = np.zeros(len(p_value)) if families is None else np.asarray(families).reshape(-1)
    if labels.size != len(p_value):
        raise SeriesError("There must be one family for each series.")
    adjusted = np.full(p_value.shape, np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for column in range(p_value.shape[1]):
            adjusted[rows, column] = adjust_benjamini_hochberg(p_value[rows, column])
    return adjusted


class _Columns:
    """The arrays under construction, one value a series and week."""

    def __init__(self, series: int, weeks: int) -> None:
        shape = (series, weeks)
        self.expected = np.full(shape, np.nan)
        self.threshold = np.full(shape, np.nan)
        self.p_value = np.full(shape, np.nan)
        self.quiet_mean = np.full(shape, np.nan)
        self.quiet_dispersion = np.full(shape, np.nan)
        self.false_alarms = np.full(shape, np.nan)
        self.comparison = np.full(shape, Comparison.NONE, dtype=object)


def _compare_with_years(
    judged: _Columns,
    table: FloatArray,
    weeks: NDArray[np.intp],
    dates: NDArray[np.datetime64] | None,
    settings: FarringtonSettings,
    minimum_years: int,
) -> None:
    """Fill in what past years say, with as many years as each series has before each week."""
    years = _years_of_history(table, weeks, settings)
    for years_back in range(minimum_years, MOST_YEARS_BACK + 1):
        mine = years == years_back
        if not mine.any():
            continue
        rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        result = detect_farrington(
            table[rows],
            weeks=weeks[columns],
            settings=replace(settings, years_back=years_back),
            first_days=dates,
        )
        mean, dispersion = result.quiet_mean, result.quiet_dispersion
        threshold = upper_quantile(settings.alpha, mean, dispersion)
        beyond = upper_tail(threshold + 1.0, mean, dispersion)
        pick = mine[np.ix_(rows, columns)] & ~np.isnan(result.expected)
        at = tuple(index[where] for index, where in zip((rows, columns), np.nonzero(pick), strict=True))
        judged.expected[at] = mean[pick]
        judged.threshold[at] = threshold[pick]
        judged.p_value[at] = result.p_value[pick]
        judged.quiet_mean[at] = mean[pick]
        judged.quiet_dispersion[at] = dispersion[pick]
        judged.false_alarms[at] = WEEKS_PER_YEAR * beyond[pick]
        judged.comparison[at] = Comparison.YEARS


def _years_of_history(table: FloatArray, weeks: NDArray[np.intp], settings: FarringtonSettings) -> NDArray[np.intp]:
    """(series, weeks): full years with a window before each week; 0 where too much of them was not reported."""
    reported = ~np.isnan(table)
    start = np.where(reported.any(axis=1), reported.argmax(axis=1), table.shape[1])
    slack = settings.half_window_weeks + 2  # two weeks for years of 53 weeks
    years = np.clip((weeks[None, :] - start[:, None] - slack) // WEEKS_A_YEAR, 0, MOST_YEARS_BACK)
    seen = np.concatenate([np.zeros((len(table), 1)), np.cumsum(reported, axis=1)], axis=1)
    span = np.maximum(weeks[None, :] - start[:, None], 1)
    share = (seen[:, weeks] - np.take_along_axis(seen, np.minimum(start, table.shape[1])[:, None], axis=1)) / span
    counted: NDArray[np.intp] = np.where(share >= LEAST_REPORTED_SHARE, years, 0).astype(np.intp)
    return counted


def _compare_with_weeks(judged: _Columns, table: FloatArray, weeks: NDArray[np.intp], alpha: float) -> None:
    """Fill in EARS C2 where past years said nothing."""
    from scipy.special import stdtrit

    left = judged.comparison == Comparison.NONE
    rows = np.flatnonzero(left.any(axis=1))
    if not rows.size:
        return
    ears = detect_ears(table[rows], method="C2", alpha=alpha)
    factor = float(-stdtrit(BASELINE_WEEKS - 1, alpha))
    bound = ears.expected + factor * ears.prediction_error
    pick = left[rows] & ~np.isnan(ears.expected[:, weeks])
    at = tuple(index[where] for index, where in zip((rows, np.arange(weeks.size)), np.nonzero(pick), strict=True))
    judged.expected[at] = ears.expected[:, weeks][pick]
    judged.threshold[at] = np.floor(bound[:, weeks][pick])
    judged.p_value[at] = ears.p_value[:, weeks][pick]
    judged.false_alarms[at] = WEEKS_PER_YEAR * alpha
    judged.comparison[at] = Comparison.WEEKS


def _enough_cases(table: FloatArray, weeks: NDArray[np.intp], settings: FarringtonSettings) -> NDArray[np.bool_]:
    running = np.concatenate([np.zeros((len(table), 1)), np.cumsum(np.nan_to_num(table), axis=1)], axis=1)
    recent = running[:, weeks + 1] - running[:, np.maximum(weeks + 1 - settings.least_cases_weeks, 0)]
    enough: NDArray[np.bool_] = recent >= settings.least_cases
    return enough


def _extended_dates(first_days: ArrayLike | None, length: int, weeks_ahead: int) -> NDArray[np.datetime64] | None:
    if first_days is None:
        return None
    try:
        dates = np.asarray(first_days, dtype="datetime64[D]").reshape(-1)
    except (TypeError, ValueError):
        raise SeriesError("The weeks' first days must be dates.") from None
    if dates.size != length:
        raise SeriesError("There must be one first day for each week.")
    return np.concatenate([dates, dates[-1] + 7 * np.arange(1, weeks_ahead + 1)])
