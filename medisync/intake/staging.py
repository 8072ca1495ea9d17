"""From text to checked, de-identified rows, still outside the lake.

All of it happens in temporary tables of one DuckDB cursor: each feed's text -> ``typed_<number>`` (values beside the
text they came from) -> ``faults`` (part, row, column, reason) and the four ``staged_*`` tables in the lake's columns.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake import delimited, pseudonyms
from medisync.intake.feeds import Check, Feed, Kind
from medisync.intake.reading import identifier
from medisync.intake.reasons import LONGEST_VALUE, POOLED_AGE_YEARS, RowFault

if TYPE_CHECKING:
    import datetime as dt

    import duckdb

LAKE_COLUMNS: dict[Kind, dict[str, str]] = {
    Kind.PATIENTS: {"gender": "VARCHAR", "birth_year": "SMALLINT", "blood_type": "VARCHAR"},
    Kind.ADMISSIONS: {
        "site": "VARCHAR",
        "admission_type": "VARCHAR",
        "admitted_at": "TIMESTAMP",
        "discharged_at": "TIMESTAMP",
        "age_years": "SMALLINT",
        "insurer": "VARCHAR",
        "billing_amount": "DECIMAL(14, 2)",
        "room": "VARCHAR",
        "test_result": "VARCHAR",
    },
    Kind.CONDITIONS: {
        "condition": "VARCHAR",
        "code": "VARCHAR",
        "code_system": "VARCHAR",
        "recorded_at": "TIMESTAMP",
    },
    Kind.PRESCRIPTIONS: {
        "medication": "VARCHAR",
        "code": "VARCHAR",
        "code_system": "VARCHAR",
        "prescribed_at": "TIMESTAMP",
    },
}
"""What a feed may fill of the lake's tables, and its type; keys, source and delivery come by themselves."""


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


def check(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], received_at: dt.datetime) -> None:
    """Make ``faults(part, row_number, column_name, reason)`` and, for each feed, its table ``typed_<number>``."""
    cursor.execute("SET VARIABLE received_at = ?::TIMESTAMP", [received_at])
    delimited.prepare(cursor)
    cursor.execute("CREATE OR REPLACE TEMP TABLE faults AS SELECT part, row_number, column_name, reason FROM malformed")
    for number, feed in enumerate(feeds):
        expressions = "".join(f", {sql} AS {name}" for name, sql in feed.typed.items())
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE typed_{number} AS SELECT *{expressions} FROM {feed.table}")
        checks = " UNION ALL ".join(
            f"SELECT {text(feed.part)} AS part, row_number, {text(one.column)} AS column_name, "
            f"'{one.fault.value}' AS reason FROM typed_{number} WHERE {one.condition}"
            for one in (*feed.checks, *_text_checks(feed))
        )
        cursor.execute(f"INSERT INTO faults {checks}")


def _text_checks(feed: Feed) -> tuple[Check, ...]:
    """Checks of the text itself, the same for every column of every feed."""
    return tuple(
        check
        for column in feed.columns
        for check in (
            Check(column, RowFault.CONTROL_CHARACTER, f"contains({identifier(column)}, chr(0))"),
            Check(column, RowFault.VALUE_TOO_LONG, f"length({identifier(column)}) > {LONGEST_VALUE}"),
        )
    )


def stage(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], source: str, key: bytes) -> None:
    """Make the ``staged_*`` tables from the rows without a fault; of rows with one key the last wins.

    ``spared(admission_key, patient_key)`` are those of the faulty rows, as far as they can be told: the delivery does
    contain these admissions, so they are not to be deleted as absent. Direct identifiers end here: what is staged
    holds pseudonyms only.
    """
    cursor.execute("SET VARIABLE source = ?", [source])
    pseudonyms.install(cursor, key)
    try:
        for number, feed in enumerate(feeds):
            good = f"WHERE NOT {_is_faulty(feed)}" if _any(cursor, "faults") else ""
            values = "".join(
                f", ({feed.values.get(kind, {}).get(column, 'NULL')})::{type_name} AS {_staged_name(kind, column)}"
                for kind, columns in LAKE_COLUMNS.items()
                for column, type_name in columns.items()
            )
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE keyed_{number} AS SELECT {number} AS feed, row_number, row_hash, "
                f"{_keys(feed)}{values} FROM typed_{number} {good}"
            )
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE spared AS "
            + " UNION ".join(
                "SELECT admission_key, CASE WHEN admission_key IS NULL THEN patient_key END AS patient_key "
                f"FROM (SELECT {_keys(feed)} FROM typed_{number} WHERE {_is_faulty(feed)})"
                for number, feed in enumerate(feeds)
            )
        )
    finally:
        pseudonyms.forget(cursor)
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE last_rows AS "
        f"SELECT * REPLACE (CASE WHEN age_years > {POOLED_AGE_YEARS} THEN {POOLED_AGE_YEARS} ELSE age_years END "
        f"AS age_years) FROM ({_all_keyed(feeds)}) "
        "QUALIFY row_number() OVER (PARTITION BY admission_key ORDER BY feed DESC, row_number DESC) = 1"
    )
    admissions = ", ".join(("admission_key", "patient_key", "practitioner_key", *LAKE_COLUMNS[Kind.ADMISSIONS]))
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE staged_admissions AS SELECT {admissions} FROM last_rows")
    patients = ", ".join(f"any_value({name}) AS {name}" for name in LAKE_COLUMNS[Kind.PATIENTS])
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE staged_patients AS SELECT patient_key, {patients} "
        "FROM last_rows GROUP BY patient_key"
    )
    for kind, what in ((Kind.CONDITIONS, "condition"), (Kind.PRESCRIPTIONS, "medication")):
        columns = ", ".join(f"{kind}_{name} AS {name}" for name in LAKE_COLUMNS[kind])
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE staged_{kind} AS SELECT admission_key, patient_key, {columns} "
            f"FROM last_rows WHERE {kind}_{what} IS NOT NULL"
        )


