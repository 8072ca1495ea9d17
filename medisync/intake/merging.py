"""Staged rows into the lake: what is new, changed, gone or as it was. The caller holds the transaction.

Only the kinds that a delivery carries are touched, and of them only the rows of its source. What a row was before goes
to ``superseded_<kind>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake import births, events
from medisync.intake.events import MINE, has, number_of, rows_of
from medisync.intake.feeds import Kind
from medisync.intake.keying import LAKE_COLUMNS
from medisync.intake.shelf import Ready, adopt
from medisync.intake.staging import Staged

if TYPE_CHECKING:
    import duckdb

KEYS = {Kind.PATIENTS: "patient_key", Kind.ADMISSIONS: "admission_key"}


class DeliveryMode(StrEnum):
    """How a delivery speaks of what the lake knows."""

    UPSERT = "upsert"  # it says nothing about what it does not contain
    SNAPSHOT = "snapshot"  # what it does not contain no longer exists
    APPEND = "append"  # it only adds: what is known stays as it is
    AUTO = "auto"  # snapshot when it holds nearly all that is known of its source, else upsert


@dataclass(frozen=True)
class MergeCounts:
    """Admissions, where the delivery has any; one with a changed condition or prescription counts as updated.

    Of a delivery without admissions, its own records: patients, conditions and prescriptions together.
    """

    mode: DeliveryMode
    created: int
    updated: int
    deleted: int
    unchanged: int
    changed_tables: tuple[str, ...]
    born_after: int = 0  # known admissions before the date of birth that came now
    waiting: int = 0  # conditions and prescriptions of the delivery whose admission has not come yet


def merge(
    cursor: duckdb.DuckDBPyConnection,
    staged: Staged,
    *,
    source: str,
    delivery_id: str,
    mode: DeliveryMode,
    full_extract_share: float,
    birth_dates: Path,
) -> MergeCounts:
    """Bring the lake's rows of ``source`` in line with the ``staged_*`` tables of ``cursor``."""
    cursor.execute("SET VARIABLE source = ?", [source])
    cursor.execute("SET VARIABLE delivery_id = ?", [delivery_id])
    cursor.execute("CREATE OR REPLACE TEMP MACRO delivery_of(any_key) AS getvariable('delivery_id')")
    if staged.has_birth_dates:
        births.remember(cursor, birth_dates)
    kinds = dict(staged.columns)
    if Kind.ADMISSIONS in kinds and birth_dates.exists():
        kinds[Kind.ADMISSIONS] = tuple(dict.fromkeys((*kinds[Kind.ADMISSIONS], "age_years")))
    for kind in KEYS:
        if kind in kinds:
            mark(cursor, kind, kinds[kind], birth_dates)
    if mode is DeliveryMode.AUTO:
        mode = _mode_of(cursor, kinds, full_extract_share)
    for kind in KEYS:
        if kind in kinds:
            settle(cursor, kind, mode, staged)
    changed: set[str] = set()
    for kind in KEYS:
        ready = () if birth_dates.exists() else staged.ready.get(kind, ())  # ages follow from dates told meanwhile
        if kind in kinds and apply(cursor, kind, kinds[kind], ready):
            changed.add(kind)
    if staged.has_birth_dates and _correct_ages(cursor, birth_dates):
        changed.add(Kind.ADMISSIONS)
    found = events.merge(cursor, staged, mode.value)
    changed |= found.changed
    if Kind.ADMISSIONS in kinds and Kind.PATIENTS in kinds and _drop_lone_patients(cursor):
        changed.add(Kind.PATIENTS)
    counts = _counts(cursor, kinds)
    if Kind.ADMISSIONS not in kinds:
        counts = {state: counts.get(state, 0) + found.counts.get(state, 0) for state in {*counts, *found.counts}}
    events.drop(cursor, *(f"{what}_{kind}" for kind in Kind for what in ("old", "marked", "aged")))
    return MergeCounts(
        mode=mode,
        created=counts.get("created", 0),
        updated=counts.get("updated", 0),
        deleted=counts.get("deleted", 0),
        unchanged=counts.get("unchanged", 0),
        changed_tables=tuple(sorted(changed)),
        born_after=births.contradicting(cursor, birth_dates, MINE) if staged.has_birth_dates else 0,
        waiting=found.waiting,
    )


