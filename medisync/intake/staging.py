"""From text to checked, de-identified rows, still outside the lake.

All of it happens in temporary tables of one DuckDB cursor, and is gone, names and all, when it is closed. ``check``
reads each feed's text once, into ``keyed_<number>``: pseudonyms in place of identifiers, values in the lake's types,
and what is wrong with the row. ``stage`` makes the views and tables ``staged_<kind>`` of them, a row for each record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medisync.intake import births, delimited, pseudonyms
from medisync.intake import shelf as shelves
from medisync.intake.delimited import text
from medisync.intake.feeds import Feed, Kind
from medisync.intake.keying import (
    EVENTS,
    LAKE_COLUMNS,
    PASSED_OVER,
    PRIVATE_COLUMNS,
    checks_of,
    keyed,
    practitioners_of,
)
from medisync.intake.reasons import POOLED_AGE_YEARS, Notice
from medisync.intake.shelf import Ready, ReadyFiles, Shelf

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    import duckdb

    from medisync.lake import Lake


SAMPLED_ROWS = 20_000
"""Rows of a large part whose practitioners are learnt before all are read."""


@dataclass(frozen=True)
class Staged:
    """What ``stage`` made.

    ``columns``: kind -> the lake's columns the delivery fills; the others stay as they are. ``whole``: the kinds of
    events that came together with their admissions, which therefore says all there is of them. ``ready``: the files of
    the kinds of which what is staged lies in files that the lake can take as they are.
    """

    columns: Mapping[Kind, tuple[str, ...]]
    whole: frozenset[Kind]
    has_birth_dates: bool
    ready: ReadyFiles = field(default_factory=dict)


@dataclass(frozen=True)
class StagingCounts:
    """``rows_read`` = loaded + duplicates + quarantined rows of the file + those of no admission."""

    rows_read: int
    quarantined: int
    duplicates_exact: int
    duplicates_conflicting: int
    faults: dict[str, int] = field(default_factory=dict)
    notices: dict[str, int] = field(default_factory=dict)
    admitted_from: dt.date | None = None
    admitted_until: dt.date | None = None

    @property
    def faulty_share(self) -> float:
        return self.quarantined / self.rows_read if self.rows_read else 0.0


Rows = tuple[int, int]
"""The first and the last row number of a file among others that were read with it."""


def within(rows: Rows | None, number: str = "row_number") -> str:
    """The SQL condition that the row ``number`` is one of ``rows``."""
    return "true" if rows is None else f"{number} BETWEEN {rows[0]} AND {rows[1]}"


def open_desk(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A cursor to stage and merge with; what does not fit into memory goes to the lake's own temporary folder.

    Unqualified names are not looked up in the lake, which would cost each statement a look into its catalog. DuckDB
    gets half of the process' memory: reading and writing files takes the rest beside its own count.
    """
    cursor = lake.cursor()
    cursor.execute("USE memory")
    cursor.execute(f"SET memory_limit = '{lake.settings.memory_limit_mb // 2}MB'")
    _make_faults(cursor)
    return cursor


def _make_faults(cursor: duckdb.DuckDBPyConnection) -> None:
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE faults (part VARCHAR, row_number BIGINT, column_name VARCHAR, reason VARCHAR)"
    )


def check(
    cursor: duckdb.DuckDBPyConnection,
    feeds: tuple[Feed, ...],
    received_at: dt.datetime,
    *,
    source: str,
    key: bytes,
    birth_dates: Path | None = None,
    shelf: Shelf | None = None,
    words: Sequence[str] = (),
) -> StagingCounts:
    """Read the feeds, once each: ``keyed_<number>`` and ``faults(part, row_number, column_name, reason)``.

    Direct identifiers end here: what is made holds pseudonyms only. ``birth_dates`` are those of earlier deliveries,
    that admissions are compared with; what is made of a large part is kept in the ``shelf``, if there is one;
    ``words`` are those of the file's name that may be people's.
    Raises DeliveryRefusedError for a part that is no table.
    """
    cursor.execute("SET VARIABLE received_at = ?::TIMESTAMP", [received_at])
    delimited.prepare(cursor)
    _make_faults(cursor)
    if shelf is not None:
        shelf.clear()
    pseudonyms.install(cursor, key, source)
    try:
        for number, feed in enumerate(feeds):
            is_fixed = birth_dates is None or not birth_dates.exists()
            _read(cursor, number, feed, keyed(feed, words), shelf if is_fixed else None)
            if birth_dates is not None:
                births.set_aside(cursor, number, feed, birth_dates)
            _list_faults(cursor, number, feed)
    finally:
        pseudonyms.forget(cursor)
    cursor.execute("INSERT INTO faults SELECT part, row_number, column_name, reason FROM malformed")
    read = sum(_number(cursor, f"SELECT count(*) FROM keyed_{number}") for number in range(len(feeds)))
    malformed = _number(cursor, "SELECT count(*) FROM malformed")
    quarantined = _number(cursor, "SELECT count(*) FROM (SELECT DISTINCT part, row_number FROM faults)")
    reasons = dict(cursor.execute("SELECT reason, count(*) FROM faults GROUP BY reason ORDER BY reason").fetchall())
    return StagingCounts(read + malformed, quarantined, 0, 0, reasons)


