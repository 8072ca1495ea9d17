"""The lake's ``clinical`` tables in memory, for trying an analysis without a lake.

``sample_lake()`` holds the shipped sample (50,000 admissions: duplicates dropped as intake drops them);
``empty_lake()`` holds the same tables without a row; ``lake_of(frame)`` is for data a test makes up itself.
"""

from __future__ import annotations

import functools
import gzip
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from medisync.lake import schema

SAMPLE_CSV = Path(__file__).parents[2] / "data" / "sample" / "healthcare_dataset.csv.gz"

SCHEMA = """
CREATE SCHEMA clinical;
CREATE TABLE clinical.patients (
    source VARCHAR, patient_key UUID, gender VARCHAR, birth_year SMALLINT, blood_type VARCHAR);
CREATE TABLE clinical.admissions (
    source VARCHAR, admission_key UUID, patient_key UUID, site VARCHAR, admission_type VARCHAR, admitted_at TIMESTAMP,
    discharged_at TIMESTAMP, age_years SMALLINT, insurer VARCHAR, billing_amount DECIMAL(14, 2), practitioner_key UUID,
    room VARCHAR, test_result VARCHAR, delivery_id VARCHAR);
CREATE TABLE clinical.conditions (
    source VARCHAR, admission_key UUID, patient_key UUID, condition VARCHAR, code VARCHAR, code_system VARCHAR,
    recorded_at TIMESTAMP);
CREATE TABLE clinical.prescriptions (
    source VARCHAR, admission_key UUID, patient_key UUID, medication VARCHAR, code VARCHAR, code_system VARCHAR,
    prescribed_at TIMESTAMP);
"""

STAGED_COLUMNS = {
    "patient": "VARCHAR",
    "gender": "VARCHAR",
    "birth_year": "SMALLINT",
    "blood_type": "VARCHAR",
    "site": "VARCHAR",
    "admission_type": "VARCHAR",
    "admitted_at": "TIMESTAMP",
    "discharged_at": "TIMESTAMP",
    "age_years": "SMALLINT",
    "insurer": "VARCHAR",
    "billing_amount": "DECIMAL(14, 2)",
    "practitioner": "VARCHAR",
    "room": "VARCHAR",
    "test_result": "VARCHAR",
    "condition": "VARCHAR",
    "medication": "VARCHAR",
}
"""One row per admission; what :func:`lake_of` accepts (all but ``patient`` and ``admitted_at`` may be left out)."""

FILL = """
INSERT INTO clinical.patients
SELECT DISTINCT ON (patient) 'test', md5(patient)::UUID, coalesce(gender, 'unknown'), birth_year, blood_type
FROM staged ORDER BY patient, row_id DESC;
INSERT INTO clinical.admissions
SELECT 'test', md5('admission' || row_id)::UUID, md5(patient)::UUID, site, admission_type, admitted_at, discharged_at,
       age_years, insurer, billing_amount, md5(practitioner)::UUID, room, test_result, 'delivery-1'
FROM staged ORDER BY row_id;
INSERT INTO clinical.conditions
SELECT 'test', md5('admission' || row_id)::UUID, md5(patient)::UUID, condition, NULL, NULL, admitted_at
FROM staged WHERE condition IS NOT NULL ORDER BY row_id;
INSERT INTO clinical.prescriptions
SELECT 'test', md5('admission' || row_id)::UUID, md5(patient)::UUID, medication, NULL, NULL, admitted_at
FROM staged WHERE medication IS NOT NULL ORDER BY row_id;
"""

STAGE_SAMPLE = """
CREATE TEMP TABLE staged AS
SELECT row_number() OVER (ORDER BY row_id) AS row_id, * EXCLUDE (row_id) FROM (
    SELECT row_id,
           lower("Name") || '|' || "Gender" || '|' || "Blood Type" AS patient,
           lower("Gender") AS gender, year("Date of Admission") - "Age" AS birth_year, "Blood Type" AS blood_type,
           "Hospital" AS site, "Admission Type" AS admission_type,
           "Date of Admission"::TIMESTAMP AS admitted_at, "Discharge Date"::TIMESTAMP AS discharged_at,
           "Age" AS age_years, "Insurance Provider" AS insurer, "Billing Amount" AS billing_amount,
           lower("Doctor") AS practitioner, "Room Number" AS room, "Test Results" AS test_result,
           "Medical Condition" AS condition, "Medication" AS medication
    FROM (SELECT row_number() OVER () AS row_id, * FROM read_csv('{path}', header = true))
    QUALIFY row_number() OVER (PARTITION BY lower("Name"), "Date of Admission", "Hospital" ORDER BY row_id DESC) = 1
)
"""


class MemoryLake:
    """A :class:`~medisync.analyses.contract.SnapshotReader` over an in-memory DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, snapshot_id: int = 1) -> None:
        self.connection = connection
        self._snapshot_id = snapshot_id

    @property
    def snapshot_id(self) -> int:
        return self._snapshot_id

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
        return self.connection.execute(sql, parameters).df()


def empty_lake() -> MemoryLake:
    """All tables, no row."""
    connection = duckdb.connect(":memory:", config={"threads": 2})
    connection.execute(SCHEMA)
    for _, sql in schema.steps():
        if "TABLE analytics." in sql:
            connection.execute(sql)
    return MemoryLake(connection)


@functools.cache
def sample_lake() -> MemoryLake:
    """The shipped sample; read once per process, so tests must not write to it."""
    lake = empty_lake()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.csv"
        with gzip.open(SAMPLE_CSV) as packed, path.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        lake.connection.execute(STAGE_SAMPLE.format(path=path))
    lake.connection.execute(FILL)
    return lake


def lake_of(admissions: pd.DataFrame) -> MemoryLake:
    """A lake of made-up admissions, one row each with columns of ``STAGED_COLUMNS``."""
    unknown = set(admissions.columns) - set(STAGED_COLUMNS)
    if unknown:
        raise ValueError(f"no such column: {sorted(unknown)}")
    lake = empty_lake()
    lake.connection.register("given", admissions)
    columns = ", ".join(
        f"{name}::{kind} AS {name}" if name in admissions.columns else f"NULL::{kind} AS {name}"
        for name, kind in STAGED_COLUMNS.items()
    )
    lake.connection.execute(f"CREATE TEMP TABLE staged AS SELECT row_number() OVER () AS row_id, {columns} FROM given")
    lake.connection.execute(FILL)
    lake.connection.unregister("given")
    return lake
