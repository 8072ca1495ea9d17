"""Staged rows into the lake: what is new, changed, gone or as it was. The caller holds the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

ADMISSION_VALUES = (
    "patient_key",
    "site",
    "admission_type",
    "admitted_at",
    "discharged_at",
    "age_years",
    "insurer",
    "billing_amount",
    "practitioner_key",
    "room",
    "test_result",
)
PATIENT_VALUES = ("gender", "birth_year", "blood_type")
EVENT_COLUMNS = {
    "conditions": ("admission_key", "patient_key", "condition", "code", "code_system", "recorded_at"),
    "prescriptions": ("admission_key", "patient_key", "medication", "code", "code_system", "prescribed_at"),
}


class DeliveryMode(StrEnum):
    """How a delivery speaks of admissions it does not contain."""

    UPSERT = "upsert"  # it says nothing about them
    SNAPSHOT = "snapshot"  # they no longer exist
    AUTO = "auto"  # snapshot when it holds nearly all known admissions of its source, else upsert


@dataclass(frozen=True)
class MergeCounts:
    """Admissions; one with a changed condition or prescription counts as updated."""

    mode: DeliveryMode
    created: int
    updated: int
    deleted: int
    unchanged: int
    changed_tables: tuple[str, ...]


def merge(
    cursor: duckdb.DuckDBPyConnection, *, source: str, delivery_id: str, mode: DeliveryMode, full_extract_share: float
) -> MergeCounts:
    """Bring the lake's rows of ``source`` in line with the ``staged_*`` tables of ``cursor``."""
    cursor.execute("SET VARIABLE source = ?", [source])
    cursor.execute("SET VARIABLE delivery_id = ?", [delivery_id])
    _mark_admissions(cursor)
    if mode is DeliveryMode.AUTO:
        mode = _mode_of(cursor, full_extract_share)
    if mode is DeliveryMode.UPSERT:
        cursor.execute("DELETE FROM marked WHERE state = 'absent'")
    else:
        _spare(cursor)
    for table in EVENT_COLUMNS:
        _mark_events(cursor, table)
    counts = dict(cursor.execute("SELECT state, count(*) FROM marked GROUP BY state").fetchall())
    changed = {
        "admissions": _merge_admissions(cursor),
        "patients": _merge_patients(cursor),
        **{table: _merge_events(cursor, table) for table in EVENT_COLUMNS},
    }
    for table in ("marked", *(f"{table}_{what}" for table in EVENT_COLUMNS for what in ("gone", "come"))):
        cursor.execute(f"DROP TABLE IF EXISTS temp.{table}")
    return MergeCounts(
        mode=mode,
        created=counts.get("created", 0),
        updated=counts.get("updated", 0),
        deleted=counts.get("absent", 0),
        unchanged=counts.get("unchanged", 0),
        changed_tables=tuple(sorted(table for table, is_changed in changed.items() if is_changed)),
    )


