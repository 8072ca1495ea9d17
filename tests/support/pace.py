"""What something costs, told in the seconds of one known machine: a slower or busy one must not fail a test."""

from __future__ import annotations

import time
from collections.abc import Callable

REFERENCE_SECONDS = 0.05
"""CPU seconds of :func:`_reference` on the machine for which the limits in the tests are meant (2 cores, 2026)."""


def _reference() -> None:
    """Some of what analyses do: NumPy and plain Python, half and half."""
    import numpy as np

    np.sort(np.random.default_rng(0).standard_normal(300_000)).sum()
    sum(hash((number, number)) for number in range(200_000))


def _least(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """Seconds of the quickest of three."""
    spent = []
    for _ in range(3):
        start = clock()
        work()
        spent.append(clock() - start)
    return min(spent)


def slowness() -> float:
    """How many times longer than on the known machine something takes here and now; at least 1."""
    return max(1.0, _least(time.monotonic, _reference) / REFERENCE_SECONDS)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of ``work``, the least of three, as the known machine would need."""
    spent = _least(time.process_time, work)
    return spent / max(1.0, _least(time.process_time, _reference) / REFERENCE_SECONDS)
