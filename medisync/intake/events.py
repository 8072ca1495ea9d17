"""Conditions and prescriptions into the lake, and those that wait for their admission.

Where a delivery brings them together with their admission, in one row, they are all there is of it, and replace what
was known. Where they come by themselves they add to it, in any order: what has no admission yet waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medisync.intake.feeds import Kind
from medisync.intake.keying import EVENTS, LAKE_COLUMNS
from medisync.intake.shelf import Ready, adopt
from medisync.intake.staging import Staged

if TYPE_CHECKING:
    import duckdb

MINE = "source = getvariable('source')"


@dataclass
class EventChanges:
    """``counts``: created, deleted and unchanged conditions and prescriptions that came by themselves."""

    changed: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    waiting: int = 0


def merge(cursor: duckdb.DuckDBPyConnection, staged: Staged, mode: str) -> EventChanges:
    """Bring conditions and prescriptions in line with ``staged_*``, after admissions.

    ``marked_admissions`` learns which admissions changed by it.
    """
    found = EventChanges()
    has_admissions = Kind.ADMISSIONS in staged.columns
    waiting = _waiting_kinds(cursor) if has_admissions else frozenset()
    for kind in EVENTS:
        placed = _place_waiting(cursor, kind) if kind in waiting else 0
        changed = bool(placed)
        if kind in staged.whole:
            changed |= _replace(cursor, kind, mode, placed, staged.ready.get(kind, ()))
        elif kind in staged.columns:
            changed |= _add(cursor, kind, mode, found, has_admissions)
        if has_admissions and kind not in staged.whole:
            changed |= _follow_admissions(cursor, kind)
        if changed:
            found.changed.add(kind)
    drop(cursor, *(f"{what}_events" for what in ("old", "come", "gone", "waiting", "leaving")))
    return found


def _columns(kind: Kind) -> str:
    return ", ".join(LAKE_COLUMNS[kind])


def _as_waiting(kind: Kind) -> str:
    """The columns of ``clinical.waiting`` under their names in ``kind``."""
    at = next(name for name in LAKE_COLUMNS[kind] if name.endswith("_at"))
    return f"description AS {EVENTS[kind]}, code, code_system, occurred_at AS {at}"


def _waiting_rows(kind: Kind, condition: str = "true") -> str:
    return (
        f"(SELECT admission_key, patient_key, {_as_waiting(kind)}, delivery_id FROM lake.clinical.waiting "
        f"WHERE {MINE} AND kind = '{kind}' AND ({condition}))"
    )


def _waiting_kinds(cursor: duckdb.DuckDBPyConnection) -> frozenset[str]:
    found = cursor.execute(f"SELECT DISTINCT kind FROM lake.clinical.waiting WHERE {MINE}").fetchall()
    return frozenset(kind for (kind,) in found)


def _place_waiting(cursor: duckdb.DuckDBPyConnection, kind: Kind) -> int:
    """Move into place what waited for an admission that came now; the number of rows."""
    rows = rows_of(
        cursor.execute(
            f"INSERT INTO lake.clinical.{kind} (source, admission_key, patient_key, {_columns(kind)}, delivery_id) "
            f"SELECT getvariable('source'), admission_key, admissions.patient_key, {_columns(kind)}, "
            f"delivery_of(admission_key) FROM {_waiting_rows(kind)} AS waiting "
            "JOIN (FROM aged_admissions WHERE NOT is_deleted) AS admissions USING (admission_key)"
        )
    )
    if rows:
        cursor.execute(
            f"DELETE FROM lake.clinical.waiting WHERE {MINE} AND kind = '{kind}' "
            "AND admission_key IN (SELECT admission_key FROM aged_admissions WHERE NOT is_deleted)"
        )
    return rows


def _replace(cursor: duckdb.DuckDBPyConnection, kind: Kind, mode: str, placed: int, ready: tuple[Ready, ...]) -> bool:
    """The staged events of each staged admission in place of those known of it."""
    columns = f"admission_key, patient_key, {_columns(kind)}"
    insert = f"INSERT INTO lake.clinical.{kind} (source, {columns}, delivery_id) "
    if not placed and not has(cursor, "marked_admissions", "true"):
        if ready:
            return sum(adopt(cursor, kind, one) for one in ready) > 0
        inserted = cursor.execute(
            f"{insert} SELECT getvariable('source'), {columns}, delivery_of(admission_key) FROM staged_{kind}"
        )
        return rows_of(inserted) > 0
    staged = f"staged_{kind}"
    known = "SELECT key FROM marked_admissions WHERE state <> 'created'"
    if mode == "append":
        created = "SELECT key FROM marked_admissions WHERE state = 'created'"
        staged = f"(FROM staged_{kind} WHERE admission_key IN ({created}))"
        known = f"{created} AND false"
    if placed:
        known = "SELECT admission_key FROM aged_admissions UNION SELECT key FROM marked_admissions"
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE old_events AS SELECT {columns}, delivery_id FROM lake.clinical.{kind} "
        f"WHERE {MINE} AND admission_key IN ({known})"
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE come_events AS SELECT {columns} FROM {staged} EXCEPT SELECT {columns} "
        "FROM old_events"
    )
    _set_gone(cursor, f"SELECT {columns} FROM old_events EXCEPT SELECT {columns} FROM staged_{kind}", columns)
    _note_changed(cursor)
    deleted = _delete_gone(cursor, kind, columns)
    come = rows_of(
        cursor.execute(f"{insert} SELECT getvariable('source'), {columns}, delivery_of(admission_key) FROM come_events")
    )
    return bool(deleted or come)


def _add(cursor: duckdb.DuckDBPyConnection, kind: Kind, mode: str, found: EventChanges, has_admissions: bool) -> bool:
    """The staged events to those known; those staged as deleted go, and in mode snapshot the absent ones."""
    columns = f"admission_key, {_columns(kind)}"
    is_whole_extract = mode == "snapshot"
    mine = f"{MINE} AND admission_key IN (SELECT admission_key FROM staged_{kind})"
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE old_events AS SELECT {columns}, patient_key, delivery_id "
        f"FROM lake.clinical.{kind} WHERE {MINE if is_whole_extract else mine}"
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE waiting_events AS SELECT {columns}, patient_key, delivery_id "
        f"FROM {_waiting_rows(kind)} WHERE {'true' if is_whole_extract else mine.removeprefix(f'{MINE} AND ')}"
    )
    known = f"(SELECT {columns} FROM old_events UNION SELECT {columns} FROM waiting_events)"
    live = f"SELECT {columns} FROM staged_{kind} WHERE NOT is_deleted"
    leaving = f"SELECT {columns} FROM staged_{kind} WHERE is_deleted AND {'false' if mode == 'append' else 'true'}"
    if is_whole_extract:
        leaving = (
            f"({leaving}) UNION (SELECT {columns} FROM {known} WHERE admission_key NOT IN "
            "(SELECT admission_key FROM spared WHERE admission_key IS NOT NULL) "
            f"EXCEPT {live})"
        )
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE leaving_events AS {leaving}")
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE come_events AS SELECT come.*, staged.patient_key AS told_patient "
        f"FROM ({live} EXCEPT FROM {known}) AS come JOIN (SELECT {columns}, any_value(patient_key) AS patient_key "
        f"FROM staged_{kind} GROUP BY ALL) AS staged ON {_same('come', 'staged', columns)}"
    )
    _set_gone(cursor, f"SELECT {columns} FROM old_events INTERSECT FROM leaving_events", columns)
    if has_admissions:
        _note_changed(cursor)
    come = number_of(cursor, "SELECT count(*) FROM come_events")
    stayed = number_of(cursor, f"SELECT count(*) FROM ({live} INTERSECT FROM {known})")
    deleted = _delete_gone(cursor, kind, columns)
    unwaited = rows_of(
        cursor.execute(
            f"DELETE FROM lake.clinical.waiting AS old USING leaving_events AS new WHERE old.{MINE} "
            f"AND old.kind = '{kind}' AND old.admission_key = new.admission_key AND "
            + " AND ".join(
                f"old.{pair.split(' AS ')[0].strip()} IS NOT DISTINCT FROM new.{pair.split(' AS ')[-1].strip()}"
                for pair in _as_waiting(kind).split(", ")
            )
        )
    )
    placed = rows_of(
        cursor.execute(
            f"INSERT INTO lake.clinical.{kind} (source, admission_key, patient_key, {_columns(kind)}, delivery_id) "
            f"SELECT getvariable('source'), come.admission_key, admissions.patient_key, {_columns(kind)}, "
            "delivery_of(admission_key) FROM come_events AS come JOIN (SELECT admission_key, patient_key "
            f"FROM lake.clinical.admissions WHERE {MINE}) AS admissions USING (admission_key)"
        )
    )
    if placed < come:
        found.waiting += rows_of(
            cursor.execute(
                "INSERT INTO lake.clinical.waiting (kind, source, admission_key, patient_key, description, code, "
                f"code_system, occurred_at, delivery_id) SELECT '{kind}', getvariable('source'), admission_key, "
                f"told_patient, {_columns(kind)}, delivery_of(admission_key) FROM come_events WHERE admission_key "
                f"NOT IN (SELECT admission_key FROM lake.clinical.admissions WHERE {MINE})"
            )
        )
    for state, rows in (("created", come), ("deleted", deleted + unwaited), ("unchanged", stayed)):
        found.counts[state] = found.counts.get(state, 0) + rows
    return bool(placed or deleted)


def _follow_admissions(cursor: duckdb.DuckDBPyConnection, kind: Kind) -> bool:
    """Events of an admission that is another patient's now follow it; those of a deleted one go.

    Where the admission is merely absent from a full extract, they wait: another file told of them.
    """
    changed = False
    moved = (
        "SELECT admission_key, new.patient_key FROM aged_admissions AS new JOIN old_admissions AS old "
        "USING (admission_key) WHERE NOT new.is_deleted AND old.patient_key <> new.patient_key"
    )
    columns = f"admission_key, patient_key, {_columns(kind)}"
    if has(cursor, f"({moved})", "true"):
        mine = f"(FROM lake.clinical.{kind} WHERE {MINE})"
        supersede(cursor, kind, mine, f"admission_key IN (SELECT admission_key FROM ({moved}))")
        changed |= bool(
            rows_of(
                cursor.execute(
                    f"UPDATE lake.clinical.{kind} AS old SET patient_key = new.patient_key, "
                    "delivery_id = new.told_by FROM "
                    f"(SELECT *, delivery_of(admission_key) AS told_by FROM ({moved})) AS new "
                    f"WHERE old.{MINE} AND old.admission_key = new.admission_key"
                )
            )
        )
    if not has(cursor, "marked_admissions", "state = 'deleted'"):
        return changed
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE gone_events AS SELECT {columns}, delivery_id FROM lake.clinical.{kind} "
        f"WHERE {MINE} AND admission_key IN (SELECT key FROM marked_admissions WHERE state = 'deleted')"
    )
    if not has(cursor, "gone_events", "true"):
        return changed
    cursor.execute(
        "INSERT INTO lake.clinical.waiting (kind, source, admission_key, patient_key, description, code, "
        f"code_system, occurred_at, delivery_id) SELECT '{kind}', getvariable('source'), {columns}, delivery_id "
        "FROM gone_events WHERE admission_key IN (SELECT key FROM marked_admissions WHERE is_absent)"
    )
    return bool(_delete_gone(cursor, kind, columns)) or changed


def known(cursor: duckdb.DuckDBPyConnection, kind: Kind) -> int:
    """How many of the lake's rows of ``kind`` the delivery contains."""
    columns = f"admission_key, {_columns(kind)}"
    return number_of(
        cursor,
        f"SELECT count(*) FROM (SELECT {columns} FROM lake.clinical.{kind} WHERE {MINE} "
        f"INTERSECT SELECT {columns} FROM staged_{kind})",
    )


