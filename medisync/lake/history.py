"""What was known when: the lake's clinical rows with the time each version became known, and ceased to be.

A row's version became known when the delivery that wrote it was committed, and ceased to be with the delivery that
changed or deleted it. Versions stay when the snapshots of their time have expired.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

import duckdb

ClinicalTable = Literal["patients", "admissions", "conditions", "prescriptions"]
CLINICAL_TABLES: tuple[ClinicalTable, ...] = ("patients", "admissions", "conditions", "prescriptions")

Period = Literal["day", "week", "month", "quarter", "year"]


def versions(table: ClinicalTable, schema: str = "clinical") -> str:
    """SQL: all versions of the rows of ``table``: its columns, ``known_from`` and ``known_until`` (TIMESTAMP, UTC).

    ``known_until`` is NULL for what is known now. A row whose delivery is not on record has no ``known_from``.
    """
    when = f"SELECT delivery_id, max(finished_at) AS at FROM {schema}.deliveries GROUP BY delivery_id"
    return (
        f"(SELECT known.*, began.at AS known_from, NULL::TIMESTAMP AS known_until FROM {schema}.{table} AS known "
        f"LEFT JOIN ({when}) AS began USING (delivery_id) "
        "UNION ALL BY NAME SELECT known.* EXCLUDE (superseded_by), began.at AS known_from, ended.at AS known_until "
        f"FROM {schema}.superseded_{table} AS known LEFT JOIN ({when}) AS began USING (delivery_id) "
        f"LEFT JOIN ({when}) AS ended ON known.superseded_by = ended.delivery_id)"
    )


def as_known_on(table: ClinicalTable, moment: dt.datetime, schema: str = "clinical") -> str:
    """SQL: the rows of ``table`` as they were known at ``moment`` (UTC where it has no zone), in its own columns."""
    at = f"TIMESTAMP '{_utc(moment):%Y-%m-%d %H:%M:%S.%f}'"
    return (
        f"(SELECT * EXCLUDE (known_from, known_until) FROM {versions(table, schema)} "
        f"WHERE known_from <= {at} AND (known_until IS NULL OR known_until > {at}))"
    )


def reporting_delay(period: Period = "month", schema: str = "clinical") -> str:
    """SQL: ``period`` (DATE, its first day), ``delay_days`` (BIGINT) and ``admissions`` (BIGINT).

    How many of the admissions of a period became known so many days after admission; of each the first version counts.
    """
    return (
        f"(SELECT date_trunc('{period}', admitted_at)::DATE AS period, "
        "date_diff('day', admitted_at, known_from) AS delay_days, count(*) AS admissions "
        "FROM (SELECT arg_min(admitted_at, known_from) AS admitted_at, min(known_from) AS known_from "
        f"FROM {versions('admissions', schema)} GROUP BY source, admission_key) "
        "WHERE known_from IS NOT NULL GROUP BY ALL ORDER BY ALL)"
    )


MADE_THEN = {
    "clinical.deliveries": "finished_at <= {at}",
    "analytics.runs": "finished_at <= {at}",
    "analytics.sarima_orders": "calibrated_at <= {at}",
    "analytics.backtests": "calibrated_at <= {at}",
    **{
        f"analytics.{name}": "run_id IN (SELECT run_id FROM lake.analytics.runs WHERE finished_at <= {at})"
        for name in ("results", "forecasts", "surges")
    },
}
"""Tables that only grow: the rows that were there at a moment."""


def look_back(connection: duckdb.DuckDBPyConnection, moment: dt.datetime) -> None:
    """Let the tables of a connection whose catalog is ``lake`` mean what was known at ``moment``: the clinical ones by
    their versions, those of deliveries and of what was found by when their rows were made; others stay as they are.
    """
    others = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'lake' "
        "AND schema_name IN ('clinical', 'analytics')"
    ).fetchall()
    connection.execute("CREATE SCHEMA memory.clinical")
    connection.execute("CREATE SCHEMA memory.analytics")
    for schema, table in others:
        rows = f"FROM lake.{schema}.{table}"
        if f"{schema}.{table}" in MADE_THEN:
            at = f"TIMESTAMP '{_utc(moment):%Y-%m-%d %H:%M:%S.%f}'"
            rows += f" WHERE {MADE_THEN[f'{schema}.{table}'].format(at=at)}"
        elif schema == "clinical" and table in CLINICAL_TABLES:
            rows = f"FROM {as_known_on(table, moment, 'lake.clinical')}"
        connection.execute(f"CREATE VIEW memory.{schema}.{table} AS {rows}")
    connection.execute("USE memory")


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
