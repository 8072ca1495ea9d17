"""What happened in the lake, snapshot by snapshot: the events of the stream.

An event's id is ``<snapshot>-<number>``: the snapshot that committed it, and its place among that snapshot's events.
So an id means the same in every worker and after every restart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medisync.api.envelope import dumped
from medisync.api.moment import Moment, moment
from medisync.api.records import RUN_COLUMNS, with_headlines
from medisync.api.views import Sight, delivery_view, run_view
from medisync.lake import Lake
from medisync.runs.published import DeliveryLine, deliveries_called
from medisync.runs.record import RunStatus

LONGEST_REPLAY = 500
"""Snapshots a client may be behind; one further behind is told to load everything anew."""

EVENT_ID = re.compile(r"(\d{1,15})-(\d{1,6})")
SURGE = "surge"
"""The state of a confirmed surge in ``analytics.surges``."""

DELIVERY_EVENTS = {"loaded": "delivery.loaded", "refused": "delivery.refused", "repeat": "delivery.repeated"}


class GapError(Exception):
    """The lake no longer knows what happened since an id, or never gave it out."""


@dataclass(frozen=True)
class Event:
    """One event. ``of`` holds what it is about; :meth:`lines` shows of it what a visitor may see."""

    snapshot_id: int
    number: int
    name: str
    of: Any
    is_released: bool = False
    """Whether disclosure control has passed the run this event is about."""
    _made: dict[Any, bytes | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"{self.snapshot_id}-{self.number}"

    def lines(self, sight: Sight) -> bytes | None:
        """The event as server-sent lines; None when it is not for this visitor. Made once per sight."""
        if sight.key not in self._made:
            data = self._data(sight)
            self._made[sight.key] = None if data is None else as_lines(self.name, data, event_id=self.id)
        return self._made[sight.key]

    def _data(self, sight: Sight) -> dict[str, Any] | None:
        if isinstance(self.of, DeliveryLine):
            return delivery_view(self.of, sight).model_dump(mode="json", exclude_none=True)
        if self.name == "surge.raised":
            return self.of if sight.audience == "full" else None  # it names a series and counts its people
        return run_view(self.of, sight).model_dump(mode="json", exclude_none=True)


def as_lines(name: str, data: Any, *, event_id: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {name}\ndata: ".encode() + dumped(data) + b"\n\n"


def parse_id(text: str) -> tuple[int, int]:
    """An event's id as snapshot and number; raises GapError for anything else."""
    found = EVENT_ID.fullmatch(text)
    if found is None:
        raise GapError
    return int(found[1]), int(found[2])


def events_after(lake: Lake, snapshot_id: int, *, until: int | None = None) -> list[Event]:
    """The events of the snapshots after ``snapshot_id``, oldest first; raises GapError when some are forgotten."""
    if snapshot_id == until:
        return []
    with moment(lake) as now:
        return _events_after(now, snapshot_id, until)


def _events_after(lake: Moment, snapshot_id: int, until: int | None) -> list[Event]:
    newest = lake.last_snapshot_id()
    last = newest if until is None else min(until, newest)
    if snapshot_id > newest or last - snapshot_id > LONGEST_REPLAY:
        raise GapError
    if snapshot_id >= last:
        return []
    rows = lake.query(
        "SELECT snapshot_id, commit_extra_info AS extra FROM lake.snapshots() "
        "WHERE snapshot_id > ? AND snapshot_id <= ? ORDER BY snapshot_id",
        [snapshot_id, last],
    )
    if len(rows) < last - snapshot_id:  # clean-up has expired some
        raise GapError
    about = {int(row["snapshot_id"]): _extra(row["extra"]) for row in rows}
    runs = _runs(lake, [one["run_id"] for one in about.values() if "run_id" in one])
    deliveries = {
        line.delivery_id: line
        for line in deliveries_called(lake, [one for told in about.values() for one in _delivered(told)])
    }
    surges = _surges(lake, [run_id for run_id, row in runs.items() if row["status"] == RunStatus.COMPLETED])
    events: list[Event] = []
    for number, one in about.items():
        found = runs.get(one.get("run_id", ""))
        if found is not None:
            is_released = found["released_headline"] is not None
            events.append(Event(number, 0, f"run.{found['status']}", found, is_released))
            for place, surge in enumerate(surges.get(one["run_id"], []), start=1):
                events.append(Event(number, place, "surge.raised", surge, is_released))
        for place, delivery_id in enumerate(_delivered(one)):
            line = deliveries.get(delivery_id)
            if line is not None:
                events.append(Event(number, place, DELIVERY_EVENTS.get(line.status, "delivery.finished"), line))
    return events


def _extra(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _runs(lake: Lake, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not run_ids:
        return {}
    rows = lake.query(
        f"SELECT {RUN_COLUMNS} FROM analytics.runs r WHERE r.run_id IN ({_marks(run_ids)})", list(run_ids)
    )
    return {row["run_id"]: row for row in with_headlines(lake, rows, "released")}


def _delivered(about: dict[str, Any]) -> list[str]:
    """The deliveries a snapshot committed: one, or several that came together."""
    return [about["delivery_id"]] if "delivery_id" in about else list(about.get("delivery_ids", ()))


def _surges(lake: Lake, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Run id -> the surges it raised: confirmed ones that no earlier run had confirmed for the same week."""
    if not run_ids:
        return {}
    rows = lake.query(
        "SELECT run_id, unique_id AS series, ds AS week, observed, expected, threshold, p_value, adjusted_p_value "
        f"FROM analytics.surges s WHERE run_id IN ({_marks(run_ids)}) AND state = '{SURGE}' AND NOT EXISTS ("
        "SELECT 1 FROM analytics.surges e WHERE e.unique_id = s.unique_id AND e.ds = s.ds AND e.state = s.state "
        "AND e.run_id < s.run_id) ORDER BY run_id, unique_id, ds",
        list(run_ids),
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["run_id"], []).append({**row, "week": row["week"].isoformat()})
    return found


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" for _ in values)