def _read(cursor: duckdb.DuckDBPyConnection, number: int, feed: Feed, select: str, shelf: Shelf | None) -> None:
    """Make ``keyed_<number>``: a table or, of a large part, a view over its file in the shelf."""
    target = f"keyed_{number}"
    if feed.reader is None:
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {select}")
        return
    if shelf is None or not feed.reader.is_large:
        feed.reader.read(cursor, target, select)
        return
    if feed.practitioner:
        pseudonyms.learn_practitioners(cursor, practitioners_of(feed, SAMPLED_ROWS))
    shelf.folder.mkdir(mode=0o700, exist_ok=True)
    file = shelf.file(target)
    feed.reader.read(cursor, file, shelves.query(shelf, feed, select))
    is_faultless = not _number(cursor, f"SELECT count(*) FROM {shelves.parquet(file)} WHERE faults IS NOT NULL")
    cursor.execute(
        f"CREATE OR REPLACE TEMP VIEW {target} AS {shelves.view(shelf, number, feed, is_faultless=is_faultless)}"
    )


def _list_faults(cursor: duckdb.DuckDBPyConnection, number: int, feed: Feed) -> None:
    checks = list(checks_of(feed))
    columns = ", ".join(f"nullif({text(one.column)}, '')" for one in checks)
    reasons = ", ".join(f"'{one.fault.value}'" for one in checks)
    cursor.execute(
        f"INSERT INTO faults SELECT {text(feed.part)}, row_number, [{columns}][one + 1], [{reasons}][one + 1] "
        f"FROM (SELECT {_row(feed)} AS row_number, unnest(faults) AS one FROM keyed_{number} WHERE faults IS NOT NULL) "
        "WHERE one >= 0"
    )
    if feed.reader:
        feed.reader.number(cursor, "faults")


def stage(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], shelf: Shelf | None = None) -> Staged:
    """Make ``staged_<kind>`` for each kind carried, from the rows without a fault; of rows with one key the last wins.
    ``shelf`` is the one they were checked with.

    ``spared(admission_key, patient_key)`` are those of the faulty rows, as far as they can be told: the delivery does
    contain these admissions, so they are not to be deleted as absent.
    """
    carried = {kind for feed in feeds for kind in feed.carries}
    columns = {kind: _filled(feeds, kind) for kind in Kind if kind in carried}
    whole = frozenset(
        kind
        for kind in EVENTS
        if kind in carried and all(Kind.ADMISSIONS in feed.carries for feed in feeds if kind in feed.carries)
    )
    has_birth_dates = any("birth_date" in feed.values.get(Kind.PATIENTS, {}) for feed in feeds)
    _set_spared(cursor, feeds)
    on_shelf = frozenset(number for number, _ in enumerate(feeds) if shelf is not None and shelf.holds(number))
    with_losers = _find_losers(cursor, feeds, on_shelf)
    kept = [winners(number, feed, number in with_losers) for number, feed in enumerate(feeds)]
    if Kind.ADMISSIONS in carried:
        rows = " UNION ALL ".join(
            f"SELECT admission_key, patient_key, {_values(feed, Kind.ADMISSIONS)} FROM {kept[number]}"
            for number, feed in enumerate(feeds)
            if Kind.ADMISSIONS in feed.carries
        )
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW staged_admissions AS {rows}")
    ready: dict[Kind, tuple[Ready, ...]] = {}
    if Kind.PATIENTS in carried:
        patients = _stage_patients(cursor, feeds, kept, shelf, on_shelf)
        if patients is not None:
            ready[Kind.PATIENTS] = (patients,)
    for kind, what in EVENTS.items():
        if kind in carried:
            rows = " UNION ALL ".join(
                f"SELECT admission_key, {_key(feed, 'patient')}, {_values(feed, kind)} FROM {kept[number]} "
                f"WHERE {kind}_{what} IS NOT NULL"
                for number, feed in enumerate(feeds)
                if kind in feed.carries
            )
            if kind in whole:
                cursor.execute(f"CREATE OR REPLACE TEMP VIEW staged_{kind} AS FROM ({rows}) WHERE NOT is_deleted")
            else:
                cursor.execute(f"CREATE OR REPLACE TEMP TABLE staged_{kind} AS SELECT DISTINCT * FROM ({rows})")
    if shelf is not None:
        for kind in (Kind.ADMISSIONS, *sorted(whole)):
            if kind in carried and (files := _ready(cursor, feeds, kind, shelf, on_shelf, with_losers)):
                ready[kind] = files
    return Staged(columns, whole, has_birth_dates, ready)