def supersede(cursor: duckdb.DuckDBPyConnection, kind: Kind, rows: str, condition: str) -> None:
    """Keep the rows of ``rows`` that ``condition`` is true of as what was known until now."""
    key = "patient_key" if kind is Kind.PATIENTS else "admission_key"
    columns = f"{'' if kind is Kind.PATIENTS else 'admission_key, '}patient_key, {_columns(kind)}, delivery_id"
    cursor.execute(
        f"INSERT INTO lake.clinical.superseded_{kind} (source, {columns}, superseded_by) "
        f"SELECT getvariable('source'), {columns}, delivery_of({key}) FROM {rows} WHERE {condition}"
    )


def _set_gone(cursor: duckdb.DuckDBPyConnection, query: str, columns: str) -> None:
    """``gone_events``: the rows of ``old_events`` that ``query`` gives."""
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE gone_events AS SELECT old.* FROM old_events AS old SEMI JOIN ({query}) AS gone "
        f"ON {_same('old', 'gone', columns)}"
    )


def _note_changed(cursor: duckdb.DuckDBPyConnection) -> None:
    cursor.execute(
        "UPDATE marked_admissions SET state = 'updated' WHERE state = 'unchanged' AND key IN "
        "(SELECT admission_key FROM gone_events UNION SELECT admission_key FROM come_events)"
    )


