"""The threshold rule: a count of few people is not shown.

"No cell containing a value of 1 to 10 can be reported directly. A value of zero does not violate the policy": CMS cell
size suppression policy, https://www.hhs.gov/guidance/document/cms-cell-suppression-policy. Other publishers draw the
line elsewhere (NHS England at 7, see rounding), so that it is a setting.
"""

from __future__ import annotations

THRESHOLD = 10


def is_small(count: float, threshold: int = THRESHOLD) -> bool:
    """Whether ``count`` is of some, but fewer than ``threshold``; nobody at all is no secret."""
    return 0 < abs(count) < threshold
