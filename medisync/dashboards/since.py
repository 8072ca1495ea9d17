"""What changed since yesterday: the numbers that moved since the result of a day before, and the delivery behind it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from medisync.analyses.contract import Result
from medisync.dashboards.reading import Reader, View
from medisync.errors import MediSyncError
from medisync.reports.page import cell, words
from medisync.reports.phrases import FINDING_WORDS
from medisync.runs import input_changes, numbers
from medisync.runs.numbers import Change
from medisync.runs.planning import require_snapshot
from medisync.runs.published import Published
from medisync.runs.record import RunRecord, RunStatus

A_DAY = dt.timedelta(hours=20)
"""A result this much older than the newest is of the day before: rounds do not begin at the same minute each day."""

LEAST_SHARE = 0.005
"""A number that moved by less than this share of itself is not told."""

MOST_NUMBERS = 3

DIAGNOSTICS = (
    "p_value",
    "brier",
    "coverage",
    "skill",
    "mase",
    "score",
    "published",
    "origins",
    "series_forecast",
    "ahead",
    "cramers",
)
"""Metrics with these words say how good a method was, not what happens in the hospital."""


@dataclass(frozen=True)
class Moved:
    """One analysis whose result is not that of the day before. ``because``: the deliveries between, in words."""

    analysis: str
    title: str
    since: dt.datetime
    numbers: tuple[str, ...]
    because: str
    notices: tuple[str, ...] = ()
    finding: str = ""  # what it amounts to now and did before, where that differs


@dataclass(frozen=True)
class Since:
    """``of``: the moment of the oldest result compared with; None while there is none to compare with."""

    of: dt.datetime | None = None
    moved: tuple[Moved, ...] = ()
    unmoved: int = 0  # results that are new and say the same

    @property
    def because(self) -> str:
        """What all moves have for their cause; empty where they differ."""
        causes = {one.because for one in self.moved}
        return causes.pop() if len(causes) == 1 else ""


class Yesterday:
    """Compares what is published with the day before; once per set of results."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._last: tuple[Hashable, Since] | None = None

    def since(self, view: View) -> Since:
        """The moves of ``view``'s results. What cannot be read is left out: the page is about the results."""
        key = (self._reader.audience, tuple(one.record.run_id for one in view.shelf if one.record))
        if self._last is None or self._last[0] != key:
            self._last = (key, self._compared(view))
        return self._last[1]

    def _compared(self, view: View) -> Since:
        if view.last_run_at is None:
            return Since()
        before = self._day_before(view.last_run_at)
        pairs = []
        for one in view.shelf:
            if one.record is not None and one.result is not None:
                earlier = before.get((one.analysis, one.record.parameters_hash))
                if earlier is not None and earlier.run_id != one.record.run_id:
                    pairs.append((one, one.record, earlier))
        old = self._reader.results([earlier.run_id for _, _, earlier in pairs])
        found = [moved for pair in pairs if (moved := self._moved(*pair, old.get(pair[2].run_id))) is not None]
        oldest = min((earlier.finished_at for _, _, earlier in pairs), default=None)
        return Since(oldest, tuple(found), len(pairs) - len(found))

    def _day_before(self, newest: dt.datetime) -> dict[tuple[str, str], RunRecord]:
        """The newest completed run of each analysis and parameters that is a day older; else its first."""
        moment = (newest.astimezone(dt.UTC) - A_DAY).replace(tzinfo=None)
        rows = self._reader.lake.query(
            "SELECT coalesce(arg_max(record, finished_at) FILTER (finished_at <= ?), arg_min(record, finished_at)) "
            "AS record FROM analytics.runs WHERE status = ? GROUP BY analysis, parameters_hash",
            [moment, RunStatus.COMPLETED.value],
        )
        records = [RunRecord.model_validate_json(row["record"]) for row in rows]
        return {(one.analysis, one.parameters_hash): one for one in records}

    def _moved(self, one: Published, now: RunRecord, earlier: RunRecord, old: Result | None) -> Moved | None:
        if old is None or one.result is None:
            return None
        told = told_numbers(old, one.result)
        has_all = self._reader.audience == "full"
        notices = now.notices if has_all else ()
        finding = ""
        if old.finding != one.result.finding:
            finding = f"{FINDING_WORDS[one.result.finding]}, before: {FINDING_WORDS[old.finding].lower()}"
        if not (told or notices or finding):
            return None
        because = self._because(earlier, now)
        return Moved(one.analysis, one.title, earlier.finished_at, told, because, notices, finding)

    def _because(self, earlier: RunRecord, now: RunRecord) -> str:
        if earlier.inputs == now.inputs:
            return "no delivery in between: notebook, code or environment changed"
        try:
            require_snapshot(self._reader.lake, earlier.snapshot_id)
            found = input_changes.deliveries_between(self._reader.lake, earlier.snapshot_id, now.snapshot_id)
        except MediSyncError:  # that snapshot is no longer kept
            return ""
        ranked = sorted(found, key=lambda one: -(one.created + one.updated + one.deleted))
        named = [f"{one.file_label or one.delivery_id} ({_counts(one)})" for one in ranked[:2]]
        more = f" and {len(ranked) - 2:,} more" if len(ranked) > 2 else ""
        return " and ".join(named) + more if named else ""


def told_numbers(before: Result, after: Result) -> tuple[str, ...]:
    """The metrics that moved most, each in words; those of a method's quality and small moves are left out."""
    found = [
        one
        for one in numbers.changes(before, after)
        if one.place == "metrics"
        and (one.relative or 0) >= LEAST_SHARE
        and not any(word in one.column for word in DIAGNOSTICS)
    ]
    return tuple(_in_words(one) for one in found[:MOST_NUMBERS])


def _in_words(change: Change) -> str:
    name = change.column.removesuffix("_count").removesuffix("_percent")
    unit = " %" if change.column.endswith("_percent") else ""
    told = f"{words(name)} {cell(change.before)} → {cell(change.after)}{unit}"
    before, after = float(change.before or 0), float(change.after or 0)
    if unit or before <= 0:
        return told
    return f"{told} ({100 * (after - before) / before:+.1f} %)"


def _counts(one: input_changes.DeliveryBetween) -> str:
    did: Sequence[tuple[int, str]] = ((one.created, "created"), (one.updated, "updated"), (one.deleted, "deleted"))
    return ", ".join(f"{number:,} {word}" for number, word in did if number) or "no admission changed"
