"""Chi-square and its relatives against scipy, textbooks and known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medisync.errors import ParameterError, SeriesError
from medisync.stats.association import (
    fisher_exact_p_value,
    measure_association,
    noncentrality_interval,
)

PARTY_BY_GENDER = [[762, 327, 468], [484, 239, 477]]
"""Agresti (2007), An Introduction to Categorical Data Analysis, 2nd ed., Table 2.5."""


def test_agrees_with_the_published_table() -> None:
    # Agresti (2007), section 2.4.2: X² = 30.1, df = 2; Table 2.5: expected 703.7, 319.6, 533.7; Table 2.6: residuals.
    found = measure_association(PARTY_BY_GENDER)
    assert found.chi_square == pytest.approx(30.07, abs=0.005)
    assert found.degrees_of_freedom == 2
    assert found.p_value < 0.0001
    assert found.expected[0] == pytest.approx([703.7, 319.6, 533.7], abs=0.05)
    assert found.adjusted_residuals[0] == pytest.approx([4.50, 0.70, -5.32], abs=0.005)


def test_agrees_with_scipy_on_random_tables() -> None:
    rng = np.random.default_rng(3)
    for rows, columns in ((2, 2), (2, 7), (6, 8), (9, 3)):
        table = rng.integers(5, 400, (rows, columns))
        theirs = stats.chi2_contingency(table, correction=False)
        ours = measure_association(table)
        assert (ours.chi_square, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-10)
        assert ours.expected == pytest.approx(theirs.expected_freq)
        assert ours.method == "chi-square"


def test_the_lady_tasting_tea() -> None:
    # Agresti (2007), section 2.6.2: the two-sided p-value is 0.486.
    found = measure_association([[3, 1], [1, 3]])
    assert found.method == "fisher"
    assert found.p_value == pytest.approx(34 / 70)


@pytest.mark.parametrize("seed", range(8))
def test_fisher_agrees_with_scipy(seed: int) -> None:
    table = np.random.default_rng(seed).integers(0, 12, (2, 2)).astype(float) + np.eye(2)
    assert fisher_exact_p_value(table) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)


def test_monte_carlo_agrees_with_the_exact_distribution() -> None:
    table = np.array([[4, 1, 0], [1, 3, 2], [0, 1, 6]])
    ours = measure_association(table, draws=40_000, seed=5)
    theirs = stats.chi2_contingency(
        table, correction=False, method=stats.MonteCarloMethod(n_resamples=40_000, rng=np.random.default_rng(1))
    ).pvalue
    assert ours.method == "monte-carlo"
    assert abs(ours.p_value - theirs) < 4 * math.sqrt(2 * theirs / 40_000)


def test_monte_carlo_is_repeatable_and_depends_on_the_seed() -> None:
    table = [[3, 1, 1], [1, 3, 2], [0, 1, 4]]
    first, again, other = (measure_association(table, draws=999, seed=seed).p_value for seed in (1, 1, 2))
    assert first == again != other


def test_noncentrality_interval_inverts_the_distribution() -> None:
    low, high = noncentrality_interval(30.0, 4)
    assert stats.ncx2.sf(30.0, 4, low) == pytest.approx(0.025)
    assert stats.ncx2.cdf(30.0, 4, high) == pytest.approx(0.025)
    assert noncentrality_interval(5.0, 4)[0] == 0.0


def test_a_statistic_below_expectation_does_not_claim_certainty() -> None:
    assert noncentrality_interval(0.01, 20)[1] == noncentrality_interval(20.0, 20)[1] > 0


def test_association_of_known_strength_is_recovered_without_bias() -> None:
    # 2 x 3 with population V: phi² = sum (p_ij - p_i p_j)²/(p_i p_j)
    joint = np.array([[0.24, 0.16, 0.10], [0.16, 0.16, 0.18]])
    independent = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    truth = math.sqrt(((joint - independent) ** 2 / independent).sum())
    rng = np.random.default_rng(8)
    draws = rng.multinomial(300, joint.ravel(), size=600).reshape(-1, 2, 3)
    found = [measure_association(draw) for draw in draws]
    mean_square = np.mean([one.cramers_v**2 for one in found])
    assert mean_square == pytest.approx(truth**2, rel=0.06)
    covered = sum(one.cramers_v_low <= truth <= one.cramers_v_high for one in found)
    assert stats.binomtest(covered, 600, 0.95).pvalue > 0.001


@pytest.mark.parametrize(("total", "shape"), [(400, (3, 4)), (25, (3, 3)), (30, (2, 2))])
def test_false_alarms_stay_at_the_level(total: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(11)
    draws = rng.multinomial(total, np.full(shape[0] * shape[1], 1 / (shape[0] * shape[1])), size=400)
    alarms = sum(measure_association(one.reshape(shape), draws=999).p_value <= 0.05 for one in draws)
    assert stats.binomtest(alarms, 400, 0.05, alternative="greater").pvalue > 0.001


def test_no_association_has_a_bias_corrected_v_near_zero() -> None:
    rng = np.random.default_rng(2)
    tables = rng.multinomial(60, np.full(30, 1 / 30), size=200).reshape(-1, 5, 6)
    corrected = np.mean([measure_association(one, draws=99).cramers_v for one in tables])
    plain = np.mean([stats.contingency.association(one[:, one.sum(axis=0) > 0]) for one in tables])
    assert corrected < 0.1 < 0.25 < plain


def test_perfect_association() -> None:
    found = measure_association([[50, 0], [0, 50]])
    assert found.cramers_v == pytest.approx(1.0)
    assert found.cramers_v_high == 1.0


def test_a_design_effect_divides_the_statistic_and_widens_the_interval() -> None:
    plain, inflated = (measure_association(PARTY_BY_GENDER, design_effect=effect) for effect in (1.0, 3.0))
    assert inflated.p_value == pytest.approx(float(stats.chi2.sf(plain.chi_square / 3, 2)))
    assert inflated.cramers_v_high - inflated.cramers_v_low > plain.cramers_v_high - plain.cramers_v_low


def test_an_empty_row_is_left_out_and_flagged() -> None:
    with_gap = measure_association([[762, 327, 468], [0, 0, 0], [484, 239, 477]])
    assert with_gap.p_value == measure_association(PARTY_BY_GENDER).p_value
    assert with_gap.flags == ("empty-rows-left-out",)
    assert with_gap.expected[1].tolist() == [0, 0, 0]
    assert np.isnan(with_gap.adjusted_residuals[1]).all()


@pytest.mark.parametrize(
    ("table", "flag"),
    [
        ([[0, 0], [0, 0]], "no-cases"),
        ([[1, 0], [0, 0]], "only-one-row-or-column"),
        ([[5, 9]], "only-one-row-or-column"),
        (np.zeros((0, 3)), "no-cases"),
    ],
)
def test_what_cannot_be_tested_is_flagged(table: object, flag: str) -> None:
    found = measure_association(np.asarray(table))
    assert found.method == "none"
    assert math.isnan(found.p_value)
    assert math.isnan(found.cramers_v)
    assert flag in found.flags


@pytest.mark.parametrize(
    "table", [[[1, 2], [3, math.nan]], [[1, -2], [3, 4]], [[1, 2.5], [3, 4]], [1, 2, 3], [[1, 2], [3]], [["a", "b"]]]
)
def test_bad_tables_are_refused(table: object) -> None:
    with pytest.raises(SeriesError):
        measure_association(table)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"design_effect": 0.5}, {"confidence": 1.0}, {"draws": 10}])
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        measure_association(PARTY_BY_GENDER, **options)  # type: ignore[arg-type]
