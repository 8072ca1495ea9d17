"""Surges of weekly counts after Farrington, in the flexible form, batched over series and weeks.

The week to be judged is compared with a quasi-Poisson regression on past years: a trend, a level for each season of
the year, past outbreaks weighted down, the last half year left out so that a slow outbreak does not hide itself.

Sources: Farrington, Andrews, Beale, Catchpole (1996) J R Stat Soc A 159:547; Noufaily, Enki, Farrington, Garthwaite,
Andrews, Charlett (2013) Stat Med 32:1206; Salmon, Schumacher, Höhle (2016) J Stat Softw 70(10), section 2.1, whose
parameters have these names here: b = years_back, w = half_window_weeks, noPeriods = season_levels,
pastWeeksNotIncluded = excluded_weeks, weightsThreshold = reweight_above, pThresholdTrend = trend_p_below,
limit54 = (least_cases, least_cases_weeks). Thresholds agree with those published numbers to 1e-9; the p-value is our
own addition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.predictive import upper_quantile, upper_tail
from medisync.stats.quasipoisson import QuasiPoissonFit, SeasonalDesign, fit_quasipoisson
from medisync.stats.reweighting import undo_reweighting

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WEEKS_A_YEAR = 52
CHUNK = 192
"""Problems fitted at once; small enough for their arrays to stay in the processor's cache."""


LARGEST_COUNT = 1e12
FACTS = ("expected", "dispersion", "mean_variance", "quiet_mean", "quiet_dispersion", "trend")


@dataclass(frozen=True)
class FarringtonSettings:
    """How a week is judged. The defaults are Noufaily et al. (2013)."""

    years_back: int = 5
    half_window_weeks: int = 3
    season_levels: int = 10
    excluded_weeks: int = 26
    reweight_above: float = 2.58
    alpha: float = 0.005
    trend: bool = True
    trend_p_below: float = 1.0  # the trend stays when its p-value is at most this
    least_cases: int = 0  # no alarm unless this many cases ...
    least_cases_weeks: int = 4  # ... in this many last weeks, the judged one included
    threshold: Literal["negative-binomial", "two-thirds-power"] = "negative-binomial"

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 0.5:
            raise ParameterError("alpha must lie between 0 and 0.5.")
        if self.years_back < 1 or self.half_window_weeks < 0 or self.excluded_weeks < 0:
            raise ParameterError("years_back must be at least 1, windows and excluded weeks not negative.")
        if self.season_levels < 1 or 2 * self.half_window_weeks + self.season_levels > WEEKS_A_YEAR:
            raise ParameterError("The season's levels do not fit into a year beside the window.")
        if self.excluded_weeks > WEEKS_A_YEAR - self.half_window_weeks - 1:
            raise ParameterError("excluded_weeks must leave last year's window in.")
        if self.least_cases < 0 or self.least_cases_weeks < 1:
            raise ParameterError("least_cases must not be negative, least_cases_weeks at least 1.")

    @property
    def weeks_needed(self) -> int:
        """Weeks of history before the first week that can be judged (two more where a year's weeks are by date)."""
        return self.years_back * WEEKS_A_YEAR + self.half_window_weeks


NOUFAILY = FarringtonSettings()
CLASSIC = FarringtonSettings(
    season_levels=1,
    excluded_weeks=3,
    reweight_above=1.0,
    alpha=0.05,
    trend_p_below=0.05,
    least_cases=5,
    threshold="two-thirds-power",
)
"""Farrington et al. (1996): windows of past years only, and a trend only when significant."""


@dataclass(frozen=True)
class FarringtonResult:
    """One row a series, one column a judged week. NaN (or False) where a week cannot be judged."""

    weeks: NDArray[np.intp]  # (k,), positions in the series
    observed: FloatArray  # (series, k)
    expected: FloatArray
    dispersion: FloatArray  # variance of a quiet week's count divided by its mean, at least 1
    mean_variance: FloatArray  # of expected, as an estimate, as published
    threshold: FloatArray  # as published
    quiet_mean: FloatArray  # of a new quiet week's count, reweighting undone, uncertainty included
    quiet_dispersion: FloatArray  # variance over mean of the same
    p_value: FloatArray  # P(a quiet week has at least the observed count), uncertainty of expected included
    alarm: BoolArray  # observed > threshold and enough cases
    trend_used: BoolArray

    @property
    def judged(self) -> BoolArray:
        """Where there was history enough and a count to judge."""
        judged: BoolArray = ~np.isnan(self.p_value)
        return judged


