"""Whatever the table: the attacker with a linear programme learns no small count, and few others are withheld."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medisync.disclosure.policy import Policy
from medisync.disclosure.release import release
from tests.support.disclosure_attack import attack, unchanged_and_shown
from tests.unit.disclosure.test_release import grid

POLICY = Policy()
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6))
FEW = st.integers(0, 6)
NUMBERS = st.one_of(st.integers(0, 12), st.integers(0, 400))


def least_possible(truth: np.ndarray, key: tuple[str, tuple[tuple[str, str], ...]]) -> int:
    """A total of k groups that are not empty is at least k: no marker can hide that."""
    place = dict(key[1])
    part = truth[int(place["site"].split()[1])] if "site" in place else truth
    if "age" in place:
        part = part[..., int(place["age"].split()[1])]
    return max(1, int(np.count_nonzero(part)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    hnp.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=NUMBERS), st.sampled_from([5, 10])
)
def test_no_small_count_of_a_table_with_margins_can_be_worked_out(numbers: np.ndarray, threshold: int) -> None:
    result = grid(numbers.tolist())
    document = release(result, Policy(threshold=threshold))
    assert document.note.counts_exposed_before == 0
    for one in attack([(result, document)], only_small=threshold):
        assert one.low <= least_possible(numbers, one.key) + 1e-6, one
        assert one.high >= threshold - 1 - 1e-6, one


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 60)), hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 6))
)
def test_two_deliveries_together_give_no_small_count_away(first: np.ndarray, late: np.ndarray) -> None:
    """What the second adds is small everywhere; whoever knows both releases must not learn a cell of the first."""
    late = np.where(late == 1, late, 0)  # one late record here and there
    before_result, after_result = grid(first.tolist()), grid((first + late).tolist())
    before = release(before_result, POLICY)
    after = release(after_result, POLICY, before.cells)
    shown_before = {(cell.of, cell.dimensions): cell.value for cell in before.cells if cell.is_shown}
    shown_after = {(cell.of, cell.dimensions): cell.value for cell in after.cells if cell.is_shown}
    for key, value in shown_after.items():
        assert key not in shown_before or not 0 < abs(value - shown_before[key]) < POLICY.threshold
    for one in attack([(after_result, after)]):
        assert one.width >= 1, one
    learned = unchanged_and_shown(before_result, after_result, after)
    for one in attack([(before_result, before)], only_small=POLICY.threshold, also_known=learned):
        assert one.low <= least_possible(first, one.key) + 1e-6, one
        assert one.high >= POLICY.threshold - 1 - 1e-6, one


def test_frugal_beside_withholding_rows_and_columns() -> None:
    """Twenty random tables with small cells: cells withheld, against withholding each small cell's row and column."""
    rng = np.random.default_rng(5)
    withheld = naive = cells = 0
    for _ in range(20):
        numbers = rng.negative_binomial(1.2, 0.02, size=(8, 10))
        document = release(grid(numbers.tolist()), POLICY)
        small = (numbers > 0) & (numbers < POLICY.threshold)
        lines = small.any(axis=1)[:, None] | small.any(axis=0)[None, :]
        grid_cells = [cell for cell in document.cells if len(cell.dimensions) == 2]
        withheld += sum(not cell.is_shown for cell in grid_cells)
        naive += int((lines & (numbers > 0)).sum())
        cells += numbers.size
        assert all(cell.is_shown for cell in document.cells if not cell.dimensions)
    assert withheld < 0.5 * naive, f"{withheld} of {cells} cells, row and column suppression {naive}"
