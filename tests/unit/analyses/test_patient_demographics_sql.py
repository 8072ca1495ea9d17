"""Each patient once a period, as at the latest admission: the packed question against one in plain words."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from medisync.analyses.patient_demographics_sql import counts_sql
from tests.support.memory_lake import SCHEMA, MemoryLake, lake_of

NOW_FROM, BEFORE_FROM = dt.date(2024, 1, 1), dt.date(2023, 1, 1)
WORDS = ["female", "MALE", "", " unknown", None, " Männlich ", "zz'z"]
AGES = [None, -32768, -1, 0, 39, 40, 32767]
PLAIN = f"""
CREATE TEMP TABLE latest AS
WITH facts AS (
    SELECT a.patient_key AS patient, admitted_at, age_years,
           if(admitted_at >= DATE '{NOW_FROM}', 'now', 'before') AS period, lower(known(p.gender)) AS gender,
           known(p.blood_type) AS blood_type, known(admission_type) AS admission_type, known(insurer) AS insurer
    FROM clinical.admissions a LEFT JOIN clinical.patients p USING (source, patient_key)
    WHERE admitted_at >= DATE '{BEFORE_FROM}'
)
SELECT *, count(*) OVER (PARTITION BY period, patient) AS admissions FROM facts
QUALIFY row_number() OVER (
    PARTITION BY period, patient
    ORDER BY admitted_at DESC, gender DESC, blood_type DESC, admission_type DESC, insurer DESC,
             age_years DESC NULLS FIRST) = 1
"""
KNOWN = """CREATE MACRO known(word) AS
    if(word IS NULL OR lower(trim(word)) IN ('', 'unknown'), 'Unknown', trim(word))"""


def _lake(seed: int) -> MemoryLake:
    """Few patients, moments and words, so that many admissions are at the same moment; a tenth of patients unknown."""
    rng = np.random.default_rng(seed)
    rows = 400

    def drawn(values: list[object]) -> list[object]:
        return [values[place] for place in rng.integers(0, len(values), rows)]

    lake = lake_of(
        pd.DataFrame(
            {
                "patient": [f"p{place}" for place in rng.integers(0, 120, rows)],
                "gender": drawn([*WORDS]),
                "blood_type": drawn([*WORDS]),
                "admission_type": drawn([*WORDS]),
                "insurer": drawn([*WORDS]),
                "age_years": pd.array(drawn([*AGES]), dtype="Int32"),
                "admitted_at": pd.Timestamp("2022-12-01") + pd.to_timedelta(rng.integers(0, 40, rows) * 20, unit="D"),
            }
        )
    )
    lake.connection.execute("DELETE FROM clinical.patients WHERE hash(patient_key) % 10 = 0")
    return lake


@pytest.mark.parametrize("seed", range(4))
def test_the_latest_admission_is_taken_also_of_several_at_one_moment(seed: int) -> None:
    lake = _lake(seed)
    found = lake.query(counts_sql(NOW_FROM, BEFORE_FROM))
    lake.connection.execute(KNOWN)
    lake.connection.execute(PLAIN)
    ages = lake.query(
        "SELECT period, gender, age_years::DOUBLE AS age_years, count(*) AS patients, sum(admissions)::BIGINT AS "
        "admissions FROM latest GROUP BY ALL ORDER BY ALL"
    )
    of_ages = found["characteristic"].isna()
    mine = found[of_ages].rename(columns={"level": "gender"})[list(ages.columns)].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, ages)
    for characteristic, levels in found[~of_ages].groupby("characteristic"):
        plain = lake.query(
            f"SELECT period, {characteristic} AS level, count(*) AS patients FROM latest GROUP BY ALL ORDER BY ALL"
        )
        pd.testing.assert_frame_equal(levels[list(plain.columns)].reset_index(drop=True), plain)
    assert set(found[~of_ages]["characteristic"]) == {"gender", "blood_type", "admission_type", "insurer"}
    assert found[of_ages]["admissions"].sum() > found[of_ages]["patients"].sum()


MANY = 300_000
FILL = f"""
INSERT INTO clinical.patients
SELECT 'test', md5('p' || i)::UUID, ['female', 'male'][1 + i % 2], 1950, ['A+', 'B-'][1 + i // 2 % 2]
FROM range({MANY}) AS rows(i);
INSERT INTO clinical.admissions (source, admission_key, patient_key, admission_type, admitted_at, age_years, insurer)
SELECT 'test', md5('a' || i)::UUID, md5('p' || i)::UUID, 'an admission of some kind or other ' || i % 3,
       TIMESTAMP '2023-06-01' + to_minutes(i), i % 90, 'an insurer with rather a long name'
FROM range({MANY}) AS rows(i);
CHECKPOINT;
SET memory_limit = '100MB';
"""


def test_more_patients_than_fit_into_memory_go_to_the_disk(tmp_path: Path) -> None:
    """300,000 in 100 MB; kept as texts they run out of it even in 150."""
    with duckdb.connect(tmp_path / "many.duckdb", config={"threads": 1, "temp_directory": str(tmp_path)}) as connection:
        connection.execute(SCHEMA)
        connection.execute(FILL)
        found = MemoryLake(connection).query(counts_sql(NOW_FROM, BEFORE_FROM))
    assert found[found["characteristic"].isna()]["patients"].sum() == MANY
