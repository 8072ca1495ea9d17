"""Up to which day have all sources and sites reported? What comes after it is counted too low."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.analyses.contract import SnapshotReader
from medisync.analyses.phrases import counted, listed
from medisync.stats.reporting import RATE_DAYS, Silence, complete_until, silences

FEWEST_ADMISSIONS = 14
"""A unit with fewer in its last weeks cannot lag noticeably: its usual silence is too long."""
MENTIONED_DAYS = 365
"""A unit silent for longer than this has closed; nobody needs to be told every week."""

SAME_STOP_DAYS = 3
"""A site that stopped at most this much earlier than its source stopped with it."""


@dataclass(frozen=True)
class Reported:
    """``first_day`` and ``last_day``: of the oldest and the newest admission; ``until``: the last day all have
    reported; ``lagging``: who is late."""

    first_day: dt.date
    until: dt.date
    last_day: dt.date
    lagging: tuple[Silence, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """What a reader has to know about it, in sentences."""
        notes = []
        late = [one for one in self.lagging if one.is_waited_for]
        if late:
            names = listed([f"{one.name} until {_day(one.last_day)}" for one in late], most=4)
            notes.append(
                f"Others have reported until {_day(self.last_day)}, {names} only: numbers are taken up to "
                f"{_day(self.until)}, since later ones would be too low."
            )
        notes += [
            f"{one.name} has reported nothing since {_day(one.last_day)} (before: about "
            f"{counted(round(one.usual_per_week), 'admission')} a week): everything counted together is lower by that "
            "much."
            for one in self.lagging
            if not one.is_waited_for and (self.last_day - one.last_day).days <= MENTIONED_DAYS
        ]
        return tuple(notes)


def reported(snapshot: SnapshotReader, *, site: str | None = None) -> Reported | None:
    """How far the data reach for all sites, or for ``site`` and the sources it comes from; None without admissions."""
    mine = "admitted_at IS NOT NULL"
    values: list[str] = []
    if site is not None:
        mine += " AND source IN (SELECT source FROM clinical.admissions WHERE site = ?)"
        values = [site]
    own = " AND site = ?" if site is not None else ""
    span = snapshot.query(
        f"SELECT min(admitted_at)::DATE AS first, max(admitted_at)::DATE AS last FROM clinical.admissions WHERE {mine}",
        values,
    ).iloc[0]
    if pd.isna(span["last"]):
        return None
    first_day, last_day = span["first"].date(), span["last"].date()
    late = snapshot.query(
        f"""
        SELECT source, site, grouping(site) = 1 AS is_source, max(admitted_at)::DATE AS last_day
        FROM clinical.admissions
        WHERE {mine} AND admitted_at >= DATE '{last_day}' - {MENTIONED_DAYS + RATE_DAYS}
        GROUP BY GROUPING SETS ((source), (source, site))
        HAVING count(*) >= {FEWEST_ADMISSIONS} AND max(admitted_at) < DATE '{last_day}'
               AND (grouping(site) = 1 OR site IS NOT NULL{own})
        """,
        values * 2,
    )
    if late.empty:
        return Reported(first_day, last_day, last_day)
    late = late[~_late_with_its_source(late)]
    recent = snapshot.query(
        f"""
        SELECT unit, last_day, isodow(admitted_at) - 1 AS weekday, count(*) AS admissions
        FROM (SELECT unnest(?::VARCHAR[]) AS source, unnest(?::VARCHAR[]) AS site, unnest(?::BOOLEAN[]) AS is_source,
                     unnest(?::DATE[]) AS last_day) late
        JOIN clinical.admissions a ON a.source = late.source AND (is_source OR a.site = late.site),
             LATERAL (SELECT CASE WHEN is_source THEN 'The source ' || late.source ELSE late.site END AS unit)
        WHERE a.admitted_at >= last_day - {RATE_DAYS - 1}
        GROUP BY ALL
        """,
        [
            late["source"].tolist(),
            late["site"].tolist(),
            late["is_source"].tolist(),
            [one.date() for one in late["last_day"]],
        ],
    )
    lagging = silences(recent, last_day)
    return Reported(first_day, complete_until(lagging, last_day), last_day, lagging)


def _late_with_its_source(late: pd.DataFrame) -> NDArray[np.bool_]:
    """Sites that stopped when their whole source did: the source is named, not each of them."""
    is_source = late["is_source"].to_numpy(dtype=bool)
    stopped = dict(zip(late["source"][is_source], late["last_day"][is_source], strict=True))
    return np.array(
        [
            not source and name in stopped and (stopped[name] - day).days <= SAME_STOP_DAYS
            for source, name, day in zip(is_source, late["source"], late["last_day"], strict=True)
        ],
        dtype=bool,
    )


def _day(day: dt.date) -> str:
    return f"{day.day} {day:%B %Y}"
