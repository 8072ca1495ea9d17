"""Rates of any units, and stays of any length, get a sensible answer or a clear refusal, never a crash."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medisync.errors import ParameterError
from medisync.stats.census import stretched
from medisync.stats.funnel import funnel, wilson_interval
from medisync.stats.readmissions import AS_EXPECTED, STANDS_OUT, TOO_FEW, compare_units, headline, overall

SMALL = settings(max_examples=60, deadline=None)

units = st.lists(
    st.integers(0, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))), min_size=1, max_size=9
)
broken = st.sampled_from([(-1, 5), (6, 5), (float("nan"), 5), (1, float("nan")), (1, float("inf")), (0, -1)])


@SMALL
@given(units)
def test_an_interval_of_a_share_holds_it_and_stays_between_0_and_1(counted: list[tuple[int, int]]) -> None:
    events, totals = np.array(counted, dtype=float).T
    low, high = wilson_interval(events, totals)
    some = totals > 0
    assert np.isnan(low[~some]).all()
    share = events[some] / totals[some]
    assert ((low[some] >= 0) & (low[some] <= share + 1e-12)).all()
    assert ((high[some] >= share - 1e-12) & (high[some] <= 1)).all()


@SMALL
@given(units, broken, st.integers(0, 8))
def test_counts_that_cannot_be_are_refused(counted: list[tuple[int, int]], fault: tuple[float, float], at: int) -> None:
    rows = [*counted[:at], fault, *counted[at:]]
    events, totals = np.array(rows, dtype=float).T
    for refuses in (funnel, wilson_interval):
        with pytest.raises(ValueError, match=r"between 0 and its total|positive totals"):
            refuses(events, totals)


@SMALL
@given(units, st.permutations(range(9)))
def test_a_funnel_does_not_depend_on_the_order_of_its_units(counted: list[tuple[int, int]], order: list[int]) -> None:
    known = np.array([pair for pair in counted if pair[1] > 0] or [(0, 1)], dtype=float)
    shuffled = [place for place in order if place < len(known)]
    one, other = funnel(*known.T), funnel(*known[shuffled].T)
    assert other.z == pytest.approx(one.z[shuffled])
    assert ((one.p_values >= 0) & (one.p_values <= 1)).all()
    assert one.between_variance >= 0
    inner, outer = one.limits(known[:, 1], 0.95), one.limits(known[:, 1], 0.998)
    for low, high in (inner, outer):
        assert ((low >= 0) & (low <= one.share + 1e-12) & (high >= one.share - 1e-12) & (high <= 1)).all()
    assert (outer[0] <= inner[0] + 1e-12).all()
    assert (outer[1] >= inner[1] - 1e-12).all()


@SMALL
@given(units, st.integers(1, 500))
def test_no_stay_is_lost_when_units_are_compared(counted: list[tuple[int, int]], least: int) -> None:
    counts = pd.DataFrame(
        [(f"unit {i}", total, events) for i, (events, total) in enumerate(counted)],
        columns=["unit", "index_stays", "readmitted"],
    )
    table, _ = compare_units(counts, least_stays=least, alpha=0.05)
    assert table["index_stays"].sum() == counts["index_stays"].sum()
    assert table["readmitted"].sum() == counts["readmitted"].sum()
    assert set(table["verdict"]) <= {STANDS_OUT, AS_EXPECTED, TOO_FEW}
    assert (table.loc[table["verdict"] != TOO_FEW, "index_stays"] >= least).all()
    stays = int(counts["index_stays"].sum())
    told = headline(overall(counts), stays, 30, "unplanned readmission", table)
    assert told.endswith(".")
    assert "nan" not in told


@SMALL
@given(
    arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)),
    st.floats(0.05, 20),
    st.sampled_from([0, -1, np.inf]),
)
def test_longer_stays_keep_a_survival_curve_and_their_mean(
    shares: np.ndarray, factor: float, impossible: float
) -> None:
    still_in = np.sort(shares)[::-1]
    longer = stretched(still_in, factor)
    assert ((longer >= 0) & (longer <= 1)).all()
    assert (np.diff(longer) <= 1e-9).all()
    assert longer.sum() == pytest.approx(factor * still_in.sum())
    with pytest.raises(ParameterError):
        stretched(still_in, impossible)
