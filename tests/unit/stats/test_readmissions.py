"""Readmission rates and funnels against known truth: nothing planted is not found, what is planted is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medisync.stats.funnel import funnel, wilson_interval
from medisync.stats.readmissions import AS_EXPECTED, STANDS_OUT, TOO_FEW, compare_units, headline, overall


def units(index_stays: np.ndarray, readmitted: np.ndarray) -> pd.DataFrame:
    names = [f"Site {number:02d}" for number in range(len(index_stays))]
    return pd.DataFrame({"unit": names, "index_stays": index_stays, "readmitted": readmitted})


def test_wilson_s_interval_is_that_of_the_literature() -> None:
    """Newcombe (1998), Statistics in Medicine 17:857-872, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    low, high = wilson_interval([81, 15, 0, 1], [263, 148, 20, 29])
    assert low.round(4).tolist() == [0.2553, 0.0624, 0.0, 0.0061]
    assert high.round(4).tolist() == [0.3662, 0.1605, 0.1611, 0.1718]


def test_units_alike_rarely_stand_out() -> None:
    rng = np.random.default_rng(1)
    rounds, found = 400, 0
    for _ in range(rounds):
        sizes = rng.integers(60, 2000, 20)
        table, _ = compare_units(units(sizes, rng.binomial(sizes, 0.12)), least_stays=50, alpha=0.05)
        found += int((table["verdict"] == STANDS_OUT).any())
    assert found <= rounds * 0.05 + 3 * np.sqrt(rounds * 0.05 * 0.95)


def test_a_planted_unit_stands_out_and_only_that() -> None:
    rng = np.random.default_rng(2)
    hits, others = 0, 0
    for _ in range(100):
        sizes = rng.integers(300, 2000, 20)
        share = np.full(20, 0.10)
        share[7] = 0.20
        table, _ = compare_units(units(sizes, rng.binomial(sizes, share)), least_stays=50, alpha=0.05)
        out = table.loc[table["verdict"] == STANDS_OUT, "unit"].tolist()
        hits += "Site 07" in out
        others += len(set(out) - {"Site 07"})
    assert hits >= 90
    assert others <= 20


def test_limits_widen_when_units_differ_more_than_chance() -> None:
    rng = np.random.default_rng(3)
    flagged = {"as they are": 0, "widened": 0}
    for _ in range(60):
        sizes = rng.integers(500, 3000, 40)
        hits = rng.binomial(sizes, rng.beta(20, 180, 40))
        table, found = compare_units(units(sizes, hits), least_stays=50, alpha=0.05)
        assert found is not None
        assert found.between_variance > 0
        flagged["widened"] += int((table["verdict"] == STANDS_OUT).sum())
        share = hits.sum() / sizes.sum()
        z = (hits / sizes - share) / np.sqrt(share * (1 - share) / sizes)
        flagged["as they are"] += int((abs(z) > 3.09).sum())
    assert flagged["as they are"] > 400
    assert flagged["widened"] < 60


def test_limits_hold_as_many_units_as_they_say() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(100, 2000, 5000)
    hits = rng.binomial(sizes, 0.15)
    found = funnel(hits, sizes)
    for level in (0.95, 0.998):
        low, high = found.limits(sizes, level)
        inside = np.mean((hits / sizes >= low) & (hits / sizes <= high))
        assert inside == pytest.approx(level, abs=0.012)


def test_small_units_are_put_together_and_not_judged() -> None:
    table, found = compare_units(
        units(np.array([200, 300, 3, 4, 0]), np.array([20, 30, 3, 0, 0])), least_stays=50, alpha=0.05
    )
    assert found is not None
    assert table["unit"].tolist() == ["Site 00", "Site 01", "2 with fewer than 50 stays"]
    assert table["verdict"].tolist() == [AS_EXPECTED, AS_EXPECTED, TOO_FEW]
    assert table["readmitted"].tolist() == [20, 30, 3]


@pytest.mark.parametrize("stays", [[], [0, 0], [3, 4], [400]])
def test_too_few_is_said(stays: list[int]) -> None:
    counts = units(np.array(stays, dtype=int), np.zeros(len(stays), dtype=int))
    table, found = compare_units(counts, least_stays=50, alpha=0.05)
    assert found is None
    assert (table["verdict"] == TOO_FEW).all()
    said = headline(overall(counts), sum(stays), 30, "unplanned readmission", table)
    assert ("nothing can be said" if not sum(stays) else "too few stays") in said


def test_columns_that_lack_and_impossible_counts_are_named() -> None:
    with pytest.raises(ValueError, match="counts lack readmitted"):
        compare_units(pd.DataFrame({"unit": [], "index_stays": []}), least_stays=50, alpha=0.05)
    for events, totals in (([3], [2]), ([-1], [2]), ([], []), ([0], [0])):
        with pytest.raises(ValueError, match=r"funnel needs|between 0 and its total"):
            funnel(events, totals)
