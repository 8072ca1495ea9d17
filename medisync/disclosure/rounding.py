"""The rounding rule: a count is shown as the nearest multiple of a base.

NHS England suppresses 1 to 7 and rounds all other counts to the nearest 5:
https://digital.nhs.uk/data-and-information/data-tools-and-services/data-services/hospital-episode-statistics/change-to-disclosure-control-methodology-for-hes-and-ecds-from-september-2018
"""

from __future__ import annotations

import math


def rounded(count: float, base: int) -> float:
    """``count`` to the nearest multiple of ``base``, halves up; ``base`` 0 or 1 leaves it as it is.

    The same count becomes the same number wherever it stands, so that tables and releases agree.
    """
    return count if base <= 1 else float(base * math.floor(count / base + 0.5))
