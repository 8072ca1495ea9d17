"""Pieces of SQL the analyses share, so that "unknown" and "age band" mean the same everywhere."""

from __future__ import annotations

import datetime as dt
from typing import Any

from medisync.stats.age_bands import OLDEST_YEARS, UNKNOWN, AgeBands


def known(column: str) -> str:
    """``column`` as text, with "Unknown" for NULL, empty and any spelling of unknown."""
    text = f"trim({column}::VARCHAR)"
    return f"CASE WHEN {column} IS NULL OR lower({text}) IN ('', 'unknown') THEN '{UNKNOWN}' ELSE {text} END"


def age_band(column: str, bands: AgeBands) -> str:
    """The label of the band ``column`` (an age in years) falls into; "Unknown" if missing or impossible."""
    cases = " ".join(
        f"WHEN {column} < {upper} THEN '{label}'" for upper, label in zip(bands.starts[1:], bands.labels, strict=False)
    )
    sane = f"WHEN {column} IS NULL OR {column} < 0 OR {column} > {OLDEST_YEARS} THEN '{UNKNOWN}'"
    return f"CASE {sane} {cases} ELSE '{bands.labels[-1]}' END"


def within(column: str, from_day: dt.date | None, until_day: dt.date | None) -> str:
    """Condition that the timestamp ``column`` lies between two days, both included; None is open."""
    parts = []
    if from_day is not None:
        parts.append(f"{column} >= DATE '{from_day.isoformat()}'")
    if until_day is not None:
        parts.append(f"{column} < DATE '{until_day.isoformat()}' + INTERVAL 1 DAY")
    return " AND ".join(parts) or "TRUE"


def day_of(moment: Any) -> dt.date | None:
    """The day of a timestamp that a query gave; None where it gave none (NaT, which is not equal to itself)."""
    return None if moment is None or moment != moment else moment.date()
