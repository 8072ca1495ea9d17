"""Scores against their definitions, the accuracy test against the t-test and against known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medisync.errors import ParameterError
from medisync.stats.accuracy_test import Verdict, diebold_mariano
from medisync.stats.scores import LEVELS, interval_coverage, naive_scale, weighted_interval_score


def test_weighted_interval_score_is_the_weighted_sum_of_interval_scores():
    """Bracher et al. (2021), equation 1 and 2, spelled out."""
    quantiles, truth = np.array([2.0, 4, 6, 9, 12, 15, 20]), 21.0
    total = 0.5 * abs(truth - 9)
    for lower, upper, alpha in ((2, 20, 0.05), (4, 15, 0.2), (6, 12, 0.5)):
        score = (upper - lower) + 2 / alpha * max(lower - truth, 0) + 2 / alpha * max(truth - upper, 0)
        total += alpha / 2 * score
    assert weighted_interval_score(quantiles, np.array(truth)) == pytest.approx(total / 3.5)


def test_a_single_median_scores_its_absolute_error():
    assert weighted_interval_score(np.array([[4.0]]), np.array([9.0]), (0.5,)) == pytest.approx([5.0])


def test_coverage_counts_bounds_as_inside_and_leaves_out_what_is_missing():
    quantiles = np.tile(np.array([1.0, 2, 3, 4, 5, 6, 7]), (4, 1))
    assert interval_coverage(quantiles, np.array([1.0, 4.0, 8.0, np.nan])) == {
        50: pytest.approx(100 / 3),
        80: pytest.approx(100 / 3),
        95: pytest.approx(200 / 3),
    }


def test_naive_scale_is_the_seasonal_difference_and_falls_back_to_neighbours():
    values = np.array([[1.0, 5, 2, 7, np.nan, 8]])
    assert naive_scale(values, 2) == pytest.approx([np.mean([1, 2, 1])])
    assert naive_scale(values[:, :3], 12) == pytest.approx([3.5])
    assert np.isnan(naive_scale(np.full((1, 9), 4.0), 2)).all()


@pytest.mark.parametrize("levels", [(), (0.1, 0.9), (0.1, 0.5, 0.8), (0.5, 0.1, 0.9), (0.0, 0.5, 1.0)])
def test_levels_have_to_be_symmetric_round_the_median(levels):
    with pytest.raises(ParameterError):
        weighted_interval_score(np.zeros((1, len(levels))), np.zeros(1), levels)


def test_without_overlap_the_corrected_test_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    loss, reference = rng.random((3, 25)), rng.random((3, 25)) + 0.1
    test = diebold_mariano(loss, reference)
    expected = stats.ttest_1samp(loss - reference, 0, axis=1)
    assert test.statistic == pytest.approx(expected.statistic)
    assert test.p_value == pytest.approx(expected.pvalue)


def test_overlap_of_two_spelled_out():
    """Harvey, Leybourne and Newbold (1997), equation 9, for two-step forecasts."""
    d = np.random.default_rng(2).normal(size=20)
    n, h, centred = 20, 2, d - d.mean()
    variance = (centred @ centred / n + 2 * (centred[1:] @ centred[:-1]) / n) / n
    factor = np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    assert diebold_mariano(d[None], np.zeros((1, 20)), 2).statistic == pytest.approx(
        [factor * d.mean() / np.sqrt(variance)]
    )


def test_verdicts():
    rng = np.random.default_rng(3)
    reference = rng.random((4, 30)) + 1
    loss = reference.copy()
    loss[0] -= 0.5 + 0.1 * rng.random(30)  # better
    loss[1] += 0.5 + 0.1 * rng.random(30)  # worse
    loss[3, 5:] = np.nan  # too few to tell
    test = diebold_mariano(loss, reference)
    assert test.verdicts() == (Verdict.BETTER, Verdict.NO_BETTER, Verdict.NO_BETTER, Verdict.UNTESTED)
    assert test.p_value[2] == 1


def test_false_verdicts_are_as_rare_as_promised():
    """Equal forecasts, losses correlated over four origins: 5 % two-sided, so about 2.5 % are called better."""
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(2000, 43))
    moving = sum(noise[:, i : i + 40] for i in range(4))
    test = diebold_mariano(moving, np.zeros((2000, 40)), 4)
    better = np.mean([one is Verdict.BETTER for one in test.verdicts()])
    assert 0.01 < better < 0.06


def test_levels_carried_by_every_forecast():
    assert LEVELS == (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