def _keys(feed: Feed) -> str:
    """A row's pseudonyms. An admission belongs to its source; a patient or practitioner may be known to several."""
    admission = f"pseudonym(concat_ws(chr(31), 'admission', getvariable('source'), {feed.admission}))"
    return (
        f"CASE WHEN ({feed.admission or 'NULL'}) IS NOT NULL THEN {admission} END AS admission_key, "
        f"pseudonym('patient' || chr(31) || ({feed.patient or 'NULL'})) AS patient_key, "
        f"pseudonym('practitioner' || chr(31) || ({feed.practitioner or 'NULL'})) AS practitioner_key"
    )


def _is_faulty(feed: Feed) -> str:
    return f"row_number IN (SELECT row_number FROM faults WHERE part = {text(feed.part)})"


def _staged_name(kind: Kind, column: str) -> str:
    return f"{kind}_{column}" if kind in (Kind.CONDITIONS, Kind.PRESCRIPTIONS) else column


def _all_keyed(feeds: tuple[Feed, ...]) -> str:
    return " UNION ALL ".join(f"FROM keyed_{number}" for number in range(len(feeds)))


def count_checked(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...]) -> StagingCounts:
    """Counts over what was read and checked."""
    read = sum(_number(cursor, f"SELECT count(*) FROM {feed.table}") for feed in feeds)
    malformed = _number(cursor, "SELECT count(*) FROM malformed")
    quarantined = _number(cursor, "SELECT count(DISTINCT (part, row_number)) FROM faults")
    faults = dict(cursor.execute("SELECT reason, count(*) FROM faults GROUP BY reason ORDER BY reason").fetchall())
    return StagingCounts(read + malformed, quarantined, 0, 0, faults)


def count(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...]) -> StagingCounts:
    """Counts over what was read, checked and staged."""
    checked = count_checked(cursor, feeds)
    row = cursor.execute(
        "SELECT count(*), count(DISTINCT (admission_key, row_hash)), count(DISTINCT admission_key), "
        f"min(admitted_at)::DATE, max(admitted_at)::DATE FROM ({_all_keyed(feeds)})"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    notices: dict[str, int] = {}
    for number, feed in enumerate(feeds):
        for name, condition in feed.notices.items():
            noticed = f"SELECT count(*) FROM typed_{number} WHERE ({condition}) AND NOT {_is_faulty(feed)}"
            if rows := _number(cursor, noticed):
                notices[name] = notices.get(name, 0) + rows
    kept, distinct_rows, distinct_keys, first, last = row
    return replace(
        checked,
        duplicates_exact=kept - distinct_rows,
        duplicates_conflicting=distinct_rows - distinct_keys,
        notices=notices,
        admitted_from=first,
        admitted_until=last,
    )


def write_quarantine(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], path: Path) -> None:
    """The raw rejected rows with their reasons, for the owner alone; the only place that keeps them.

    Of several feeds each has a header of its own, and the part's name stands before each row.
    """
    lead = ["part"] if len(feeds) > 1 else []
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", newline="") as file:
        writer = csv.writer(file)
        for number, feed in enumerate(feeds):
            columns = ", ".join(f"typed.{identifier(name)}" for name in feed.columns)
            rows = cursor.execute(
                f"SELECT {'faults.part, ' if lead else ''}faults.row_number, faults.column_name, faults.reason, "
                f"malformed.line, {columns} FROM faults LEFT JOIN typed_{number} AS typed USING (row_number) "
                f"LEFT JOIN malformed USING (part, row_number) WHERE faults.part = {text(feed.part)} "
                "ORDER BY faults.row_number, faults.column_name, faults.reason"
            )
            writer.writerow([*lead, "row", "column", "reason", "malformed line", *feed.columns])
            while chunk := rows.fetchmany(1000):
                writer.writerows(chunk)
    draft.replace(path)


def name_words(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], words: list[str]) -> set[str]:
    """Those of ``words`` (lower case) that are a part of a person's name in the feeds, or first and last name."""
    columns = [f"SELECT DISTINCT {identifier(name)} AS name FROM {feed.table}" for feed in feeds for name in feed.names]
    if not words or not columns:
        return set()
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
    tables = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    drops = "; ".join(f"DROP TABLE IF EXISTS temp.{identifier(table)}" for (table,) in tables)
    cursor.execute(f"BEGIN; {drops}; COMMIT")  # one transaction, since each attaches to the lake, too


def text(value: str) -> str:
    """``value`` as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def _any(cursor: duckdb.DuckDBPyConnection, table: str) -> bool:
    return bool(_number(cursor, f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1)"))


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = cursor.execute(sql).fetchone()
    return int(row[0]) if row else 0
