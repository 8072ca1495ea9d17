"""Is a count rising or falling, and is the latest one out of line with an earlier one?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError

FloatArray = NDArray[np.float64]

WEEKS_PER_YEAR = 365.25 / 7
FEWEST_PERIODS = 8
FEWEST_DEGREES = 3.0
LARGEST_AUTOCORRELATION = 0.95
FEWEST_CASES = 10
"""Below this total a slope says nothing; the series is flagged."""

IRLS_STEPS = 50
CONVERGED = 1e-9


@dataclass(frozen=True)
class Trends:
    """Log-linear trends of several series; every array has one entry per series, NaN where ``flag`` is not empty.

    ``change_per_year`` is a relative change: 0.1 is ten per cent more each year. ``low`` and ``high`` are its
    interval, ``p_value`` tests "no change". ``dispersion`` is variance over mean, at least 1. ``line`` is the
    trend without the season, of the shape of the counts given.
    """

    change_per_year: FloatArray
    low: FloatArray
    high: FloatArray
    p_value: FloatArray
    dispersion: FloatArray
    line: FloatArray
    flag: tuple[str, ...]


@dataclass(frozen=True)
class RateRatio:
    """Ratios of two rates with their intervals and the p-values of "ratio 1"; arrays of one shape.

    A ratio is NaN when neither side has a case, infinite when only the first has.
    """

    ratio: FloatArray
    low: FloatArray
    high: FloatArray
    p_value: FloatArray


def fit_trends(
    counts: NDArray[np.generic] | list[list[float]],
    *,
    periods_per_year: float = WEEKS_PER_YEAR,
    yearly_harmonics: int | None = None,
    confidence: float = 0.95,
) -> Trends:
    """Slope of each series on the log scale, by an overdispersed Poisson regression on time.

    mean = exp(level + slope * years + yearly sine and cosine terms), fitted to all series at once by iteratively
    reweighted least squares; variance = dispersion * mean with Pearson's dispersion, not below 1 (McCullagh and Nelder
    1989, Generalized Linear Models, section 6.2). Neighbouring periods that resemble each other make a slope look
    surer than it is: with r, the residuals' first autocorrelation corrected for its bias (Kendall 1954, Biometrika
    41:403) and not below 0, the variance is multiplied and the degrees of freedom divided by (1+r)/(1-r) (Bayley and
    Hammersley 1946, J R Stat Soc Suppl 8:184). Interval and p-value from Student's t. At a nominal 5 % this rejects 3
    to 4 % of flat series with independent weeks and 8 % when a latent level has an autocorrelation of 0.5.

    Parameters: ``counts``, periods x series, oldest first, values >= 0 or NaN (not reported). ``yearly_harmonics``
    None means 1 with two years of periods or more, else 0.

    Flags: "too-short" (fewer than 8 reported periods more than terms), "too-few-cases" (fewer than 10),
    "not-converged".
    Raises :class:`~medisync.errors.SeriesError` for negative or infinite values or another shape.
    """
    from scipy.special import stdtr, stdtrit

    observed = np.asarray(counts, dtype=np.float64)
    if observed.ndim != 2:
        raise SeriesError("Counts must form a table of periods by series.")
    if np.isinf(observed).any() or (observed < 0).any():
        raise SeriesError("A count is negative or infinite.")
    if not 0 < confidence < 1 or not periods_per_year > 0:
        raise ParameterError("The confidence level must lie between 0 and 1, the periods per year above 0.")
    periods, series = observed.shape
    if yearly_harmonics is None:
        yearly_harmonics = 1 if periods >= math.floor(2 * periods_per_year) else 0
    if yearly_harmonics < 0:
        raise ParameterError("The number of yearly harmonics cannot be negative.")

    design = _design(periods, periods_per_year, yearly_harmonics)
    reported = ~np.isnan(observed)
    y = np.where(reported, observed, 0.0)
    freedom = reported.sum(axis=0) - design.shape[1]
    flags = np.full(series, "", dtype=object)
    flags[y.sum(axis=0) < FEWEST_CASES] = "too-few-cases"
    flags[freedom < FEWEST_PERIODS] = "too-short"
    usable = np.flatnonzero(flags == "")

    change, low, high, p_value, dispersion = (np.full(series, np.nan) for _ in range(5))
    line = np.full(observed.shape, np.nan)
    if usable.size:
        y, weight, df = y[:, usable].T, reported[:, usable].T.astype(np.float64), freedom[usable]
        coefficients, mean, converged = _poisson_fit(y, weight, design)
        residual = (y - mean) * weight
        phi = np.maximum(1.0, (np.square(residual) / mean).sum(axis=1) / df)
        bread = np.linalg.pinv(np.einsum("tp,st,tq->spq", design, mean * weight, design), hermitian=True)
        memory = _memory(residual / np.sqrt(mean), weight, design.shape[1])
        slope, error = coefficients[:, 1], np.sqrt(phi * bread[:, 1, 1] * memory)
        df = np.maximum(df / memory, FEWEST_DEGREES)
        reach = stdtrit(df, (1 + confidence) / 2) * error
        sane = converged & np.isfinite(slope) & (error > 0) & (np.abs(slope) + reach < math.log(1e12))
        flags[usable[~sane]] = "not-converged"
        good = usable[sane]
        change[good], low[good], high[good] = (np.expm1(v[sane]) for v in (slope, slope - reach, slope + reach))
        p_value[good] = 2 * stdtr(df[sane], -np.abs(slope[sane] / error[sane]))
        dispersion[good] = phi[sane]
        line[:, good] = np.exp(coefficients[sane, :2] @ design[:, :2].T).T
    return Trends(change, low, high, p_value, dispersion, line, tuple(str(flag) for flag in flags))


def compare_rates(
    cases: NDArray[np.generic] | float,
    reference_cases: NDArray[np.generic] | float,
    *,
    periods: float = 1.0,
    reference_periods: float = 1.0,
    dispersion: NDArray[np.generic] | float = 1.0,
    confidence: float = 0.95,
) -> RateRatio:
    """Ratio of (cases / periods) to (reference cases / reference periods), element by element.

    Given the sum, the first count is binomial (Przyborowski and Wilenski 1940, Biometrika 31:313); the interval is
    that of Clopper and Pearson (1934, Biometrika 26:404) for both counts divided by ``dispersion`` (variance over
    mean, at least 1), so overdispersion makes it wider. NaN counts give NaN.
    Raises :class:`~medisync.errors.SeriesError` for negative counts, :class:`~medisync.errors.ParameterError` for a
    dispersion below 1 or periods not above 0.
    """
    from scipy.special import betainc, betaincinv

    first, second, phi = np.broadcast_arrays(
        np.asarray(cases, dtype=np.float64),
        np.asarray(reference_cases, dtype=np.float64),
        np.asarray(dispersion, dtype=np.float64),
    )
    if (first < 0).any() or (second < 0).any() or np.isinf(first).any() or np.isinf(second).any():
        raise SeriesError("A count is negative or infinite.")
    if (phi < 1).any() or not (periods > 0 and reference_periods > 0) or not 0 < confidence < 1:
        raise ParameterError("The dispersion must be at least 1, periods above 0 and the confidence between 0 and 1.")
    tail = (1 - confidence) / 2
    scale = reference_periods / periods
    even = periods / (periods + reference_periods)
    a, b = first / phi, second / phi
    none, some = (a == 0) & (b == 0), np.isfinite(a) & np.isfinite(b) & np.isfinite(phi)
    with np.errstate(divide="ignore", invalid="ignore"):
        low_share = np.where(a > 0, betaincinv(np.maximum(a, 1e-300), b + 1, tail), 0.0)
        high_share = np.where(b > 0, betaincinv(a + 1, np.maximum(b, 1e-300), 1 - tail), 1.0)
        ratio = np.where(none, np.nan, scale * a / b)
        low, high = (scale * share / (1 - share) for share in (low_share, high_share))
        at_least = np.where(a > 0, betainc(np.maximum(a, 1e-300), b + 1, even), 1.0)
        at_most = np.where(b > 0, 1 - betainc(a + 1, np.maximum(b, 1e-300), even), 1.0)
    p_value = np.minimum(1.0, 2 * np.minimum(at_least, at_most))
    blank = np.where(some, 0.0, np.nan)
    return RateRatio(ratio + blank, low + blank, high + blank, p_value + blank)


def _design(periods: int, periods_per_year: float, harmonics: int) -> FloatArray:
    """Periods x terms: 1, years since the middle, then sine and cosine of each harmonic."""
    years = (np.arange(periods) - (periods - 1) / 2) / periods_per_year
    waves = [wave(2 * math.pi * (h + 1) * years) for h in range(harmonics) for wave in (np.sin, np.cos)]
    return np.column_stack([np.ones(periods), years, *waves]) if periods else np.ones((0, 2 + len(waves)))


def _poisson_fit(
    y: FloatArray, weight: FloatArray, design: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Coefficients (series x terms), means (series x periods) and whether each series converged."""
    level = np.log(y.sum(axis=1) / weight.sum(axis=1))
    coefficients = np.zeros((y.shape[0], design.shape[1]))
    coefficients[:, 0] = level
    converged = np.zeros(y.shape[0], dtype=bool)
    for _ in range(IRLS_STEPS):
        mean = np.exp(np.clip(coefficients @ design.T, -30, 30))
        information = np.einsum("tp,st,tq->spq", design, mean * weight, design)
        score = ((y - mean) * weight) @ design
        step = np.einsum("spq,sq->sp", np.linalg.pinv(information, hermitian=True), score)
        size = np.abs(step).max(axis=1)
        step *= np.minimum(1.0, 2.0 / np.maximum(size, 1e-300))[:, None]
        coefficients += step
        converged = size < CONVERGED
        if converged.all():
            break
    return coefficients, np.exp(np.clip(coefficients @ design.T, -30, 30)), converged


def _memory(residual: FloatArray, weight: FloatArray, terms: int) -> FloatArray:
    """(1+r)/(1-r) of each series, r the first autocorrelation of its standardised residuals; at least 1."""
    centred = (residual - residual.sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)) * weight
    pairs, periods = (weight[:, 1:] * weight[:, :-1]).sum(axis=1), weight.sum(axis=1)
    products = (centred[:, 1:] * centred[:, :-1]).sum(axis=1) / np.maximum(pairs, 1)
    squares = np.maximum(np.square(centred).sum(axis=1) / periods, 1e-300)
    raw = products / squares
    correlation = np.clip(raw + (1 + 3 * raw) / periods + (terms - 1) / periods, 0, LARGEST_AUTOCORRELATION)
    memory: FloatArray = (1 + correlation) / (1 - correlation)
    return memory