def mark(cursor: duckdb.DuckDBPyConnection, kind: Kind, columns: tuple[str, ...], birth_dates: Path) -> None:
    """``old_<kind>``: what the lake has of the staged keys; ``marked_<kind>(key, state, ...)``."""
    key = KEYS[kind]
    is_known = number_of(cursor, f"SELECT count(*) FROM (SELECT 1 FROM lake.clinical.{kind} WHERE {MINE} LIMIT 1)")
    staged = f"staged_{kind}"
    if kind is Kind.ADMISSIONS:
        staged = births.aged(staged, birth_dates)
        columns = ("patient_key", *columns)
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW aged_{kind} AS FROM {staged}")
    if not is_known:
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE old_{kind} AS FROM lake.clinical.{kind} LIMIT 0")
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE marked_{kind} "
            "(key UUID, state VARCHAR, row_differs BOOLEAN, is_absent BOOLEAN)"
        )
        return
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE old_{kind} AS SELECT * FROM lake.clinical.{kind} "
        f"WHERE {MINE} AND {key} IN (SELECT {key} FROM staged_{kind})"
    )
    differs = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in columns) or "false"
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE marked_{kind} AS SELECT new.{key} AS key, "
        f"CASE WHEN old.{key} IS NULL THEN CASE WHEN new.is_deleted THEN 'nothing' ELSE 'created' END "
        f"WHEN new.is_deleted THEN 'deleted' WHEN {differs} THEN 'updated' ELSE 'unchanged' END AS state, "
        f"state = 'updated' AS row_differs, false AS is_absent "
        f"FROM aged_{kind} AS new LEFT JOIN old_{kind} AS old USING ({key})"
    )


def _mode_of(
    cursor: duckdb.DuckDBPyConnection, kinds: Mapping[Kind, tuple[str, ...]], full_extract_share: float
) -> DeliveryMode:
    """Snapshot, if most of what is known is there: of admissions, else of whatever the delivery is about."""
    asked = [Kind.ADMISSIONS] if Kind.ADMISSIONS in kinds else list(kinds)
    seen, known = 0, 0
    for kind in asked:
        total = number_of(cursor, f"SELECT count(*) FROM lake.clinical.{kind} WHERE {MINE}")
        if not total:
            continue
        known += total
        seen += number_of(cursor, f"SELECT count(*) FROM old_{kind}") if kind in KEYS else events.known(cursor, kind)
    return DeliveryMode.SNAPSHOT if known and seen >= full_extract_share * known else DeliveryMode.UPSERT


def settle(cursor: duckdb.DuckDBPyConnection, kind: Kind, mode: DeliveryMode, staged: Staged) -> None:
    """What the mode makes of the marks: absent rows are deleted, or known ones stay as they are.

    A faulty row says that its admission exists: it stays as it was, and is neither deleted nor unchanged. Where the
    row's admission cannot be told, its patient's absent admissions stay. A malformed line tells neither.
    """
    key = KEYS[kind]
    if mode is DeliveryMode.APPEND:
        cursor.execute(f"UPDATE marked_{kind} SET state = 'unchanged', row_differs = false WHERE state = 'updated'")
        cursor.execute(f"UPDATE marked_{kind} SET state = 'unchanged' WHERE state = 'deleted'")
    if mode is not DeliveryMode.SNAPSHOT:
        return
    if kind is Kind.PATIENTS and Kind.ADMISSIONS in staged.columns:
        return  # such a delivery's patients go with their last admission
    patient = "" if kind is Kind.PATIENTS else "AND patient_key NOT IN (SELECT patient_key FROM spared_patients)"
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE spared_patients AS SELECT DISTINCT patient_key FROM spared "
        "WHERE patient_key IS NOT NULL"
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE absent AS SELECT * FROM lake.clinical.{kind} WHERE {MINE} "
        f"AND {key} NOT IN (SELECT {key} FROM staged_{kind}) "
        f"AND {key} NOT IN (SELECT {key} FROM spared WHERE {key} IS NOT NULL) {patient}"
    )
    cursor.execute(f"INSERT INTO old_{kind} FROM absent")
    cursor.execute(f"INSERT INTO marked_{kind} SELECT {key}, 'deleted', false, true FROM absent")
    events.drop(cursor, "absent", "spared_patients")


