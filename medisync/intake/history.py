"""What a source's own past lets one expect. Pure: numbers in, an expectation out; silent with too little past."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_DELIVERIES = 5
MOST_DELIVERIES = 30
ROBUST_DEVIATIONS = 4.0
NORMAL_CONSISTENT = 1.4826
"""Times the median absolute deviation it is the standard deviation of normal values (Hampel 1974)."""

LEAST_FACTOR = 2.0
"""However steady a source is, less than half and more than double is needed to be unusual."""


@dataclass(frozen=True)
class Expectation:
    """The usual value and the bounds of what is usual, from ``deliveries`` earlier values."""

    usual: float
    lowest: float
    highest: float
    deliveries: int

    def is_unusual(self, value: float) -> bool:
        return not self.lowest <= value <= self.highest


def expected_number(
    past: Sequence[tuple[dt.datetime, float]], now: dt.datetime, *, lowest_share: float | None = None
) -> Expectation | None:
    """How many rows to expect from (time, rows) of earlier deliveries, in any order.

    Those of the weekday of ``now`` count where there are at least FEWEST_DELIVERIES, else the last MOST_DELIVERIES of
    all; None with fewer than FEWEST_DELIVERIES. The bounds are ROBUST_DEVIATIONS robust standard deviations of the
    logarithm around the median, and at least a factor LEAST_FACTOR. With ``lowest_share`` the lower bound is that share
    of the median instead.
    """
    recent = [(when, number) for when, number in sorted(past) if number > 0][-MOST_DELIVERIES * 7 :]
    same_day = [number for when, number in recent if when.weekday() == now.weekday()]
    chosen = same_day if len(same_day) >= FEWEST_DELIVERIES else [number for _, number in recent]
    chosen = chosen[-MOST_DELIVERIES:]
    if len(chosen) < FEWEST_DELIVERIES:
        return None
    logs = [math.log(number) for number in chosen]
    middle = statistics.median(logs)
    width = max(ROBUST_DEVIATIONS * _robust_deviation(logs, middle), math.log(LEAST_FACTOR))
    usual = math.exp(middle)
    lowest = usual * lowest_share if lowest_share is not None else math.exp(middle - width)
    return Expectation(usual, lowest, math.exp(middle + width), len(chosen))


def expected_share(past: Sequence[float], *, least_rise: float) -> Expectation | None:
    """How large a share to expect, such as that of empty values; only a rise is unusual, by ``least_rise`` or more."""
    chosen = list(past)[-MOST_DELIVERIES:]
    if len(chosen) < FEWEST_DELIVERIES:
        return None
    middle = statistics.median(chosen)
    width = max(ROBUST_DEVIATIONS * _robust_deviation(chosen, middle), least_rise)
    return Expectation(middle, 0.0, min(1.0, middle + width), len(chosen))


def scale_shift(value: float, past: Sequence[float], factors: Sequence[float], *, tolerance: float) -> float | None:
    """The one of ``factors`` by which ``value`` differs from the median of ``past``, within a factor ``tolerance``."""
    chosen = [one for one in list(past)[-MOST_DELIVERIES:] if one > 0]
    if len(chosen) < FEWEST_DELIVERIES or value <= 0:
        return None
    ratio = value / statistics.median(chosen)
    near = min(factors, key=lambda factor: abs(math.log(ratio / factor)))
    return near if abs(math.log(ratio / near)) <= math.log(tolerance) else None


def _robust_deviation(values: Sequence[float], middle: float) -> float:
    return NORMAL_CONSISTENT * statistics.median(abs(value - middle) for value in values)