def detect_farrington(
    counts: ArrayLike,
    *,
    weeks: Sequence[int] | NDArray[np.intp] | None = None,
    settings: FarringtonSettings = NOUFAILY,
    first_days: ArrayLike | None = None,
) -> FarringtonResult:
    """Judge ``weeks`` (positions; None: every week with history enough) of each row of ``counts``.

    ``counts``: (series, weeks) or (weeks,), not negative; NaN where nothing was reported, which takes the week out of
    every baseline. ``first_days``: (weeks,) dates; then "the same week a year ago" is the week that starts nearest to
    the same date, which matters in years of 53 weeks. Without it, it is 52 weeks ago.

    Raises :class:`~medisync.errors.SeriesError` for negative or infinite counts, irregular dates and positions outside
    the series.
    """
    table = checked_counts(counts)
    chosen = _checked_weeks(weeks, table.shape[1], settings)
    dates = None if first_days is None else _checked_dates(first_days, table.shape[1])
    shape = (table.shape[0], chosen.size)
    parts = {name: np.full(shape, np.nan) for name in FACTS}
    for offsets, design, members in _designs(chosen, dates, settings):
        baseline_at = chosen[members][:, None] + offsets[None, :]
        problems = shape[0] * members.size
        for start in range(0, problems, CHUNK):
            rows, columns = np.divmod(np.arange(start, min(start + CHUNK, problems)), members.size)
            baseline = table[rows[:, None], baseline_at[columns]]
            at = (rows, members[columns])
            for name, value in _fit_chunk(baseline, design, settings).items():
                parts[name][at] = value
    observed = table[:, chosen]
    expected, dispersion, mean_variance = parts["expected"], parts["dispersion"], parts["mean_variance"]
    threshold = _threshold(expected, dispersion, mean_variance, settings)
    return FarringtonResult(
        weeks=chosen,
        observed=observed,
        expected=expected,
        dispersion=dispersion,
        mean_variance=mean_variance,
        threshold=threshold,
        quiet_mean=parts["quiet_mean"],
        quiet_dispersion=parts["quiet_dispersion"],
        p_value=upper_tail(observed, parts["quiet_mean"], parts["quiet_dispersion"]),
        alarm=(observed > threshold) & _enough_cases(table, chosen, settings),
        trend_used=parts["trend"] == 1.0,
    )


