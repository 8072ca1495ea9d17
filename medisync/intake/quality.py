"""How good a delivery is: what is measured of it, and what of that is unusual for its source.

Measured are values in the lake's own columns, after the checks of rows; no patient's value is among the measures. They
are kept as typed rows in ``clinical.quality``, which is the history that the next delivery is compared with.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medisync.errors import DeliveryRefusedError
from medisync.intake import shelf as shelves
from medisync.intake.expected import is_day_off, local, missed
from medisync.intake.feeds import Feed, Kind
from medisync.intake.history import MOST_DELIVERIES, expected_number, expected_share, scale_shift
from medisync.intake.keying import EVENTS
from medisync.intake.reasons import LONGEST_STAY_DAYS, FileFault, Notice, RowFault
from medisync.intake.shelf import Shelf
from medisync.intake.sources import Source, Thresholds
from medisync.intake.staging import Rows, Staged, StagingCounts, within

if TYPE_CHECKING:
    import duckdb

    from medisync.lake import Lake

AMOUNT_FACTORS, AMOUNT_TOLERANCE = (100.0, 1000.0, 0.01, 0.001), 1.5
AGE_FACTORS, AGE_TOLERANCE = (12.0, 365.25), 1.2
FEWEST_VALUES = 30
"""A median of fewer values says nothing about units."""

SAMPLED_ROWS = 200_000
"""Medians are taken of about so many rows, evenly apart."""

DUPLICATE_SHARE, MISSING_RISE = 0.25, 0.10
UNITS = {"age_years": (AGE_FACTORS, AGE_TOLERANCE), "billing_amount": (AMOUNT_FACTORS, AMOUNT_TOLERANCE)}


@dataclass(frozen=True)
class Measure:
    """One number about a delivery. ``column`` is table.column, or None for the whole; ``reason`` what is wrong."""

    measure: str
    value: float
    column: str | None = None
    expected: float | None = None
    lowest: float | None = None
    highest: float | None = None
    reason: str | None = None


Past = dict[tuple[str, str | None], list[tuple[dt.datetime, float]]]
"""(measure, column) -> (the source's local time, value) of its earlier deliveries, oldest first."""


def judge(
    cursor: duckdb.DuckDBPyConnection,
    feeds: Sequence[Feed],
    counts: StagingCounts,
    source: Source,
    earlier: Past,
    received_at: dt.datetime,
    rows: Rows | None = None,
    shelf: Shelf | None = None,
) -> tuple[list[Measure], DeliveryRefusedError | None]:
    """Measure a staged delivery, compare it with its source's ``earlier`` ones, and add what is unusual to its notices;
    with the error that refuses it, if its source wants that. ``rows`` are its own, when others were staged with it;
    ``shelf`` holds its large parts."""
    thresholds, moment = source.thresholds, local(received_at, source.time_zone)
    found = measured(cursor, feeds, counts, received_at, rows, shelf)
    before = earlier.get(("rows", None), [])
    if missed_ones := missed(source.reporting, before[-1][0], moment) if before else 0:
        counts.notices[Notice.DELIVERY_MISSED.value] = missed_ones
        found.append(Measure("deliveries_missed", missed_ones, reason=Notice.DELIVERY_MISSED.value))
    # What comes on a day off is as large as it happens to be.
    usual = [one for one in before if not is_day_off(source.reporting, one[0].date())]
    known = {**earlier, ("rows", None): usual}
    if is_day_off(source.reporting, moment.date()):
        thresholds = thresholds.model_copy(update={"volume": "off"})
    measures = judged(found, known, moment, thresholds)
    counts.notices.update({name: n for name, n in notices(measures).items() if name != Notice.DELIVERY_MISSED.value})
    if number := _long_stays(cursor, feeds, thresholds.longest_stay_days or LONGEST_STAY_DAYS, rows):
        counts.notices[Notice.LONG_STAY.value] = number
    return measures, refusal(measures, thresholds)


def measured(
    cursor: duckdb.DuckDBPyConnection,
    feeds: Sequence[Feed],
    counts: StagingCounts,
    received_at: dt.datetime,
    rows: Rows | None = None,
    shelf: Shelf | None = None,
) -> list[Measure]:
    """What is measured of a checked and staged delivery; ``keyed_<number>`` are the tables of its feeds, and ``rows``
    those of them that are its own. Of a large part on the ``shelf`` without a faulty row its file tells what is
    filled."""
    read = max(counts.rows_read, 1)
    repeats = counts.duplicates_exact + counts.duplicates_conflicting
    found = [
        Measure("rows", counts.rows_read),
        Measure("quarantined_share", counts.quarantined / read),
        Measure("duplicate_share", repeats / read),
        *(Measure("faults", number, reason=reason) for reason, number in sorted(counts.faults.items())),
    ]
    if counts.admitted_until is not None:
        found.append(Measure("days_since_last_admission", (received_at.date() - counts.admitted_until).days))
    total: dict[str, int] = {}
    filled: dict[str, int] = {}
    for number, feed in enumerate(feeds):
        columns = [(kind, name) for kind, names in feed.values.items() for name in names]
        names = [f"{kind}_{name}" for kind, name in columns]
        is_faultless = not counts.quarantined and not feed.passed_over
        row: Sequence[int]
        if shelf is not None and shelf.holds(number) and is_faultless:
            row = shelves.filled(cursor, shelf, number, names, feed)
        else:
            counted = "".join(f", count({name})" for name in names)
            row = cursor.execute(
                f"SELECT count(*){counted} FROM keyed_{number} WHERE faults IS NULL AND {within(rows)}"
            ).fetchone() or (0,)
        for (kind, name), good in zip(columns, row[1:], strict=True):
            column = f"{kind}.{name}"
            total[column] = total.get(column, 0) + row[0]
            filled[column] = filled.get(column, 0) + good
        found += _medians(cursor, number, feed, row[0], rows)
    found += [Measure("missing_share", 1 - filled[column] / total[column], column) for column in total if total[column]]
    return found


def _medians(cursor: duckdb.DuckDBPyConnection, number: int, feed: Feed, good: int, rows: Rows | None) -> list[Measure]:
    columns = [name for name in UNITS if name in feed.values.get(Kind.ADMISSIONS, {})]
    if not columns:
        return []
    wanted = ", ".join(f"median(abs(admissions_{name}::DOUBLE)), count(admissions_{name})" for name in columns)
    step = max(1, good // SAMPLED_ROWS)
    row = cursor.execute(
        f"SELECT {wanted} FROM keyed_{number} WHERE faults IS NULL AND rowid % {step} = 0 AND {within(rows)}"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    pairs = zip(columns, row[::2], row[1::2], strict=True)
    return [Measure("median", value, f"admissions.{name}") for name, value, n in pairs if n >= FEWEST_VALUES]


def _long_stays(cursor: duckdb.DuckDBPyConnection, feeds: Sequence[Feed], days: int, rows: Rows | None) -> int:
    """Good rows whose stay is longer than ``days``."""
    number = 0
    for place, feed in enumerate(feeds):
        if {"admitted_at", "discharged_at"} <= set(feed.values.get(Kind.ADMISSIONS, {})):
            row = cursor.execute(
                f"SELECT count(*) FROM keyed_{place} WHERE faults IS NULL "
                f"AND admissions_discharged_at - admissions_admitted_at > INTERVAL {days} DAY AND {within(rows)}"
            ).fetchone()
            number += int(row[0]) if row else 0
    return number


def past(lake: Lake, source: Source, layout: str | None) -> Past:
    """The measures of the source's loaded deliveries of the same layout; those that took rows again left out."""
    rows = lake.query(
        "SELECT measure, column_name, received_at, value FROM clinical.quality JOIN (FROM clinical.deliveries "
        "WHERE source = ? AND layout IS NOT DISTINCT FROM ? AND status = 'loaded' AND requeue_of IS NULL "
        f"ORDER BY received_at DESC LIMIT {MOST_DELIVERIES * 7}) AS deliveries USING (delivery_id) "
        "WHERE measure <> 'faults' ORDER BY received_at",
        [source.name, layout],
    )
    found: Past = {}
    for row in rows:
        when = local(row["received_at"], source.time_zone)
        found.setdefault((row["measure"], row["column_name"]), []).append((when, row["value"]))
    return found


def remember(earlier: Past, measures: Iterable[Measure], source: Source, received_at: dt.datetime) -> None:
    """Add what was measured of a delivery to the past of those that come after it."""
    moment = local(received_at, source.time_zone)
    for one in measures:
        if one.measure != "faults":
            earlier.setdefault((one.measure, one.column), []).append((moment, one.value))


def judged(measures: Iterable[Measure], known: Past, now: dt.datetime, thresholds: Thresholds) -> list[Measure]:
    """``measures`` with what the source's past lets expect, and the reason where one is unusual."""
    result = []
    for one in measures:
        before = known.get((one.measure, one.column), ())
        values = [value for _, value in before]
        if one.measure == "rows" and thresholds.volume != "off":
            usual = expected_number(before, now, lowest_share=thresholds.volume_share)
            if usual is not None:
                is_odd = usual.is_unusual(one.value)
                one = replace(one, expected=usual.usual, lowest=usual.lowest, highest=usual.highest)
                one = replace(one, reason=Notice.VOLUME_UNUSUAL.value) if is_odd else one
        elif one.measure == "missing_share":
            usual = expected_share(values, least_rise=_or(thresholds.missing_rise, MISSING_RISE))
            if usual is not None:
                one = replace(one, expected=usual.usual, lowest=usual.lowest, highest=usual.highest)
            if one.value == 1 and (usual is None or usual.is_unusual(1)):
                one = replace(one, reason=Notice.EMPTY_COLUMN.value)
            elif usual is not None and usual.is_unusual(one.value):
                one = replace(one, reason=Notice.MORE_MISSING.value)
        elif one.measure == "median" and one.column is not None:
            name = one.column.partition(".")[2]
            factors, tolerance = UNITS[name]
            if scale_shift(one.value, values, factors, tolerance=tolerance) is not None:
                reason = FileFault.AGE_UNITS if name == "age_years" else FileFault.AMOUNT_UNITS
                if name == "age_years" or thresholds.units != "off":
                    one = replace(one, reason=reason.value)
        elif one.measure == "duplicate_share" and one.value > _or(thresholds.duplicate_share, DUPLICATE_SHARE):
            one = replace(one, reason=Notice.MANY_DUPLICATES.value)
        result.append(one)
    return result


def refusal(measures: Iterable[Measure], thresholds: Thresholds) -> DeliveryRefusedError | None:
    """The error for a delivery whose measures refuse it whole."""
    for one in measures:
        if one.reason == FileFault.AGE_UNITS.value:
            return _refused(one, "Its ages are not in years, as the source's were until now.", "Export ages in years.")
        if one.reason == FileFault.AMOUNT_UNITS.value and thresholds.units == "refuse":
            return _refused(one, "Its amounts are in another unit than the source's until now.", "Compare one bill.")
        if one.reason == FileFault.VOLUME_UNUSUAL.value and one.measure == "rows" and thresholds.volume == "refuse":
            return _refused(
                one,
                f"It has {one.value:,.0f} rows; the source usually sends {one.expected or 0:,.0f}.",
                "Is the file complete?",
            )
    return None


def judge_waiting(
    cursor: duckdb.DuckDBPyConnection, staged: Staged, waiting: int, thresholds: Thresholds
) -> tuple[str, list[Measure], DeliveryRefusedError | None]:
    """Of a delivery ``waiting`` of whose conditions and prescriptions have no admission: the notice, what is measured
    of it, and the error that refuses it.

    Files of a set may come one by one, so without admissions of its own a delivery merely waits for them.
    """
    if Kind.ADMISSIONS not in staged.columns:
        return Notice.WAITING.value, [], None
    kinds = [kind for kind in EVENTS if kind in staged.columns]
    rows = sum(int((cursor.execute(f"SELECT count(*) FROM staged_{kind}").fetchone() or (0,))[0]) for kind in kinds)
    share = waiting / max(rows, waiting)
    if share <= thresholds.unknown_admission_share:
        return Notice.WAITING.value, [], None
    reason = Notice.UNKNOWN_ADMISSION.value
    measures = [Measure("unknown_admission_share", share, highest=thresholds.unknown_admission_share, reason=reason)]
    if thresholds.references == "tell":
        return reason, measures, None
    return (
        reason,
        measures,
        DeliveryRefusedError(
            f"{waiting:,} of its {rows:,} conditions and prescriptions are of admissions that neither it nor an "
            "earlier delivery has.",
            reason=FileFault.UNKNOWN_ADMISSION.value,
            hint="Is the file of admissions complete?",
        ),
    )


def ages_in_other_units(counts: StagingCounts) -> DeliveryRefusedError | None:
    """The error for a delivery of which half the ages are above what people live."""
    if counts.faults.get(RowFault.IMPLAUSIBLE_AGE.value, 0) * 2 >= max(counts.rows_read, FEWEST_VALUES):
        return DeliveryRefusedError(
            "Half of its ages or more are above what people live: they are months or days.",
            reason=FileFault.AGE_UNITS.value,
            hint="Export ages in years.",
        )
    return None


def notices(measures: Iterable[Measure]) -> dict[str, int]:
    """How many measures are unusual, by reason; faults of rows are counted elsewhere."""
    told: dict[str, int] = {}
    for one in measures:
        if one.reason is not None and one.measure != "faults":
            told[one.reason] = told.get(one.reason, 0) + 1
    return told


def keep(transaction: duckdb.DuckDBPyConnection, measures: Mapping[str, Sequence[Measure]]) -> None:
    """The measures of each delivery, by its id, as rows of the lake."""
    rows = [(delivery_id, one) for delivery_id, found in measures.items() for one in found]
    if not rows:
        return
    columns = {
        "delivery_id VARCHAR": [delivery_id for delivery_id, _ in rows],
        "column_name VARCHAR": [one.column for _, one in rows],
        "measure VARCHAR": [one.measure for _, one in rows],
        "value DOUBLE": [float(one.value) for _, one in rows],
        "expected DOUBLE": [one.expected for _, one in rows],
        "lowest DOUBLE": [one.lowest for _, one in rows],
        "highest DOUBLE": [one.highest for _, one in rows],
        "reason VARCHAR": [one.reason for _, one in rows],
    }
    names, types = zip(*(column.split() for column in columns), strict=True)
    transaction.execute(
        f"INSERT INTO lake.clinical.quality ({', '.join(names)}) "
        f"SELECT {', '.join(f'unnest(?::{one}[])' for one in types)}",
        list(columns.values()),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _refused(one: Measure, message: str, hint: str) -> DeliveryRefusedError:
    return DeliveryRefusedError(message, reason=one.reason or "", column=one.column, hint=hint)
