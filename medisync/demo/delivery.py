"""Writing demo data as deliveries in the layout of the sample CSV, with the planted truth beside them.

Rows are made in numpy a few weeks at a time and turned into text by DuckDB, so that ten million of them need little
memory. Everything follows from the seed: the same options give the same bytes.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
import pandas as pd

from medisync.demo.people import IntArray, Patients, coded
from medisync.demo.plan import LAST_DAY, Plan, make_plan
from medisync.demo.truth import DemoTruth
from medisync.errors import ParameterError

MOST_CHUNK_ROWS, CHUNKS = 250_000, 24
"""Rows made at once; at least this many chunks, since nobody comes back within one."""

BLOOD_TYPES = (
    ("O+", 0.37),
    ("A+", 0.31),
    ("B+", 0.16),
    ("AB+", 0.05),
    ("O-", 0.05),
    ("A-", 0.04),
    ("B-", 0.01),
    ("AB-", 0.01),
)
INSURERS = (("Aetna", 0.2), ("Blue Cross", 0.2), ("Cigna", 0.2), ("Medicare", 0.2), ("UnitedHealthcare", 0.2))
ADMISSION_TYPES = (("Emergency", 0.5), ("Urgent", 0.2), ("Elective", 0.3))
TEST_RESULTS = (("Normal", 0.5), ("Abnormal", 0.3), ("Inconclusive", 0.2))
DOCTORS = 400
MEAN_STAY_DAYS = {"Emergency": 6.0, "Urgent": 5.0, "Elective": 3.0}

COLUMNS = """
    first_name || ' ' || last_head || last_tail AS "Name", age AS "Age", gender AS "Gender", blood_type AS "Blood Type",
    condition AS "Medical Condition", admitted::DATE AS "Date of Admission", doctor AS "Doctor", site AS "Hospital",
    insurer AS "Insurance Provider", billing AS "Billing Amount", room AS "Room Number",
    admission_type AS "Admission Type", (admitted + to_days(stay))::DATE AS "Discharge Date",
    medication AS "Medication", test_result AS "Test Results"
