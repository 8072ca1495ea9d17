"""The rules one by one: each with what it is about, its edge, and what it lets pass."""

from __future__ import annotations

import pytest

from medisync.disclosure.differencing import gives_away
from medisync.disclosure.dominance import is_dominated
from medisync.disclosure.rounding import rounded
from medisync.disclosure.threshold import is_small


@pytest.mark.parametrize(("count", "small"), [(9, True), (10, False), (0, False)])
def test_threshold(count: float, small: bool) -> None:
    assert is_small(count, 10) is small


@pytest.mark.parametrize(("count", "base", "shown"), [(12, 5, 10), (12.5, 5, 15), (13, 0, 13)])
def test_rounding(count: float, base: int, shown: float) -> None:
    assert rounded(count, base) == shown


@pytest.mark.parametrize(
    ("largest", "second", "dominated"),
    [(600.0, 300.0, True), (500.0, 480.0, True), (300.0, 200.0, False)],  # (2, 85 %) rule, both rules, neither
)
def test_dominance(largest: float, second: float, dominated: bool) -> None:
    assert is_dominated(1000.0, largest, second) is dominated


def test_dominance_by_the_p_percent_rule_alone() -> None:
    """The rest is 40 of 1,000: whoever paid 160 knows the 800 to within 5 %."""
    assert is_dominated(1000.0, 800.0, 160.0, k_percent=99.0, p_percent=10.0)
    assert not is_dominated(1000.0, 800.0, 110.0, k_percent=99.0, p_percent=10.0)
    assert not is_dominated(0.0, 0.0, 0.0)


@pytest.mark.parametrize(("before", "held_back"), [((40.0,), True), ((33.0,), False), ((43.0, 100.0), False)])
def test_differencing(before: tuple[float, ...], held_back: bool) -> None:
    assert gives_away(43.0, before, 10) is held_back
