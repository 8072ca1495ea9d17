"""Slopes and rate ratios against statsmodels, scipy and known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats

from medisync.errors import ParameterError, SeriesError
from medisync.stats.trend import WEEKS_PER_YEAR, compare_rates, fit_trends


def _weeks(means: NDArray[np.float64], series: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.poisson(np.repeat(means[:, None], series, axis=1))


def test_agrees_with_a_generalised_linear_model() -> None:
    rng = np.random.default_rng(2)
    counts = rng.negative_binomial(6, 6 / (6 + 40), (130, 3)).astype(float)
    counts[20:24, 1] = np.nan
    found = fit_trends(counts)
    years = (np.arange(130) - 64.5) / WEEKS_PER_YEAR
    design = np.column_stack([np.ones(130), years, np.sin(2 * np.pi * years), np.cos(2 * np.pi * years)])
    for place in range(3):
        use = ~np.isnan(counts[:, place])
        model = sm.GLM(counts[use, place], design[use], family=sm.families.Poisson()).fit(scale="X2")
        assert math.log1p(found.change_per_year[place]) == pytest.approx(model.params[1], rel=1e-6)
        assert found.dispersion[place] == pytest.approx(model.scale, rel=1e-6)
        half_width = math.log1p(found.high[place]) - math.log1p(found.change_per_year[place])
        assert half_width >= stats.t.ppf(0.975, model.df_resid) * model.bse[1] * (1 - 1e-9)


def test_a_planted_slope_is_recovered_and_covered() -> None:
    years = np.arange(156) / WEEKS_PER_YEAR
    means = 20 * np.exp(math.log(1.15) * years + 0.3 * np.sin(2 * np.pi * years))
    found = fit_trends(_weeks(means, 500, np.random.default_rng(3)))
    assert np.median(found.change_per_year) == pytest.approx(0.15, abs=0.01)
    covered = int(((found.low <= 0.15) & (found.high >= 0.15)).sum())
    assert covered >= stats.binom.ppf(0.001, 500, 0.95)
    assert (found.p_value < 0.05).mean() > 0.9


@pytest.mark.parametrize("kind", ["poisson", "negative binomial", "season"])
def test_flat_series_seldom_have_a_slope(kind: str) -> None:
    rng = np.random.default_rng(4)
    if kind == "negative binomial":
        counts = rng.negative_binomial(15, 15 / 45, (104, 1_000))
    else:
        season = 0.5 * np.sin(2 * np.pi * np.arange(104) / WEEKS_PER_YEAR) if kind == "season" else np.zeros(104)
        counts = _weeks(30 * np.exp(season), 1_000, rng)
    alarms = int((fit_trends(counts).p_value <= 0.05).sum())
    assert alarms <= stats.binom.ppf(0.999, 1_000, 0.05)


def test_weeks_that_resemble_each_other_raise_few_false_alarms() -> None:
    rng = np.random.default_rng(5)
    level = np.zeros((156, 1_000))
    for week in range(1, 156):
        level[week] = 0.5 * level[week - 1] + rng.normal(0, 0.15, 1_000)
    counts = rng.poisson(30 * np.exp(level))
    found = (fit_trends(counts).p_value <= 0.05).mean()
    assert found < 0.11  # taken for independent, these weeks give 0.16


def test_a_season_is_not_a_slope_in_the_line() -> None:
    years = np.arange(156) / WEEKS_PER_YEAR
    counts = _weeks(200 * np.exp(0.5 * np.sin(2 * np.pi * years)), 1, np.random.default_rng(6))
    line = fit_trends(counts).line[:, 0]
    assert line.max() / line.min() < 1.1


@pytest.mark.parametrize(
    ("counts", "flag"),
    [
        (np.zeros((60, 1)), "too-few-cases"),
        (np.full((4, 1), 50.0), "too-short"),
        (np.full((60, 1), np.nan), "too-short"),
        (np.zeros((0, 1)), "too-short"),
    ],
)
def test_what_has_no_slope_is_flagged(counts: NDArray[np.float64], flag: str) -> None:
    found = fit_trends(counts)
    assert found.flag == (flag,)
    assert np.isnan(found.p_value).all()
    assert np.isnan(found.change_per_year).all()


def test_a_constant_series_has_no_slope() -> None:
    found = fit_trends(np.full((60, 1), 12.0))
    assert found.flag == ("",)
    assert found.change_per_year[0] == pytest.approx(0.0, abs=1e-9)
    assert found.p_value[0] > 0.99


def test_all_cases_at_the_end_do_not_break_the_fit() -> None:
    counts = np.zeros((120, 2))
    counts[-1, 0] = 500
    counts[-10:, 1] = 3
    found = fit_trends(counts)
    assert all(flag in ("", "not-converged") for flag in found.flag)


def test_no_series_is_fine() -> None:
    assert fit_trends(np.zeros((60, 0))).flag == ()


@pytest.mark.parametrize("counts", [[[1.0, -1.0]], [[math.inf]], [1.0, 2.0]])
def test_bad_counts_are_refused(counts: list[list[float]]) -> None:
    with pytest.raises(SeriesError):
        fit_trends(counts)


def test_bad_options_are_refused() -> None:
    counts = np.ones((30, 1))
    for options in ({"periods_per_year": 0.0}, {"confidence": 1.0}, {"yearly_harmonics": -1}):
        with pytest.raises(ParameterError):
            fit_trends(counts, **options)  # type: ignore[arg-type]
    with pytest.raises(ParameterError):
        compare_rates(1, 1, dispersion=0.5)
    with pytest.raises(ParameterError):
        compare_rates(1, 1, reference_periods=0)
    with pytest.raises(SeriesError):
        compare_rates(-1, 1)


def test_a_ratio_agrees_with_the_exact_binomial() -> None:
    found = compare_rates(14.0, 60.0, reference_periods=8)
    exact = stats.binomtest(14, 74, 1 / 9)
    low, high = exact.proportion_ci(method="exact")
    assert float(found.ratio) == pytest.approx(14 / 60 * 8)
    assert (float(found.low), float(found.high)) == pytest.approx((8 * low / (1 - low), 8 * high / (1 - high)))
    greater = stats.binomtest(14, 74, 1 / 9, alternative="greater").pvalue
    assert float(found.p_value) == pytest.approx(2 * greater)


def test_a_ratio_is_covered_also_with_overdispersion() -> None:
    rng = np.random.default_rng(7)
    phi, mean = 2.5, 40.0
    draws = rng.negative_binomial(mean / (phi - 1), 1 / phi, (9, 1_000))
    found = compare_rates(draws[0], draws[1:].sum(axis=0), reference_periods=8, dispersion=phi)
    covered = int(((found.low <= 1) & (found.high >= 1)).sum())
    assert covered >= stats.binom.ppf(0.001, 1_000, 0.95)
    assert (found.p_value <= 0.05).sum() <= stats.binom.ppf(0.999, 1_000, 0.05)


def test_ratios_without_cases() -> None:
    found = compare_rates(np.array([0.0, 5.0, 0.0, np.nan]), np.array([0.0, 0.0, 6.0, 3.0]))
    assert np.isnan(found.ratio[[0, 3]]).all()
    assert found.ratio[1] == math.inf
    assert found.ratio[2] == 0
    assert found.p_value[0] == 1
    assert math.isnan(found.p_value[3])
    assert found.p_value[1] == pytest.approx(2 * 0.5**5)
