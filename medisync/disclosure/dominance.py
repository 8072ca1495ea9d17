"""The dominance rules: a sum of money that one contributor could read another's share from is not shown.

The (n, k) rule with n = 2, and the p % rule: Hundepool et al., Handbook on Statistical Disclosure Control
(ESSNet, 2nd ed.), chapter 4, https://sdctools.github.io/HandbookSDC/04-magnitude-tabular-data.html.
"""

from __future__ import annotations

DOMINANCE_PERCENT = 85.0
"""k of the (2, k) rule: the two largest contributions make up more than this share of the sum."""
P_PERCENT = 10.0
"""p of the p % rule: the second largest contributor can work out the largest to within this share."""


def is_dominated(
    total: float, largest: float, second: float, *, k_percent: float = DOMINANCE_PERCENT, p_percent: float = P_PERCENT
) -> bool:
    """Whether ``total`` (currency units, not negative) must be withheld under the (2, k) or the p % rule."""
    if total <= 0:
        return False
    rest = total - largest - second
    return largest + second > k_percent / 100 * total or rest < p_percent / 100 * largest