def _ready(
    cursor: duckdb.DuckDBPyConnection,
    feeds: tuple[Feed, ...],
    kind: Kind,
    shelf: Shelf,
    on_shelf: frozenset[int],
    with_losers: frozenset[int],
) -> tuple[Ready, ...]:
    """The files that hold what is staged of ``kind``, which is not of patients; none where not all of it is in some."""
    found = []
    for number, feed in enumerate(feeds):
        if kind not in feed.carries:
            continue
        if number not in on_shelf or kind not in shelves.shared_kinds(feed):
            return ()
        unwanted = "faults IS NOT NULL"
        if number in with_losers:
            unwanted += f" OR rowid + 1 IN (SELECT place FROM losers WHERE feed = {number})"
        if kind in EVENTS:
            unwanted += f" OR {kind}_{EVENTS[kind]} IS NULL"
        rows = _number(cursor, f"SELECT count(*) FROM keyed_{number}")
        left_out = _number(cursor, f"SELECT count(*) FROM keyed_{number} WHERE {unwanted}")
        if left_out > shelves.MOST_LEFT_OUT * rows:
            return ()
        numbers = f"SELECT rowid FROM keyed_{number} WHERE {unwanted}" if left_out else None
        one = shelf.ready(f"keyed_{number}", kind, rows, numbers)
        if one is None:
            return ()
        found.append(one)
    return tuple(found)


def _filled(feeds: tuple[Feed, ...], kind: Kind) -> tuple[str, ...]:
    names = {name for feed in feeds for name in feed.values.get(kind, {})}
    if kind is Kind.ADMISSIONS and any(feed.practitioner for feed in feeds if kind in feed.carries):
        names.add("practitioner_key")
    if "birth_date" in names:
        names.add("birth_year")
    return tuple(name for name in LAKE_COLUMNS[kind] if name in names)


def _values(feed: Feed, kind: Kind) -> str:
    """All columns of ``kind``, NULL where the feed has none, and ``is_deleted``."""
    given = feed.values[kind]
    selected = []
    for name, type_name in {**LAKE_COLUMNS[kind], **PRIVATE_COLUMNS.get(kind, {})}.items():
        if name == "practitioner_key":
            sql = _key(feed, "practitioner")
        elif name not in given:
            sql = f"NULL::{type_name} AS {name}"
        else:
            sql = f"{kind}_{name} AS {name}"
        selected.append(sql)
    return ", ".join((*selected, f"{'is_deleted' if feed.deleted else 'false'} AS is_deleted"))


def _key(feed: Feed, purpose: str) -> str:
    return f"{purpose}_key" if getattr(feed, purpose) else f"NULL::UUID AS {purpose}_key"


def _row(feed: Feed) -> str:
    """A row's place in its part: DuckDB keeps the order of what it reads, so a table's own row ids tell it."""
    return "rowid + 1" if feed.reader else "row_number"


def winners(number: int, feed: Feed, has_losers: bool = True) -> str:
    """The feed's good rows, of those with one admission or patient key the last."""
    if not has_losers:
        return f"(FROM keyed_{number} WHERE faults IS NULL)"
    return (
        f"(FROM keyed_{number} WHERE faults IS NULL "
        f"AND {_row(feed)} NOT IN (SELECT place FROM losers WHERE feed = {number}))"
    )


