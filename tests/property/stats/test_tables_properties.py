"""Any table, ranking, grouping or panel of counts gets a sensible answer or a clear refusal, never a crash."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from medisync.errors import MediSyncError, ParameterError, SeriesError
from medisync.stats.age_bands import UNKNOWN, AgeBands
from medisync.stats.association import measure_association, noncentrality_interval
from medisync.stats.concentration import compare_with_uniform, gini, measure_concentration
from medisync.stats.repeated import RepeatedCounts, one_way_design_effect, two_way_design_effect
from medisync.stats.standardised_difference import difference_of_means, difference_of_shares
from medisync.stats.trend import compare_rates, fit_trends

SMALL = settings(max_examples=60, deadline=None)
FEW = settings(max_examples=25, deadline=None)

counts_1d = arrays(np.int64, st.integers(0, 12), elements=st.integers(0, 300))
tables = arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(0, 40))
anything = arrays(
    np.float64, array_shapes(max_dims=3, max_side=4), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)
)


@SMALL
@given(tables)
def test_an_association_is_complete_and_in_range(table: NDArray[np.int64]) -> None:
    found = measure_association(table, draws=99)
    assert found.expected.shape == found.adjusted_residuals.shape == table.shape
    assert found.expected.sum() == pytest.approx(table.sum())
    if found.method == "none":
        assert math.isnan(found.p_value)
        assert found.flags
    else:
        assert 0 <= found.p_value <= 1
        assert 0 <= found.cramers_v_low <= found.cramers_v <= found.cramers_v_high <= 1
        assert found.expected.sum(axis=0) == pytest.approx(table.sum(axis=0))
        assert np.isnan(found.adjusted_residuals).any() == ("left-out" in " ".join(found.flags))


@SMALL
@given(tables, st.randoms(use_true_random=False))
def test_an_association_does_not_depend_on_order_or_orientation(table: NDArray[np.int64], shuffle: object) -> None:
    rows, columns = list(range(table.shape[0])), list(range(table.shape[1]))
    shuffle.shuffle(rows)  # type: ignore[attr-defined]
    shuffle.shuffle(columns)  # type: ignore[attr-defined]
    one, other = (measure_association(t, draws=99) for t in (table, table[np.ix_(rows, columns)].T))
    assert one.chi_square == pytest.approx(other.chi_square, nan_ok=True)
    assert one.cramers_v == pytest.approx(other.cramers_v, nan_ok=True)
    assert one.method == other.method
    if one.method in ("chi-square", "fisher"):
        assert one.p_value == pytest.approx(other.p_value)


@SMALL
@given(tables)
def test_an_empty_row_changes_nothing(table: NDArray[np.int64]) -> None:
    padded = np.vstack([table, np.zeros((1, table.shape[1]), dtype=np.int64)])
    one, other = measure_association(table, draws=99), measure_association(padded, draws=99)
    assert one.p_value == pytest.approx(other.p_value, nan_ok=True)
    assert one.cramers_v == pytest.approx(other.cramers_v, nan_ok=True)


@SMALL
@given(anything)
def test_whatever_is_given_is_answered_or_refused(values: NDArray[np.float64]) -> None:
    for function in (
        lambda: measure_association(values, draws=99),
        lambda: compare_with_uniform(values, draws=99),
        lambda: measure_concentration(values, draws=99),
        lambda: difference_of_shares(values, values),
        lambda: fit_trends(values),
        lambda: RepeatedCounts(values, values, values),
    ):
        with contextlib.suppress(MediSyncError):
            function()


@SMALL
@given(st.floats(0, 1e6), st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_noncentralities_are_ordered(statistic: float, freedom: int, confidence: float) -> None:
    low, high = noncentrality_interval(statistic, freedom, confidence=confidence)
    assert 0 <= low <= high < math.inf


@SMALL
@given(counts_1d)
def test_uniformity_is_a_probability_or_nothing(counts: NDArray[np.int64]) -> None:
    found = compare_with_uniform(counts, draws=99)
    testable = counts.size >= 2 and counts.sum() > 0
    assert (found.method != "none") == testable
    assert 0 <= found.p_value <= 1 if testable else math.isnan(found.p_value)
    if testable and np.ptp(counts) == 0:
        assert found.p_value == 1.0


@SMALL
@given(counts_1d.filter(lambda counts: counts.size > 0))
def test_pareto_classes_are_consistent(counts: NDArray[np.int64]) -> None:
    found = measure_concentration(counts, draws=99)
    assert set(found.abc_class) <= {"A", "B", "C"}
    assert (found.rank >= 1).all()
    assert found.class_a_low <= found.class_a_items <= found.class_a_high <= counts.size
    in_a = found.abc_class == "A"
    assert int(in_a.sum()) == found.class_a_items
    if counts.sum() == 0:
        assert found.class_a_items == 0
        return
    assert found.share.sum() == pytest.approx(1)
    assert counts[in_a].sum() >= 0.8 * counts.sum() - 1e-6
    assert counts[in_a].sum() - counts[in_a].min() < 0.8 * counts.sum()
    assert counts[in_a].min() >= counts[~in_a].max(initial=0)
    assert 0 <= found.gini <= 1 - 1 / counts.size + 1e-12
    assert gini(counts[None, :] * 7)[0] == pytest.approx(found.gini, abs=1e-12)


@SMALL
@given(st.lists(st.integers(1, 130), unique=True, max_size=12), st.lists(st.integers(0, 130) | st.none(), max_size=40))
def test_everyone_has_exactly_one_age_band(starts: list[int], ages: list[int | None]) -> None:
    bands = AgeBands((0, *sorted(starts)))
    labels = bands.label(ages)
    assert len(set(bands.labels)) == len(bands.starts)
    for age, label in zip(ages, labels, strict=True):
        expected = UNKNOWN if age is None else bands.labels[sum(start <= age for start in bands.starts) - 1]
        assert label == expected


@SMALL
@given(st.lists(st.integers(-5, 140), max_size=5))
def test_age_bands_are_gapless_or_refused(starts: list[int]) -> None:
    try:
        bands = AgeBands(tuple(starts))
    except ParameterError:
        return
    assert UNKNOWN not in set(bands.label(np.arange(131)))


@SMALL
@given(st.integers(1, 8).flatmap(lambda k: st.tuples(*(arrays(np.int64, k, elements=st.integers(0, 200)),) * 2)))
def test_differences_of_shares(groups: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    now, before = groups
    found = difference_of_shares(now, before)
    if math.isfinite(found.value):
        assert 0 <= found.low <= found.value <= found.high
        assert 0 <= found.p_value <= 1
        assert difference_of_shares(before, now).value == pytest.approx(found.value, abs=1e-6)
    same = difference_of_shares(now, now).value
    assert math.isnan(same) or same == pytest.approx(0.0, abs=1e-6)


number = st.floats(-1e6, 1e6)
positive = st.floats(0, 1e6)


@SMALL
@given(number, positive, st.integers(0, 10_000), number, positive, st.integers(0, 10_000))
def test_differences_of_means(m1: float, s1: float, n1: int, m2: float, s2: float, n2: int) -> None:
    found = difference_of_means(m1, s1, n1, m2, s2, n2)
    assert math.isnan(found.value) or found.low <= found.value <= found.high
    swapped = difference_of_means(m2, s2, n2, m1, s1, n1)
    assert swapped.value == pytest.approx(-found.value, nan_ok=True)


weekly_counts = arrays(
    np.float64,
    st.tuples(st.sampled_from([0, 1, 2, 7, 12, 60, 120]), st.integers(0, 4)),
    elements=st.one_of(st.integers(0, 30).map(float), st.just(math.nan), st.just(0.0)),
)


@FEW
@given(weekly_counts)
def test_trends_are_flagged_or_finite(counts: NDArray[np.float64]) -> None:
    found = fit_trends(counts)
    assert len(found.flag) == counts.shape[1]
    assert found.line.shape == counts.shape
    for place, flag in enumerate(found.flag):
        values = (found.change_per_year[place], found.low[place], found.high[place], found.p_value[place])
        if flag:
            assert np.isnan(values).all()
        else:
            assert -1 <= values[1] <= values[0] <= values[2] < math.inf
            assert 0 <= values[3] <= 1
            assert found.dispersion[place] >= 1


def test_ten_thousand_weeks() -> None:
    found = fit_trends(np.random.default_rng(1).poisson(3, (10_000, 2)))
    assert found.flag == ("", "")


@SMALL
@given(
    arrays(np.float64, 6, elements=st.integers(0, 500).map(float) | st.just(math.nan)),
    arrays(np.float64, 6, elements=st.integers(0, 500).map(float) | st.just(math.nan)),
    st.floats(1, 50),
    st.integers(1, 52),
)
def test_rate_ratios_lie_in_their_intervals(
    cases: NDArray[np.float64], reference: NDArray[np.float64], dispersion: float, periods: int
) -> None:
    found = compare_rates(cases, reference, dispersion=dispersion, reference_periods=periods)
    for ratio, low, high, p in zip(found.ratio, found.low, found.high, found.p_value, strict=True):
        if math.isnan(ratio):
            assert math.isnan(p) or p == 1
        else:
            assert 0 <= low <= ratio * (1 + 1e-9) <= high * (1 + 1e-9) or high == math.inf
            assert 0 <= p <= 1
            if p > 0.05 * 1.01:
                assert low <= 1 <= high


@SMALL
@given(
    arrays(np.int64, st.tuples(st.integers(1, 30), st.integers(1, 3), st.integers(1, 4)), elements=st.integers(0, 3))
)
def test_design_effects_are_at_least_one(per_patient: NDArray[np.int64]) -> None:
    def sums(counts: NDArray[np.int64]) -> RepeatedCounts:
        flat = counts.reshape(counts.shape[0], -1).astype(float)
        total = flat.sum(axis=1, keepdims=True)
        parts = (flat.sum(axis=0), (flat**2).sum(axis=0), (flat * total).sum(axis=0))
        return RepeatedCounts(*(part.reshape(counts.shape[1:]) for part in parts))

    squares = float((per_patient.sum(axis=(1, 2)).astype(float) ** 2).sum())
    effect = two_way_design_effect(
        sums(per_patient), sums(per_patient.sum(axis=2)), sums(per_patient.sum(axis=1)), squares
    )
    assert 1 <= effect < math.inf
    assert 1 <= one_way_design_effect(sums(per_patient.sum(axis=1)), squares) < math.inf


def test_a_shape_that_fits_nothing_is_refused() -> None:
    with pytest.raises(SeriesError):
        measure_association(np.zeros((2, 2, 2)))
