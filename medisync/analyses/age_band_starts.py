"""The parameter by which an analysis is told its age bands."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from medisync.stats.age_bands import AgeBands


def _without_gap(starts: tuple[int, ...]) -> tuple[int, ...]:
    try:
        AgeBands(starts)
    except Exception as error:
        raise ValueError(str(error)) from None
    return starts


AgeBandStarts = Annotated[tuple[int, ...], AfterValidator(_without_gap)]
"""First ages of the bands, in years: bands without a gap from 0 on, see :class:`medisync.stats.age_bands.AgeBands`."""
