"""Standardised differences against their formulas and known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medisync.errors import ParameterError, SeriesError
from medisync.stats.standardised_difference import difference_of_means, difference_of_shares


def test_means_by_hand() -> None:
    found = difference_of_means(55.0, 10.0, 200, 50.0, 10.0, 200)
    assert found.value == pytest.approx(0.5)
    # Hedges and Olkin (1985), p. 86: se² = 400/40000 + 0.25/800
    assert found.high - found.value == pytest.approx(1.959964 * math.sqrt(0.01 + 0.25 / 800), rel=1e-6)


def test_shares_of_two_categories_agree_with_the_binary_formula() -> None:
    # Austin (2009), section 2: d = (p1 - p2)/sqrt((p1 q1 + p2 q2)/2); less one degree of freedom's expectation
    found = difference_of_shares([300, 700], [200, 800])
    binary = (0.3 - 0.2) / math.sqrt((0.3 * 0.7 + 0.2 * 0.8) / 2)
    assert found.value == pytest.approx(math.sqrt(binary**2 - 1 / 500))
    assert found.p_value == pytest.approx(stats.chi2_contingency([[300, 700], [200, 800]], correction=False).pvalue)


def test_true_difference_of_means_is_covered() -> None:
    rng = np.random.default_rng(3)
    now, before = rng.normal(0.3, 1, (500, 60)), rng.normal(0, 1, (500, 90))
    covered = 0
    for one, other in zip(now, before, strict=True):
        found = difference_of_means(one.mean(), one.std(ddof=1), 60, other.mean(), other.std(ddof=1), 90)
        covered += found.low <= 0.3 <= found.high
    assert stats.binomtest(covered, 500, 0.95).pvalue > 0.001


def test_true_difference_of_shares_is_covered_and_hardly_biased() -> None:
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.3, 0.3, 0.2, 0.2])
    spread = sum((np.diag(s) - np.outer(s, s)) / 2 for s in (p, q))[:-1, :-1]
    gap = (p - q)[:-1]
    truth = math.sqrt(gap @ np.linalg.inv(spread) @ gap)
    rng = np.random.default_rng(4)
    found = [difference_of_shares(rng.multinomial(400, p), rng.multinomial(400, q)) for _ in range(500)]
    covered = sum(one.low <= truth <= one.high for one in found)
    assert stats.binomtest(covered, 500, 0.95).pvalue > 0.001
    assert np.mean([one.value**2 for one in found]) == pytest.approx(truth**2, rel=0.08)


def test_equal_groups_seldom_differ() -> None:
    rng = np.random.default_rng(5)
    p = np.full(8, 1 / 8)
    alarms = sum(
        difference_of_shares(rng.multinomial(300, p), rng.multinomial(250, p)).p_value <= 0.05 for _ in range(500)
    )
    assert stats.binomtest(alarms, 500, 0.05).pvalue > 0.001


def test_what_cannot_be_compared_is_nan() -> None:
    for found in (
        difference_of_means(50, 10, 1, 50, 10, 100),
        difference_of_means(50, 0, 100, 50, 0, 100),
        difference_of_means(math.nan, 10, 100, 50, 10, 100),
        difference_of_shares([0, 0], [1, 2]),
        difference_of_shares([3, 0], [4, 0]),
        difference_of_shares([], []),
    ):
        assert math.isnan(found.value)
        assert math.isnan(found.p_value)


def test_separate_groups_are_infinitely_far_apart() -> None:
    found = difference_of_shares([30, 0], [0, 40])
    assert found.value == math.inf
    assert found.p_value < 1e-10


def test_bad_input_is_refused() -> None:
    with pytest.raises(SeriesError):
        difference_of_shares([1, 2], [1, 2, 3])
    with pytest.raises(SeriesError):
        difference_of_shares([1, math.nan], [1, 2])
    with pytest.raises(SeriesError):
        difference_of_means(1, -1, 5, 1, 1, 5)
    with pytest.raises(ParameterError):
        difference_of_means(1, 1, 5, 1, 1, 5, confidence=2)