def apply(
    cursor: duckdb.DuckDBPyConnection, kind: Kind, columns: tuple[str, ...], ready: tuple[Ready, ...] = ()
) -> int:
    """Write what is marked, or give the lake the files that are ``ready`` where it knows none of the source; the number
    of rows touched."""
    key = KEYS[kind]
    all_columns = ", ".join((*(("patient_key",) if kind is Kind.ADMISSIONS else ()), *LAKE_COLUMNS[kind]))
    insert = f"INSERT INTO lake.clinical.{kind} (source, {key}, {all_columns}, delivery_id) "
    select = f"SELECT getvariable('source'), {key}, {all_columns}, delivery_of({key}) FROM aged_{kind}"
    if not has(cursor, f"marked_{kind}", "true"):
        if ready:
            return sum(adopt(cursor, kind, one) for one in ready)
        return rows_of(cursor.execute(f"{insert} {select} WHERE NOT is_deleted"))
    events.supersede(
        cursor, kind, f"old_{kind}", f"{key} IN (SELECT key FROM marked_{kind} WHERE row_differs OR state = 'deleted')"
    )
    touched = 0
    if has(cursor, f"marked_{kind}", "state = 'deleted'"):
        touched += rows_of(
            cursor.execute(
                f"DELETE FROM lake.clinical.{kind} WHERE {MINE} "
                f"AND {key} IN (SELECT key FROM marked_{kind} WHERE state = 'deleted')"
            )
        )
    if has(cursor, f"marked_{kind}", "row_differs"):
        names = (*(("patient_key",) if kind is Kind.ADMISSIONS else ()), *columns)
        sets = ", ".join(f"{name} = new.{name}" for name in names)
        touched += rows_of(
            cursor.execute(
                f"UPDATE lake.clinical.{kind} AS old SET {sets}, delivery_id = new.told_by "
                f"FROM (SELECT *, delivery_of({key}) AS told_by FROM aged_{kind} "
                f"WHERE {key} IN (SELECT key FROM marked_{kind} WHERE row_differs)) AS new "
                f"WHERE old.{MINE} AND old.{key} = new.{key}"
            )
        )
    if has(cursor, f"marked_{kind}", "state = 'created'"):
        created = f"SELECT key FROM marked_{kind} WHERE state = 'created'"
        touched += rows_of(cursor.execute(f"{insert} {select} WHERE {key} IN ({created})"))
    return touched


def _correct_ages(cursor: duckdb.DuckDBPyConnection, birth_dates: Path) -> int:
    """Ages at known admissions follow from dates of birth that came now; the number of rows changed."""
    mine = f"(FROM lake.clinical.admissions WHERE {MINE} AND patient_key IN (SELECT patient_key FROM staged_patients))"
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE corrected AS SELECT new.admission_key, new.age_years "
        f"FROM {births.aged(mine, birth_dates)} AS new JOIN {mine} AS old USING (admission_key) "
        "WHERE old.age_years IS DISTINCT FROM new.age_years"
    )
    rows = number_of(cursor, "SELECT count(*) FROM corrected")
    if rows:
        old = f"(FROM lake.clinical.admissions WHERE {MINE})"
        events.supersede(cursor, Kind.ADMISSIONS, old, "admission_key IN (SELECT admission_key FROM corrected)")
        cursor.execute(
            "UPDATE lake.clinical.admissions AS old SET age_years = new.age_years, "
            f"delivery_id = new.told_by FROM (SELECT *, delivery_of(admission_key) AS told_by FROM corrected) AS new "
            f"WHERE old.{MINE} AND old.admission_key = new.admission_key"
        )
    events.drop(cursor, "corrected")
    return rows


def _drop_lone_patients(cursor: duckdb.DuckDBPyConnection) -> int:
    """Patients whose last admission this delivery took away or gave to another go; the number of them.

    Whom the delivery itself admits is not looked for in the lake.
    """
    if not has(cursor, "old_admissions", "true"):
        return 0
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE lone AS SELECT DISTINCT patient_key FROM old_admissions "
        "WHERE admission_key IN (SELECT key FROM marked_admissions WHERE row_differs OR state = 'deleted') "
        "AND patient_key NOT IN (SELECT patient_key FROM aged_admissions "
        "WHERE NOT is_deleted AND patient_key IS NOT NULL)"
    )
    rows = 0
    if has(cursor, "lone", "true"):
        cursor.execute(
            "DELETE FROM lone WHERE patient_key IN (SELECT patient_key FROM lake.clinical.admissions "
            f"WHERE {MINE} AND patient_key IN (SELECT patient_key FROM lone))"
        )
        condition = "patient_key IN (SELECT patient_key FROM lone)"
        if has(cursor, "lone", "true"):
            events.supersede(cursor, Kind.PATIENTS, f"(FROM lake.clinical.patients WHERE {MINE})", condition)
            rows = rows_of(cursor.execute(f"DELETE FROM lake.clinical.patients WHERE {MINE} AND {condition}"))
    events.drop(cursor, "lone")
    return rows


def _counts(cursor: duckdb.DuckDBPyConnection, kinds: Mapping[Kind, tuple[str, ...]]) -> dict[str, int]:
    counted = Kind.ADMISSIONS if Kind.ADMISSIONS in kinds else Kind.PATIENTS
    if counted not in kinds:
        return {}
    if not has(cursor, f"marked_{counted}", "true"):
        return {"created": number_of(cursor, f"SELECT count(*) FROM aged_{counted} WHERE NOT is_deleted")}
    return dict(cursor.execute(f"SELECT state, count(*) FROM marked_{counted} GROUP BY state").fetchall())