def quiet_distribution(
    expected: ArrayLike, dispersion: ArrayLike, mean_variance: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Mean and dispersion (variance over mean) of a new quiet week's count whose mean is itself an estimate.

    The mean is given a gamma distribution around ``expected`` with variance ``mean_variance``; a gamma mixture of
    Poisson or negative-binomial counts is taken as the negative binomial of the same mean and variance, exact for the
    Poisson case. Half an equivalent case is added to the gamma's shape (Jeffreys' prior), so that a baseline without
    any case does not make a single case impossible.
    """
    mean, phi, variance = (np.asarray(one, dtype=np.float64) for one in (expected, dispersion, mean_variance))
    shape = np.broadcast_shapes(mean.shape, variance.shape)
    # Variance over mean of the mean's gamma distribution: one over the equivalent number of baseline weeks.
    unit = np.divide(variance, mean, out=np.zeros(shape), where=mean > 0)
    return mean + 0.5 * unit, phi + unit


def checked_counts(counts: ArrayLike) -> FloatArray:
    """``counts`` as a (series, weeks) float table; raises SeriesError for what no count can be."""
    try:
        table = np.array(counts, dtype=np.float64, ndmin=2)
    except (TypeError, ValueError):
        raise SeriesError("Counts must be a table of numbers, one row a series, one column a week.") from None
    if table.ndim != 2:
        raise SeriesError("Counts must be a table: one row a series, one column a week.")
    if bool(np.isinf(table).any()):
        raise SeriesError("A count is infinite.")
    if bool((table < 0).any()):
        raise SeriesError("A count is negative.")
    if bool((table > LARGEST_COUNT).any()):
        raise SeriesError("A count exceeds a trillion.", hint="Look for a wrong column.")
    return table


def _checked_weeks(
    weeks: Sequence[int] | NDArray[np.intp] | None, length: int, settings: FarringtonSettings
) -> NDArray[np.intp]:
    if weeks is None:
        return np.arange(min(settings.weeks_needed, length), length)
    try:
        chosen = np.asarray(weeks, dtype=np.intp).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise SeriesError("Weeks to judge must be positions in the series.") from None
    if chosen.size and (chosen.min() < 0 or chosen.max() >= length):
        raise SeriesError("A week to judge lies outside the series.")
    return chosen


def _checked_dates(first_days: ArrayLike, length: int) -> NDArray[np.datetime64]:
    try:
        dates = np.asarray(first_days, dtype="datetime64[D]").reshape(-1)
    except (TypeError, ValueError):
        raise SeriesError("The weeks' first days must be dates.") from None
    if dates.size != length:
        raise SeriesError("There must be one first day for each week.")
    if dates.size > 1 and not bool((np.diff(dates) == np.timedelta64(7, "D")).all()):
        raise SeriesError("The weeks' first days must be seven days apart.")
    return dates


def _designs(
    weeks: NDArray[np.intp], dates: NDArray[np.datetime64] | None, settings: FarringtonSettings
) -> Iterator[tuple[NDArray[np.intp], SeasonalDesign, NDArray[np.intp]]]:
    """Baselines: offsets from the judged week, their design, and which of ``weeks`` share them."""
    years = np.arange(1, settings.years_back + 1)
    if dates is None:
        back = np.broadcast_to(years * WEEKS_A_YEAR, (weeks.size, years.size))
    else:
        back = _weeks_back(dates, weeks, years)
    reaches = weeks - back[:, -1] - settings.half_window_weeks >= 0
    for pattern in np.unique(back[reaches], axis=0):
        members = np.flatnonzero(reaches & (back == pattern).all(axis=1))
        offsets, level = _baseline(pattern, settings)
        design = SeasonalDesign(offsets.astype(np.float64), level, settings.season_levels)
        yield offsets, design, members


def _weeks_back(dates: NDArray[np.datetime64], weeks: NDArray[np.intp], years: NDArray[np.int_]) -> NDArray[np.intp]:
    """(weeks, years): how many weeks before each week lies the one that starts nearest to the same date."""
    day = dates[weeks]
    month = day.astype("datetime64[M]")
    day_of_month = (day - month.astype("datetime64[D]")).astype(int)
    past_month = month[:, None] - 12 * years[None, :]
    past_day = past_month.astype("datetime64[D]") + day_of_month[:, None]  # 29 February becomes 1 March
    back_days = (day[:, None] - past_day).astype(int)
    back: NDArray[np.intp] = np.ceil(back_days / 7.0 - 0.5).astype(np.intp)
    return back


def _baseline(back: NDArray[np.intp], settings: FarringtonSettings) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Offsets (negative weeks) of the baseline and each one's level of the season.

    Level 0 is the window around the same week of each year; what lies between two windows is cut into the other
    levels of equal length, a week left over going to the earliest.
    """
    half = settings.half_window_weeks
    between = settings.season_levels - 1
    level_of: dict[int, int] = {}
    centres = [0, *(-int(weeks) for weeks in back)]
    for centre in centres:
        level_of.update(dict.fromkeys(range(centre - half, centre + half + 1), 0))
    for later, earlier in itertools.pairwise(centres):
        first, count = earlier + half + 1, later - earlier - 2 * half - 1
        if between:
            level_of.update({first + i: 1 + i * between // count for i in range(count)})
    oldest, newest = centres[-1] - half, -settings.excluded_weeks - 1
    offsets = [offset for offset in sorted(level_of) if oldest <= offset <= newest]
    return np.array(offsets, dtype=np.intp), np.array([level_of[one] for one in offsets], dtype=np.intp)


def _fit_chunk(baseline: FloatArray, design: SeasonalDesign, settings: FarringtonSettings) -> dict[str, FloatArray]:
    """Expected count, dispersion and the mean's variance of each row; NaN where the baseline does not suffice."""
    reported = ~np.isnan(baseline)
    counts = np.where(reported, baseline, 0.0)
    ones = reported.astype(np.float64)
    if not settings.trend:
        return _facts(counts, ones, design, settings, _fit_reweighted(counts, ones, design, settings, trend=False))
    with_trend = _fit_reweighted(counts, ones, design, settings, trend=True)
    facts = _facts(counts, ones, design, settings, with_trend)
    drop = ~_trend_stays(with_trend, counts, settings)
    if drop.any():
        without = _fit_reweighted(counts[drop], ones[drop], design, settings, trend=False)
        for name, value in _facts(counts[drop], ones[drop], design, settings, without).items():
            facts[name][drop] = value
    return facts


def _facts(
    counts: FloatArray,
    reported: FloatArray,
    design: SeasonalDesign,
    settings: FarringtonSettings,
    published: QuasiPoissonFit,
) -> dict[str, FloatArray]:
    """What is kept of a fit. The published numbers are its own; quiet weeks are described by one reweighting more.

    The first weights come from a dispersion that past outbreaks have inflated, so some hide one another; weights from
    the reweighted fit find them.
    """
    weights = _outbreak_weights(published, counts, reported, settings)
    fit = fit_quasipoisson(counts, weights, design, trend=published.trend, start=published.fitted)
    mean, variance = fit.mean_now, fit.log_mean_variance * fit.mean_now**2
    mean_factor, dispersion_factor = undo_reweighting(fit.fitted.mean(axis=1), fit.pearson, settings.reweight_above)
    dispersion = np.maximum(fit.pearson * dispersion_factor, 1.0)
    # Where the season's level has no case its mean runs to 0 and its variance with it; a mean of n weeks never has less
    # than a variance of dispersion * mean / n.
    least = mean / np.maximum(fit.weeks_now, 1e-9)
    quiet_mean, quiet_dispersion = quiet_distribution(
        mean * mean_factor, dispersion, dispersion * np.maximum(variance, least) * mean_factor**2
    )
    facts = {
        "expected": published.mean_now,
        "dispersion": published.dispersion,
        # The published thresholds scale the mean's variance by the dispersion of relative residuals, not Pearson's.
        "mean_variance": published.relative_dispersion * published.log_mean_variance * published.mean_now**2,
        "quiet_mean": quiet_mean,
        "quiet_dispersion": quiet_dispersion,
        "trend": np.full(len(variance), 1.0 if published.trend else 0.0),
    }
    enough = (fit.degrees_of_freedom > 0) & ~np.isnan(mean)
    return {name: np.where(enough, value, np.nan) for name, value in facts.items()}


def _fit_reweighted(
    counts: FloatArray, reported: FloatArray, design: SeasonalDesign, settings: FarringtonSettings, *, trend: bool
) -> QuasiPoissonFit:
    """Fit, weigh past outbreaks down, fit again."""
    first = fit_quasipoisson(counts, reported, design, trend=trend)
    return fit_quasipoisson(counts, _outbreak_weights(first, counts, reported, settings), design, trend=trend)


def _outbreak_weights(
    fit: QuasiPoissonFit, counts: FloatArray, reported: FloatArray, settings: FarringtonSettings
) -> FloatArray:
    """Weights that fall with the square of a standardised Anscombe residual above the bound (Farrington 1996, 3.6)."""
    root = np.cbrt(np.sqrt(fit.fitted))  # mean ** (1/6)
    scale = np.sqrt(fit.dispersion[:, None] * np.maximum(1.0 - fit.leverage, 1e-12))
    residual = 1.5 * (np.cbrt(counts) ** 2 / root - root**3) / scale
    heavy = residual > settings.reweight_above
    weights: FloatArray = reported * np.where(heavy, 1.0 / np.where(heavy, residual, 1.0) ** 2, 1.0)
    total, present = weights.sum(axis=1), reported.sum(axis=1)
    weights *= np.divide(present, total, out=np.ones_like(total), where=total > 0)[:, None]
    return weights


def _trend_stays(fit: QuasiPoissonFit, counts: FloatArray, settings: FarringtonSettings) -> BoolArray:
    """The trend stays when significant, fitted over three years at least, and not beyond every past count."""
    from scipy.special import stdtr

    if settings.years_back < 3:
        return np.zeros(len(counts), dtype=bool)
    error = np.sqrt(fit.relative_dispersion * fit.slope_variance)
    ratio = np.abs(np.divide(fit.slope, error, out=np.zeros_like(error), where=error > 0))
    p_value = 2.0 * stdtr(np.where(fit.degrees_of_freedom > 0, fit.degrees_of_freedom, np.nan), -ratio)
    stays: BoolArray = fit.converged & (p_value <= settings.trend_p_below) & (fit.mean_now <= counts.max(axis=1))
    return stays


def _threshold(
    expected: FloatArray, dispersion: FloatArray, mean_variance: FloatArray, settings: FarringtonSettings
) -> FloatArray:
    from scipy.special import ndtri

    if settings.threshold == "negative-binomial":
        return upper_quantile(settings.alpha, expected, dispersion)
    # Farrington et al. (1996), section 3.7: the count to the power 2/3 is nearly normal.
    safe = np.where(expected > 0, expected, 1.0)
    relative = np.sqrt(dispersion * safe + mean_variance) / safe
    bound = safe * np.maximum(0.0, 1.0 + 2.0 / 3.0 * -float(ndtri(settings.alpha)) * relative) ** 1.5
    return np.where(expected > 0, bound, np.where(np.isnan(expected), math.nan, 0.0))


def _enough_cases(table: FloatArray, weeks: NDArray[np.intp], settings: FarringtonSettings) -> BoolArray:
    running = np.concatenate([np.zeros((len(table), 1)), np.cumsum(np.nan_to_num(table), axis=1)], axis=1)
    recent = running[:, weeks + 1] - running[:, np.maximum(weeks + 1 - settings.least_cases_weeks, 0)]
    enough: BoolArray = recent >= settings.least_cases
    return enough