def _mark_admissions(cursor: duckdb.DuckDBPyConnection) -> None:
    differs = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in ADMISSION_VALUES)
    cursor.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE marked AS
        SELECT coalesce(new.admission_key, old.admission_key) AS admission_key,
               CASE WHEN old.admission_key IS NULL THEN 'created' WHEN new.admission_key IS NULL THEN 'absent'
                    WHEN {differs} THEN 'updated' ELSE 'unchanged' END AS state,
               state = 'updated' AS row_differs
        FROM staged_admissions AS new
        FULL JOIN (FROM lake.clinical.admissions WHERE source = getvariable('source')) AS old USING (admission_key)
        """
    )


def _mode_of(cursor: duckdb.DuckDBPyConnection, full_extract_share: float) -> DeliveryMode:
    row = cursor.execute(
        "SELECT count(*) FILTER (state IN ('updated', 'unchanged')), count(*) FILTER (state <> 'created') FROM marked"
    ).fetchone()
    seen, known = row if row else (0, 0)
    return DeliveryMode.SNAPSHOT if known and seen >= full_extract_share * known else DeliveryMode.UPSERT


def _spare(cursor: duckdb.DuckDBPyConnection) -> None:
    """A faulty row says that its admission exists: it stays as it was, and is neither deleted nor unchanged.

    Where the row's admission cannot be told, its patient's absent admissions stay. A malformed line tells neither.
    """
    cursor.execute(
        "DELETE FROM marked WHERE state = 'absent' AND admission_key IN (SELECT admission_key FROM spared "
        "UNION SELECT admission_key FROM lake.clinical.admissions WHERE source = getvariable('source') "
        "AND patient_key IN (SELECT patient_key FROM spared))"
    )


def _mark_events(cursor: duckdb.DuckDBPyConnection, table: str) -> None:
    """Rows of ``table`` that go and come for the marked admissions; a difference makes the admission updated."""
    columns = ", ".join(EVENT_COLUMNS[table])
    known = (
        f"SELECT {columns} FROM lake.clinical.{table} WHERE source = getvariable('source') "
        "AND admission_key IN (SELECT admission_key FROM marked WHERE state <> 'created')"
    )
    staged = f"SELECT {columns} FROM staged_{table}"
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table}_gone AS {known} EXCEPT ALL {staged}")
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table}_come AS {staged} EXCEPT ALL {known}")
    cursor.execute(
        f"UPDATE marked SET state = 'updated' WHERE state = 'unchanged' AND admission_key IN "
        f"(SELECT admission_key FROM {table}_gone UNION SELECT admission_key FROM {table}_come)"
    )


def _merge_admissions(cursor: duckdb.DuckDBPyConnection) -> bool:
    values = ", ".join(ADMISSION_VALUES)
    changed = (
        _rows(
            cursor.execute(
                "DELETE FROM lake.clinical.admissions WHERE source = getvariable('source') AND admission_key IN "
                "(SELECT admission_key FROM marked WHERE state = 'absent')"
            )
        )
        if _has(cursor, "state = 'absent'")
        else 0
    )
    if _has(cursor, "row_differs"):
        sets = ", ".join(f"{name} = new.{name}" for name in ADMISSION_VALUES)
        changed += _rows(
            cursor.execute(
                f"UPDATE lake.clinical.admissions AS old SET {sets}, delivery_id = getvariable('delivery_id') "
                "FROM (SELECT staged_admissions.* FROM staged_admissions JOIN marked USING (admission_key) "
                "WHERE row_differs) AS new "
                "WHERE old.source = getvariable('source') AND old.admission_key = new.admission_key"
            )
        )
    if _has(cursor, "state = 'created'"):
        changed += _rows(
            cursor.execute(
                f"INSERT INTO lake.clinical.admissions (source, admission_key, {values}, delivery_id) "
                f"SELECT getvariable('source'), admission_key, {values}, getvariable('delivery_id') "
                "FROM staged_admissions JOIN marked USING (admission_key) WHERE state = 'created'"
            )
        )
    return changed > 0


def _merge_patients(cursor: duckdb.DuckDBPyConnection) -> bool:
    """Patients of ``source``: new ones come, changed ones change, those without an admission left go."""
    values = ", ".join(PATIENT_VALUES)
    differs = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in PATIENT_VALUES)
    mine = "(FROM lake.clinical.patients WHERE source = getvariable('source'))"
    changed = 0
    if _number(
        cursor, f"SELECT count(*) FROM staged_patients AS new JOIN {mine} AS old USING (patient_key) WHERE {differs}"
    ):
        sets = ", ".join(f"{name} = new.{name}" for name in PATIENT_VALUES)
        changed += _rows(
            cursor.execute(
                f"UPDATE lake.clinical.patients AS old SET {sets}, delivery_id = getvariable('delivery_id') "
                f"FROM staged_patients AS new WHERE old.source = getvariable('source') "
                f"AND old.patient_key = new.patient_key AND ({differs})"
            )
        )
    changed += _rows(
        cursor.execute(
            f"INSERT INTO lake.clinical.patients (source, patient_key, {values}, delivery_id) "
            f"SELECT getvariable('source'), patient_key, {values}, getvariable('delivery_id') FROM staged_patients "
            f"WHERE patient_key NOT IN (SELECT patient_key FROM {mine})"
        )
    )
    if _has(cursor, "state IN ('absent', 'updated')"):
        changed += _rows(
            cursor.execute(
                "DELETE FROM lake.clinical.patients WHERE source = getvariable('source') AND patient_key NOT IN "
                "(SELECT patient_key FROM lake.clinical.admissions WHERE source = getvariable('source'))"
            )
        )
    return changed > 0


def _merge_events(cursor: duckdb.DuckDBPyConnection, table: str) -> bool:
    columns = EVENT_COLUMNS[table]
    gone = _number(cursor, f"SELECT count(*) FROM {table}_gone")
    if gone:
        same = " AND ".join(f"old.{name} IS NOT DISTINCT FROM gone.{name}" for name in columns)
        cursor.execute(
            f"DELETE FROM lake.clinical.{table} AS old USING {table}_gone AS gone "
            f"WHERE old.source = getvariable('source') AND {same}"
        )
    names = ", ".join(columns)
    come = _rows(
        cursor.execute(
            f"INSERT INTO lake.clinical.{table} (source, {names}, delivery_id) "
            f"SELECT getvariable('source'), {names}, getvariable('delivery_id') FROM {table}_come"
        )
    )
    return bool(gone or come)


def _has(cursor: duckdb.DuckDBPyConnection, condition: str) -> bool:
    return bool(_number(cursor, f"SELECT count(*) FROM (SELECT 1 FROM marked WHERE {condition} LIMIT 1)"))


def _rows(result: duckdb.DuckDBPyConnection) -> int:
    """Rows that an INSERT, UPDATE or DELETE touched."""
    row = result.fetchone()
    return int(row[0]) if row else 0


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    return _rows(cursor.execute(sql))
