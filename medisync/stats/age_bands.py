"""Age bands that leave no gap: every age from 0 upwards falls into exactly one band."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError

UNKNOWN = "Unknown"
OLDEST_YEARS = 130
"""An age above is taken for a slip of the pen and counted as unknown."""


@dataclass(frozen=True)
class AgeBands:
    """Bands given by the youngest age (whole years) of each; a band ends where the next begins, the last is open.

    Raises :class:`~medisync.errors.ParameterError` unless ``starts`` begins with 0, increases, and ends by 130.
    """

    starts: tuple[int, ...]

    def __post_init__(self) -> None:
        starts = self.starts
        if not starts or starts[0] != 0:
            raise ParameterError("Age bands must start at 0, so that nobody falls below the first.")
        if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
            raise ParameterError("The starts of age bands must increase.")
        if starts[-1] > OLDEST_YEARS:
            raise ParameterError(f"No age band may start above {OLDEST_YEARS} years.")

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per band, youngest first: "0–17", "18", "90+"."""
        closed = (
            str(start) if following == start + 1 else f"{start}–{following - 1}"
            for start, following in itertools.pairwise(self.starts)
        )
        return (*closed, f"{self.starts[-1]}+")

    def label(self, ages_years: Sequence[float | None] | NDArray[np.generic]) -> NDArray[np.object_]:
        """The band's label for each age; "Unknown" for a missing, negative or impossible (above 130) one."""
        ages = np.asarray([np.nan if age is None else age for age in ages_years], dtype=np.float64)
        known = np.isfinite(ages) & (ages >= 0) & (ages <= OLDEST_YEARS)
        band = np.searchsorted(np.asarray(self.starts, dtype=np.float64), np.where(known, ages, 0.0), side="right") - 1
        return np.where(known, np.asarray(self.labels, dtype=object)[band], UNKNOWN)