def _set_spared(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...]) -> None:
    rows = " UNION ".join(
        f"SELECT {'admission_key' if feed.admission else 'NULL::UUID AS admission_key'}, "
        f"{'patient_key' if feed.patient else 'NULL::UUID AS patient_key'} FROM keyed_{number} "
        f"WHERE faults IS NOT NULL AND faults[1] <> {PASSED_OVER}"
        for number, feed in enumerate(feeds)
    )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE spared AS SELECT admission_key, "
        f"CASE WHEN admission_key IS NULL THEN patient_key END AS patient_key FROM ({rows})"
    )


def _find_losers(
    cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], on_shelf: frozenset[int]
) -> frozenset[int]:
    """``doubles``: the rows that share their key with another; ``losers``: all but the last of each key, and the feeds
    that have any.

    Keys that occur once, nearly all, are told by a count; only the few others are looked at row by row. The hashes of
    rows ``on_shelf`` are read from the file again, if there are such rows.
    """
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE doubles (kind VARCHAR, feed INTEGER, place BIGINT, key UUID, hash UBIGINT)"
    )
    for kind, key in ((Kind.ADMISSIONS, "admission_key"), (Kind.PATIENTS, "patient_key")):
        of_kind = [
            (number, feed)
            for number, feed in enumerate(feeds)
            if kind in feed.carries and (kind is Kind.ADMISSIONS or Kind.ADMISSIONS not in feed.carries)
        ]
        if not of_kind:
            continue
        keys = " UNION ALL ".join(
            f"SELECT {key} AS key FROM keyed_{number} WHERE faults IS NULL" for number, _ in of_kind
        )
        rows = " UNION ALL ".join(
            f"SELECT {number} AS feed, {_row(feed)} AS place, {key} AS key, "
            f"{'NULL' if number in on_shelf else 'row_hash'} AS hash FROM keyed_{number} WHERE faults IS NULL"
            for number, feed in of_kind
        )
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE doubled AS SELECT key FROM ({keys}) GROUP BY key HAVING count(*) > 1"
        )
        if _number(cursor, "SELECT count(*) FROM doubled"):
            cursor.execute(f"INSERT INTO doubles SELECT '{kind}', * FROM ({rows}) WHERE key IN (FROM doubled)")
    for number in on_shelf:
        if _number(cursor, f"SELECT count(*) FROM (SELECT 1 FROM doubles WHERE feed = {number} LIMIT 1)"):
            cursor.execute(
                "UPDATE temp.doubles SET hash = row_hash FROM (SELECT row_number() OVER () AS row_number, row_hash "
                f"FROM {feeds[number].table}) AS text WHERE feed = {number} AND place = text.row_number"
            )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE losers AS SELECT feed, place FROM doubles "
        "QUALIFY row_number() OVER (PARTITION BY kind, key ORDER BY feed DESC, place DESC) > 1"
    )
    return frozenset(number for (number,) in cursor.execute("SELECT DISTINCT feed FROM losers").fetchall())