def _delete_gone(cursor: duckdb.DuckDBPyConnection, kind: Kind, columns: str) -> int:
    rows = number_of(cursor, "SELECT count(*) FROM gone_events")
    if rows:
        supersede(cursor, kind, "gone_events", "true")
        cursor.execute(
            f"DELETE FROM lake.clinical.{kind} AS old USING gone_events AS gone "
            f"WHERE old.{MINE} AND {_same('old', 'gone', columns)}"
        )
    return rows


def _same(left: str, right: str, columns: str) -> str:
    return " AND ".join(
        f"{left}.{name} = {right}.{name}"
        if name == "admission_key"
        else f"{left}.{name} IS NOT DISTINCT FROM {right}.{name}"
        for name in columns.split(", ")
    )


def has(cursor: duckdb.DuckDBPyConnection, table: str, condition: str) -> bool:
    return bool(number_of(cursor, f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT 1)"))


def drop(cursor: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Drop temporary tables and views."""
    for name in names:
        kind = "VIEW" if name.startswith("aged_") else "TABLE"
        cursor.execute(f"DROP {kind} IF EXISTS temp.{name}")


def rows_of(result: duckdb.DuckDBPyConnection) -> int:
    """Rows that an INSERT, UPDATE or DELETE touched."""
    row = result.fetchone()
    return int(row[0]) if row else 0


def number_of(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    return rows_of(cursor.execute(sql))
