"""What moved in a run since the one before, in numbers that had been told already, and why, in words.

A hospital plans with last week's numbers; when a delivery rewrites them, it wants to hear of it. Flagged are counts of
periods that the run before had seen whole, and counts of the whole, that moved by a quarter or more. Counts below ten
are never told, so that no notice shows what disclosure control would hide.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from medisync.analyses.contract import Result, Scalar, Table
from medisync.errors import MediSyncError
from medisync.lake import Lake
from medisync.runs import input_changes, numbers
from medisync.runs.planning import require_snapshot
from medisync.runs.record import RunRecord

FLAGGED_SHARE = 0.25
"""A count that moved by this share of what it was is flagged."""

LEAST_COUNT = 10
"""Both counts, and what lies between them, are at least this."""

MOST_NOTICES = 5

WEEK = re.compile(r"(\d{4})-W(\d{2})")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
MONTH = re.compile(r"\d{4}-\d{2}")


@dataclass(frozen=True)
class Period:
    """Days from ``first`` up to, not including, ``until``."""

    name: str
    first: dt.date
    until: dt.date


_Pair = tuple[str, Scalar, Scalar, Period | None]
"""What, its value before and after, and the period it stands for."""


@dataclass(frozen=True)
class _Flag:
    what: str
    before: float
    after: float
    period: Period | None

    @property
    def share(self) -> float:
        return abs(self.after - self.before) / self.before


def notices(lake: Lake, result: Result, snapshot_id: int, earlier: RunRecord, before: Result | None) -> tuple[str, ...]:
    """Sentences about ``result``, made on ``snapshot_id``, against the run before, whose result was ``before``; the
    largest move first."""
    if before is None:
        return ()
    flags = sorted(flagged(before, result), key=lambda one: -one.share)[:MOST_NOTICES]
    if not flags:
        return ()
    try:
        require_snapshot(lake, earlier.snapshot_id)
        deliveries = {
            one.delivery_id: one for one in input_changes.deliveries_between(lake, earlier.snapshot_id, snapshot_id)
        }
    except MediSyncError:
        deliveries = {}
    return tuple(_sentence(lake, one, earlier.snapshot_id, snapshot_id, deliveries) for one in flags)


def flagged(before: Result, after: Result) -> list[_Flag]:
    """Counts that moved by a quarter or more although they had been told before."""
    found: list[_Pair] = []
    for name, value in after.metrics.items():
        if name.endswith("_count"):
            found.append((name.replace("_", " ").removesuffix(" count"), before.metrics.get(name), value, None))
    for name, table in after.tables.items():
        if name in before.tables:
            found += [one for one in _of_table(before.tables[name], table) if _was_whole(one[3], before.data_until)]
    flags = []
    for what, old, new, period in found:
        if not (numbers.is_number(old) and numbers.is_number(new)):
            continue
        flag = _Flag(what, float(old or 0), float(new or 0), period)
        if min(flag.before, flag.after, abs(flag.after - flag.before)) >= LEAST_COUNT and flag.share >= FLAGGED_SHARE:
            flags.append(flag)
    return flags


def _of_table(before: Table, after: Table) -> list[_Pair]:
    """Whole numbers of rows that stand for one period, with the same row's number before."""
    position = next((i for i, _ in enumerate(after.columns) if _is_of_periods(after, i)), None)
    if position is None or before.columns != after.columns:
        return []
    words = [i for i, _ in enumerate(after.columns) if all(isinstance(row[i], (str, type(None))) for row in after.rows)]
    known = {tuple(row[i] for i in words): row for row in before.rows}
    is_weekly = (
        all(dt.date.fromisoformat(str(row[position])).weekday() == 0 for row in after.rows)
        if all(DAY.fullmatch(str(row[position])) for row in after.rows)
        else False
    )
    found: list[_Pair] = []
    for row in after.rows:
        name = tuple(row[i] for i in words)
        old = known.get(name)
        period = _period(str(row[position]), is_weekly=is_weekly)
        if old is None or period is None:
            continue
        others = " ".join(str(part) for i, part in zip(words, name, strict=True) if i != position and part)
        for i, column in enumerate(after.columns):
            if i not in words and isinstance(row[i], int) and isinstance(old[i], int):
                what = f"{column.replace('_', ' ')} of {period.name}"
                found.append((f"{what}, {others}" if others else what, old[i], row[i], period))
    return found


def _sentence(
    lake: Lake, flag: _Flag, before: int, after: int, deliveries: dict[str, input_changes.DeliveryBetween]
) -> str:
    verb = "rose" if flag.after > flag.before else "fell"
    told = (
        f"The {flag.what} {verb} by {100 * flag.share:.0f} % since the run before, from {flag.before:,.0f} to "
        f"{flag.after:,.0f}"
    )
    cause = _cause(lake, flag, before, after, deliveries)
    return f"{told}, {cause}." if cause else f"{told}."


def _cause(
    lake: Lake, flag: _Flag, before: int, after: int, deliveries: dict[str, input_changes.DeliveryBetween]
) -> str | None:
    if not deliveries:
        return "although no delivery was loaded in between: notebook, code or environment changed"
    if flag.period is not None:
        rows = input_changes.admissions_by_delivery(lake, before, after, flag.period.first, flag.period.until)
        if rows and rows[0][0] in deliveries:
            delivery_id, added, changed = rows[0]
            parts = [f"added {added:,} late records" if added >= LEAST_COUNT else ""]
            parts.append(f"changed {changed:,}" if changed >= LEAST_COUNT else "")
            did = " and ".join(part for part in parts if part)
            if did:
                return f"because delivery {deliveries[delivery_id].name} {did}"
    most = max(deliveries.values(), key=lambda one: one.created + one.updated + one.deleted)
    deleted = flag.after < flag.before and most.deleted >= LEAST_COUNT
    did = f"deleted {most.deleted:,}" if deleted else f"changed {most.created + most.updated + most.deleted:,}"
    return f"because delivery {most.name} {did} admissions"


def _is_of_periods(table: Table, position: int) -> bool:
    values = [row[position] for row in table.rows]
    return bool(values) and all(isinstance(one, str) and _period(one, is_weekly=False) is not None for one in values)


def _period(text: str, *, is_weekly: bool) -> Period | None:
    try:
        if match := WEEK.fullmatch(text):
            first = dt.date.fromisocalendar(int(match[1]), int(match[2]), 1)
            return Period(f"week {text}", first, first + dt.timedelta(days=7))
        if DAY.fullmatch(text):
            first = dt.date.fromisoformat(text)
            name = f"the week of {text}" if is_weekly else text
            return Period(name, first, first + dt.timedelta(days=7 if is_weekly else 1))
        if MONTH.fullmatch(text):
            first = dt.date.fromisoformat(f"{text}-01")
            return Period(text, first, (first + dt.timedelta(days=32)).replace(day=1))
    except ValueError:
        return None
    return None


def _was_whole(period: Period | None, data_until: dt.date | None) -> bool:
    return period is not None and data_until is not None and period.until <= data_until + dt.timedelta(days=1)