def _stage_patients(
    cursor: duckdb.DuckDBPyConnection,
    feeds: tuple[Feed, ...],
    kept: list[str],
    shelf: Shelf | None,
    on_shelf: frozenset[int],
) -> Ready | None:
    """One row for each patient. Most patients' rows agree, so that any of them will do; of others the last counts.

    A birth year that tells of an age above 89 is withheld, like the age itself. Patients of large parts that only agree
    are kept on the shelf, too: returned is their file.
    """
    of_kind = [(number, feed) for number, feed in enumerate(feeds) if Kind.PATIENTS in feed.carries]
    types = {**LAKE_COLUMNS[Kind.PATIENTS], **PRIVATE_COLUMNS[Kind.PATIENTS], "is_deleted": "BOOLEAN"}
    columns = ", ".join(types)
    given = [name for name in types if any(name in feed.values[Kind.PATIENTS] for _, feed in of_kind)]
    given += ["is_deleted"] if any(feed.deleted for _, feed in of_kind) else []

    def rows(place: str) -> str:
        return " UNION ALL ".join(
            f"SELECT patient_key, {_values(feed, Kind.PATIENTS)}{place.format(number, _row(feed)) if place else ''} "
            f"FROM {kept[number]}"
            + (" WHERE NOT is_deleted" if feed.deleted and Kind.ADMISSIONS in feed.carries else "")
            for number, feed in of_kind
        )

    absent = {name: "false" if name == "is_deleted" else f"NULL::{types[name]}" for name in types if name not in given}
    ones = ", ".join(f"{absent.get(name, f'first({name})')} AS {name}" for name in types)
    doubtful = [name for name in given if any(name not in feed.told_by_patient for _, feed in of_kind)]
    only_agree = not doubtful and not {"birth_date", "birth_year", "is_deleted"} & set(given)
    if shelf is not None and only_agree and on_shelf.issuperset(number for number, _ in of_kind):
        select = f"SELECT patient_key, {', '.join(f'first({name}) AS {name}' for name in given)} FROM ({rows('')}) "
        return shelves.keep_patients(cursor, shelf, f"{select} GROUP BY patient_key", given, absent)
    differs = "min(told) <> max(told)" if doubtful else "false"
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE staged_patients AS SELECT patient_key, {ones}, {differs} AS differs "
        f"FROM (SELECT *, hash({', '.join(doubtful) or 'NULL'}) AS told FROM ({rows('')})) GROUP BY patient_key"
    )
    doubled = "SELECT patient_key FROM staged_patients WHERE differs"
    is_doubled = _number(cursor, f"SELECT count(*) FROM ({doubled})") > 0
    if is_doubled:
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE last_patients AS SELECT patient_key, {columns} "
            f"FROM ({rows(', {} AS feed, {} AS place')}) WHERE patient_key IN ({doubled}) "
            "QUALIFY row_number() OVER (PARTITION BY patient_key ORDER BY feed DESC, place DESC) = 1"
        )
        cursor.execute("DELETE FROM temp.staged_patients WHERE differs")
    cursor.execute("ALTER TABLE temp.staged_patients DROP COLUMN differs")
    if is_doubled:
        cursor.execute("INSERT INTO temp.staged_patients FROM last_patients")
    if any({"birth_date", "birth_year"} & set(feed.values[Kind.PATIENTS]) for _, feed in of_kind):
        year = "coalesce(birth_year, year(birth_date))"
        cursor.execute(
            f"UPDATE temp.staged_patients SET birth_year = CASE WHEN year(getvariable('received_at')) - {year} "
            f"< {POOLED_AGE_YEARS} THEN {year} END"
        )
    return None


def count(
    cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], checked: StagingCounts, rows: Rows | None = None
) -> StagingCounts:
    """``checked`` with what is known only after staging: duplicates, notices, and the period; of ``rows``, or all."""
    exact, conflicting = 0, 0
    row = cursor.execute(
        "SELECT count(*), count(DISTINCT (kind, key, hash)), count(DISTINCT (kind, key)) FROM doubles "
        f"WHERE {within(rows, 'place')}"
    ).fetchone()
    if row:
        exact, conflicting = row[0] - row[1], row[1] - row[2]
    notices: dict[str, int] = {}
    first, last = None, None
    for number, feed in enumerate(feeds):
        if feed.passed_over and (
            without := _number(cursor, f"SELECT count(*) FROM keyed_{number} WHERE faults[1] = {PASSED_OVER}")
        ):
            notices[Notice.WITHOUT_ADMISSION.value] = notices.get(Notice.WITHOUT_ADMISSION.value, 0) + without
        wanted = ["count(*)", *(f"count(*) FILTER (notice_{place})" for place in range(len(feed.notices)))]
        dated = "admitted_at" in feed.values.get(Kind.ADMISSIONS, {})
        wanted += ["min(admissions_admitted_at)::DATE", "max(admissions_admitted_at)::DATE"] if dated else []
        found = cursor.execute(
            f"SELECT {', '.join(wanted)} FROM keyed_{number} WHERE faults IS NULL AND {within(rows)}"
        ).fetchone()
        assert found is not None  # noqa: S101 - an aggregate without GROUP BY has one row
        good, *rest = found
        for name, noticed in zip(feed.notices, rest, strict=False):
            if noticed:
                notices[name] = notices.get(name, 0) + noticed
        if dated and rest[-2] is not None:
            first = min(first, rest[-2]) if first else rest[-2]
            last = max(last, rest[-1]) if last else rest[-1]
        if not {Kind.ADMISSIONS, Kind.PATIENTS} & set(feed.carries):
            kept = sum(_number(cursor, f"SELECT count(*) FROM staged_{kind}") for kind in feed.carries)
            exact += good - kept if len(feed.carries) == 1 and _is_alone(feeds, feed) else 0
    return replace(
        checked,
        duplicates_exact=exact,
        duplicates_conflicting=conflicting,
        notices=notices,
        admitted_from=first,
        admitted_until=last,
    )


def _is_alone(feeds: tuple[Feed, ...], feed: Feed) -> bool:
    return not any(other is not feed and set(other.carries) & set(feed.carries) for other in feeds)


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = cursor.execute(sql).fetchone()
    return int(row[0]) if row else 0
