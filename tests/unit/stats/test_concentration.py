"""Uniformity, Gini and Pareto's classes against scipy, hand-worked values and known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medisync.errors import ParameterError, SeriesError
from medisync.stats.concentration import compare_with_uniform, gini, measure_concentration

ZIPF = 1 / np.arange(1, 31) ** 1.5


def test_uniformity_agrees_with_scipy() -> None:
    counts = [52, 61, 40, 47, 70]
    ours, theirs = compare_with_uniform(counts), stats.chisquare(counts)
    assert (ours.chi_square, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert ours.cohens_w == pytest.approx(math.sqrt(theirs.statistic / 270))


def test_small_counts_use_the_multinomial_itself() -> None:
    # Three cases in three items: P(all in one) = 3/27, where chi-square is largest.
    found = compare_with_uniform([3, 0, 0], draws=20_000)
    assert found.method == "monte-carlo"
    assert found.p_value == pytest.approx(1 / 9, abs=0.01)


@pytest.mark.parametrize("total", [20, 500])
def test_even_use_is_seldom_called_uneven(total: int) -> None:
    draws = np.random.default_rng(5).multinomial(total, np.full(8, 1 / 8), size=500)
    alarms = sum(compare_with_uniform(one, draws=999).p_value <= 0.05 for one in draws)
    assert stats.binomtest(alarms, 500, 0.05, alternative="greater").pvalue > 0.001


@pytest.mark.parametrize(
    ("counts", "expected"), [([1, 2, 3, 4], 0.25), ([7, 7, 7], 0.0), ([0, 0, 0, 9], 0.75), ([1, 3], 0.25)]
)
def test_gini_by_hand(counts: list[int], expected: float) -> None:
    assert gini(np.array([counts]))[0] == pytest.approx(expected)


def test_classes_by_hand() -> None:
    found = measure_concentration([10, 50, 5, 30, 3, 2])
    assert found.abc_class.tolist() == ["B", "A", "B", "A", "C", "C"]
    assert found.class_a_items == 2
    assert found.cumulative_share == pytest.approx([0.9, 0.5, 0.95, 0.8, 0.98, 1.0])
    assert found.rank.tolist() == [3, 1, 4, 2, 5, 6]
    assert found.class_a_if_even == 5


def test_ties_share_a_rank() -> None:
    assert measure_concentration([4, 9, 4, 1]).rank.tolist() == [2, 1, 2, 4]


def test_a_planted_vital_few_is_found_and_its_interval_covers_the_truth() -> None:
    shares = ZIPF / ZIPF.sum()
    truth = int((np.cumsum(shares) < 0.8).sum()) + 1
    covered = 0
    for one in np.random.default_rng(6).multinomial(3_000, shares, size=200):
        found = measure_concentration(one, draws=299)
        covered += found.class_a_low <= truth <= found.class_a_high
        assert found.has_vital_few
    assert covered >= 180  # discrete, so more than 95 % is fine; 180 of 200 is the binomial 0.1 % bound


def test_even_use_has_no_vital_few_and_a_gini_as_chance_gives_it() -> None:
    found = measure_concentration(np.random.default_rng(1).multinomial(10_000, np.full(20, 0.05)))
    assert not found.has_vital_few
    assert found.gini == pytest.approx(found.gini_if_even, rel=0.6)


def test_repeated_patients_widen_the_interval() -> None:
    counts = np.random.default_rng(1).multinomial(900, ZIPF / ZIPF.sum())
    narrow, wide = (measure_concentration(counts, design_effect=effect) for effect in (1.0, 6.0))
    assert wide.class_a_high - wide.class_a_low > narrow.class_a_high - narrow.class_a_low


def test_nothing_counted() -> None:
    found = measure_concentration([0, 0, 0])
    assert found.class_a_items == 0
    assert math.isnan(found.gini)
    assert not found.has_vital_few
    assert compare_with_uniform([0, 0, 0]).method == compare_with_uniform([7]).method == "none"


def test_one_item_has_everything() -> None:
    found = measure_concentration([12])
    assert (found.class_a_items, found.class_a_low, found.class_a_high, found.gini) == (1, 1, 1, 0.0)


@pytest.mark.parametrize("counts", [[1, math.nan], [1, -1], [0.5, 1], [[1, 2], [3, 4]]])
def test_bad_counts_are_refused(counts: list[float]) -> None:
    for function in (compare_with_uniform, measure_concentration):
        with pytest.raises(SeriesError):
            function(counts)


def test_no_item_is_refused() -> None:
    with pytest.raises(SeriesError):
        measure_concentration([])


@pytest.mark.parametrize(
    "options",
    [{"class_a_share": 0.96}, {"class_b_share": 1.2}, {"design_effect": 0.9}, {"draws": 5}, {"confidence": 0.0}],
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        measure_concentration([1, 2, 3], **options)  # type: ignore[arg-type]
