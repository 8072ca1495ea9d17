"""From text to checked, de-identified rows, still outside the lake.

All of it happens in temporary tables of one DuckDB cursor: ``raw`` (text) -> ``typed`` (values beside the text they
came from) -> ``faults`` (row, column, reason) and the four ``staged_*`` tables in the lake's own columns.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake import pseudonyms
from medisync.intake.layouts import Layout, text_checks
from medisync.intake.reading import identifier
from medisync.intake.reasons import POOLED_AGE_YEARS

if TYPE_CHECKING:
    import datetime as dt

    import duckdb

WORKING_TABLES = (
    "raw",
    "typed",
    "malformed",
    "malformed_lines",
    "malformed_scan",
    "blank",
    "faults",
    "keyed",
    "spared",
    "staged_admissions",
    "staged_patients",
    "staged_conditions",
    "staged_prescriptions",
)


@dataclass(frozen=True)
class StagingCounts:
    """``rows_read`` = loaded + duplicates + quarantined rows of the file."""

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


def check(cursor: duckdb.DuckDBPyConnection, layout: Layout, received_at: dt.datetime) -> None:
    """Make ``typed`` and ``faults`` from ``raw``."""
    cursor.execute("SET VARIABLE received_at = ?::TIMESTAMP", [received_at])
    expressions = ", ".join(f"{sql} AS {name}" for name, sql in layout.typed.items())
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE typed AS SELECT *, {expressions} FROM raw")
    checks = " UNION ALL ".join(
        f"SELECT row_number, '{one.column}' AS column_name, '{one.fault.value}' AS reason FROM typed "
        f"WHERE {one.condition}"
        for one in (*layout.checks, *text_checks(layout))
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE faults AS {checks} "
        "UNION ALL SELECT row_number, column_name, reason FROM malformed"
    )


def stage(cursor: duckdb.DuckDBPyConnection, layout: Layout, source: str, key: bytes) -> None:
    """Make the ``staged_*`` tables from the rows of ``typed`` without a fault; of rows with one key the last wins.

    ``spared(admission_key, patient_key)`` are those of the faulty rows, as far as they can be told: the delivery does
    contain these admissions, so they are not to be deleted as absent. Direct identifiers end here: what is staged
    holds pseudonyms only.
    """
    pseudonyms.install(cursor, key)
    good = "WHERE row_number NOT IN (SELECT row_number FROM faults)" if _any(cursor, "faults") else ""
    try:
        # An admission belongs to its source; a patient and a practitioner may be known to several.
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE keyed AS SELECT *, "
            f"pseudonym(concat_ws(chr(31), 'admission', ?, {layout.identity})) AS admission_key FROM typed {good}",
            [source],
        )
        cursor.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE staged_admissions AS
            SELECT admission_key, pseudonym('patient' || chr(31) || {layout.patient}) AS patient_key, v_site AS site,
                   v_admission_type AS admission_type, v_admitted_at AS admitted_at,
                   v_discharged_at AS discharged_at,
                   CASE WHEN v_age > {POOLED_AGE_YEARS} THEN {POOLED_AGE_YEARS} ELSE v_age END::SMALLINT AS age_years,
                   v_insurer AS insurer, v_billing::DECIMAL(14, 2) AS billing_amount,
                   pseudonym('practitioner' || chr(31) || {layout.practitioner}) AS practitioner_key,
                   v_room AS room, v_test_result AS test_result, v_gender AS gender, v_blood_type AS blood_type,
                   v_condition AS condition, v_medication AS medication
            FROM keyed QUALIFY row_number = max(row_number) OVER (PARTITION BY admission_key)
            """
        )
        cursor.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE spared AS
            SELECT DISTINCT
                   CASE WHEN {layout.has_identity} THEN pseudonym(concat_ws(chr(31), 'admission', ?, {layout.identity}))
                   END AS admission_key,
                   CASE WHEN {layout.has_patient} AND NOT coalesce({layout.has_identity}, false)
                        THEN pseudonym('patient' || chr(31) || {layout.patient}) END AS patient_key
            FROM typed WHERE row_number IN (SELECT row_number FROM faults)
            """,
            [source],
        )
    finally:
        pseudonyms.forget(cursor)
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE staged_patients AS SELECT patient_key, any_value(gender) AS gender, "
        "NULL::SMALLINT AS birth_year, any_value(blood_type) AS blood_type FROM staged_admissions GROUP BY patient_key"
    )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE staged_conditions AS SELECT admission_key, patient_key, condition, "
        "NULL::VARCHAR AS code, NULL::VARCHAR AS code_system, admitted_at AS recorded_at "
        "FROM staged_admissions WHERE condition IS NOT NULL"
    )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE staged_prescriptions AS SELECT admission_key, patient_key, medication, "
        "NULL::VARCHAR AS code, NULL::VARCHAR AS code_system, admitted_at AS prescribed_at "
        "FROM staged_admissions WHERE medication IS NOT NULL"
    )
    for column in ("gender", "blood_type", "condition", "medication"):
        cursor.execute(f"ALTER TABLE temp.staged_admissions DROP COLUMN {column}")


def count_checked(cursor: duckdb.DuckDBPyConnection) -> StagingCounts:
    """Counts over what was read and checked."""
    read = _number(cursor, "SELECT (SELECT count(*) FROM raw) + (SELECT count(*) FROM malformed)")
    quarantined = _number(cursor, "SELECT count(DISTINCT row_number) FROM faults")
    faults = dict(cursor.execute("SELECT reason, count(*) FROM faults GROUP BY reason ORDER BY reason").fetchall())
    return StagingCounts(read, quarantined, 0, 0, faults)


def count(cursor: duckdb.DuckDBPyConnection, layout: Layout) -> StagingCounts:
    """Counts over what was read, checked and staged."""
    checked = count_checked(cursor)
    row = cursor.execute(
        "SELECT count(*), count(DISTINCT (admission_key, row_hash)), count(DISTINCT admission_key), "
        "min(v_admitted_at)::DATE, max(v_admitted_at)::DATE FROM keyed"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    notices = {
        name: number
        for name, condition in layout.notices.items()
        if (number := _number(cursor, f"SELECT count(*) FROM keyed WHERE {condition}"))
    }
    kept, distinct_rows, distinct_keys, first, last = row
    return replace(
        checked,
        duplicates_exact=kept - distinct_rows,
        duplicates_conflicting=distinct_rows - distinct_keys,
        notices=notices,
        admitted_from=first,
        admitted_until=last,
    )


def write_quarantine(cursor: duckdb.DuckDBPyConnection, layout: Layout, path: Path) -> None:
    """The raw rejected rows with their reasons, for the owner alone; the only place that keeps them."""
    columns = ", ".join(f"typed.{identifier(name)}" for name in layout.columns)
    rows = cursor.execute(
        f"SELECT faults.row_number, faults.column_name, faults.reason, malformed.line, {columns} FROM faults "
        "LEFT JOIN typed USING (row_number) LEFT JOIN malformed USING (row_number) ORDER BY 1, 2, 3"
    )
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "column", "reason", "malformed line", *layout.columns])
        while chunk := rows.fetchmany(1000):
            writer.writerows(chunk)
    draft.replace(path)


def name_words(cursor: duckdb.DuckDBPyConnection, layout: Layout, words: list[str]) -> set[str]:
    """Those of ``words`` (lower case) that are a part of a person's name in ``raw``, or first and last name in one."""
    if not words:
        return set()
    columns = [f"SELECT DISTINCT {identifier(name)} AS name FROM raw" for name in layout.names]
    found = cursor.execute(
        "WITH names AS (" + " UNION ".join(columns) + "), "
        "split AS (SELECT DISTINCT regexp_extract_all(lower(nfc_normalize(name)), '\\pL+') AS parts FROM names), "
        "together AS (SELECT parts[-1] AS last, array_to_string(parts[:-2], '') AS others FROM split "
        "             WHERE len(parts) > 1), "
        "words AS (SELECT unnest(?::VARCHAR[]) AS word) "
        "SELECT word FROM words WHERE length(word) > 1 AND (word IN (SELECT unnest(parts) FROM split) "
        "OR EXISTS (FROM together WHERE contains(word, others || last) OR contains(word, last || others)))",
        [words],
    ).fetchall()
    return {word for (word,) in found}


def clear(cursor: duckdb.DuckDBPyConnection) -> None:
    """Drop every working table, and with them the names."""
    drops = "; ".join(f"DROP TABLE IF EXISTS temp.{table}" for table in WORKING_TABLES)
    cursor.execute(f"BEGIN; {drops}; COMMIT")  # one transaction, since each attaches to the lake, too


def _any(cursor: duckdb.DuckDBPyConnection, table: str) -> bool:
    return bool(_number(cursor, f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1)"))


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = cursor.execute(sql).fetchone()
    return int(row[0]) if row else 0
