"""The differencing rule: a count is held back when it and one released before differ by a few people.

Tables that overlap or are published again give small counts away by subtraction: Hundepool et al., Handbook on
Statistical Disclosure Control (ESSNet, 2nd ed.), chapter on frequency tables, https://sdctools.github.io/HandbookSDC/.
"""

from __future__ import annotations

from collections.abc import Iterable

from medisync.disclosure.threshold import THRESHOLD, is_small


def gives_away(count: float, released_before: Iterable[float], threshold: int = THRESHOLD) -> bool:
    """Whether ``count`` minus a value of the same cell that was ``released_before`` counts only a few people."""
    return any(is_small(count - earlier, threshold) for earlier in released_before)