"""


def write_demo_data(
    path: Path,
    *,
    rows: int = 60_000,
    years: int = 6,
    sites: int = 4,
    seed: int = 1,
    outbreaks: bool = True,
    gaps: bool = True,
    deliveries: int = 1,
    last_day: dt.date = LAST_DAY,
    truth_path: Path | None = None,
) -> DemoTruth:
    """Write ``rows`` admissions of ``sites`` hospitals over ``years`` years up to ``last_day`` to the CSV ``path``.

    With ``deliveries`` above 1 the years are cut into that many files, named ``path`` with ``-1``, ``-2`` and so on
    before the suffix. The truth goes to ``truth_path`` (default: ``path`` with the suffix ``.truth.json``; give
    another when ``path`` lies in an inbox). Files appear whole: each is written under a hidden name and renamed.

    Raises :class:`~medisync.errors.ParameterError` for options out of range.
    """
    path = Path(path)
    if not 1 <= deliveries <= 1000:
        raise ParameterError("Demo data come in 1 to 1,000 deliveries.")
    plan = make_plan(rows=rows, years=years, sites=sites, seed=seed, outbreaks=outbreaks, gaps=gaps, last_day=last_day)
    path.parent.mkdir(parents=True, exist_ok=True)
    targets = (
        [path]
        if deliveries == 1
        else [
            path.with_name(f"{path.stem}-{number + 1:0{len(str(deliveries))}d}{path.suffix}")
            for number in range(deliveries)
        ]
    )
    days = len(plan.counts)
    cuts = [round(days * number / deliveries) for number in range(deliveries + 1)]
    rng = np.random.default_rng([seed, 1])
    patients = Patients(rows, len(plan.truth.conditions))
    with (
        duckdb.connect(":memory:") as connection,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".demo-") as scratch,
    ):
        for number, target in enumerate(targets):
            part = Path(scratch) / "delivery.csv"
            with part.open("wb") as output:
                for position, frame in enumerate(_frames(plan, cuts[number], cuts[number + 1], patients, rng)):
                    _append(connection, frame, output, Path(scratch) / "chunk.csv", header=position == 0)
            os.replace(part, target)
    plan.truth.write(truth_path or path.with_suffix(".truth.json"))
    return plan.truth


def _append(
    connection: duckdb.DuckDBPyConnection, frame: pd.DataFrame, output: BinaryIO, chunk: Path, *, header: bool
) -> None:
    """Let DuckDB write the frame as CSV and append its bytes."""
    connection.register("frame", frame)
    target = str(chunk).replace("'", "''")
    connection.execute(f"COPY (SELECT {COLUMNS} FROM frame) TO '{target}' (HEADER {str(header).lower()})")
    connection.unregister("frame")
    with chunk.open("rb") as source:
        shutil.copyfileobj(source, output, 1 << 20)
    chunk.unlink()


def _frames(plan: Plan, first: int, last: int, patients: Patients, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    """Chunks of whole days from day ``first`` up to, not including, ``last``."""
    per_day = plan.counts[first:last].sum(axis=(1, 2))
    chunk_of_day = np.cumsum(per_day) // min(plan.truth.rows // CHUNKS + 1, MOST_CHUNK_ROWS)
    for chunk in np.unique(chunk_of_day):
        at = first + np.flatnonzero(chunk_of_day == chunk)
        yield _frame(plan, int(at[0]), int(at[-1]) + 1, patients, rng)


def _frame(plan: Plan, first: int, last: int, patients: Patients, rng: np.random.Generator) -> pd.DataFrame:
    truth = plan.truth
    cells = plan.counts[first:last]
    _, sites, conditions = cells.shape
    cell = np.repeat(np.arange(cells.size), cells.ravel())
    rng.shuffle(cell)
    cell = cell[np.argsort(cell // (sites * conditions), kind="stable")]  # by day, in random order within it
    day = first + cell // (sites * conditions)
    site = cell // conditions % sites
    condition = cell % conditions
    admitted = np.datetime64(truth.first_day) + day
    who = patients.admit(condition, admitted, truth, rng)
    n = cell.size
    kind = _drawn(ADMISSION_TYPES, n, rng)
    stay_mean = np.array([MEAN_STAY_DAYS[name] for name, _ in ADMISSION_TYPES])[kind]
    stay = np.minimum(1 + rng.poisson(stay_mean * rng.gamma(2.0, 0.5, n)), 90)
    doctor = site + sites * rng.integers(0, DOCTORS // sites + 1, n)
    return pd.DataFrame(
        {
            **patients.names(who),
            "age": patients.age(who, admitted),
            "gender": coded(patients.gender(who), ["Female", "Male"]),
            "blood_type": _categorical(BLOOD_TYPES, patients.blood_type(who, BLOOD_TYPES)),
            "condition": coded(condition, [one.name for one in truth.conditions]),
            "admitted": admitted.astype("datetime64[s]"),
            "doctor": patients.doctors(doctor, DOCTORS + 2 * sites),
            "site": coded(site, list(truth.sites)),
            "insurer": _categorical(INSURERS, _drawn(INSURERS, n, rng)),
            "billing": np.round(1500.0 * stay * rng.lognormal(0.0, 0.4, n), 2),
            "room": rng.integers(101, 500, n),
            "admission_type": _categorical(ADMISSION_TYPES, kind),
            "stay": stay.astype(np.int32),
            "medication": coded(
                _drawn(tuple((one.name, one.share) for one in truth.medications), n, rng),
                [one.name for one in truth.medications],
            ),
            "test_result": _categorical(TEST_RESULTS, _drawn(TEST_RESULTS, n, rng)),
        }
    )


def _drawn(choices: tuple[tuple[str, float], ...], n: int, rng: np.random.Generator) -> IntArray:
    """Codes of ``n`` independent draws."""
    edges = np.cumsum([share for _, share in choices])
    return np.searchsorted(edges / edges[-1], rng.random(n), side="right").astype(np.int64)


def _categorical(choices: tuple[tuple[str, float], ...], codes: IntArray) -> pd.Categorical[Any]:
    return coded(codes, [name for name, _ in choices])
