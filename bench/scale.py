"""What the analyses ask of many admissions: ``python -m bench.scale [--json] [--rows N ...]``.

The input SQL of six analyses, exactly as they send it, over a lake of 10,000 to 50,000,000 admissions (a condition and
a prescription each) that is made in SQL, and over native DuckDB tables with the same rows. Every analysis runs in a
process of its own with the memory and the one thread a kernel has. Its CPU seconds and its highest memory are measured;
opening the tables counts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from bench.report import Metric, main
from medisync.lake import Lake, Snapshot
from medisync.lake.extensions import open_duckdb
from medisync.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

ANALYSES = (
    "patient_demographics",
    "medication_analysis",
    "illness_prediction",
    "patient_health_trends",
    "illness_surge_prediction",
    "patient_volume_prediction",
)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)
CHUNK = 5_000_000
PEER = "native DuckDB tables, same rows"
COPIED = ("clinical.patients", "clinical.admissions", "clinical.conditions", "clinical.prescriptions")
ALSO_COPIED = ("analytics.runs", "analytics.forecasts", "analytics.sarima_orders", "analytics.backtests")

ROWS = """
CREATE OR REPLACE TEMP VIEW made AS SELECT i,
    md5('a' || i)::UUID AS admission_key, md5('p' || (hash(i) % {patients}))::UUID AS patient_key,
    md5('d' || (hash(i, 1) % 2000))::UUID AS practitioner_key,
    (hash(i, 2) >> 2)::BIGINT AS h, TIMESTAMP '2019-01-07' + to_minutes((i * 2629440 // {rows})::BIGINT) AS admitted_at
FROM range({begin}, {end}) AS rows(i)
"""
INSERTS = {
    "admissions": """SELECT 'default', admission_key, patient_key, 'Site ' || (h % 12),
        ['Urgent', 'Elective', 'Emergency'][1 + h % 3], admitted_at, admitted_at + to_days((h % 14)::INTEGER),
        (h % 90)::SMALLINT, ['Medicare', 'Aetna', 'Cigna', 'Blue Cross'][1 + (h // 7) % 4],
        ((h % 5000000) / 100)::DECIMAL(14, 2), practitioner_key, (100 + h % 400)::VARCHAR,
        ['Normal', 'Abnormal', 'Inconclusive'][1 + (h // 11) % 3], 'made' FROM made""",
    "conditions": """SELECT 'default', admission_key, patient_key,
        ['Asthma', 'Cancer', 'Diabetes', 'Obesity', 'Arthritis', 'Hypertension', 'Influenza', 'Pneumonia'][
            1 + least((h // 13) % 11, 7)], NULL, NULL, admitted_at, 'made' FROM made""",
    "prescriptions": """SELECT 'default', admission_key, patient_key,
        ['Aspirin', 'Ibuprofen', 'Lipitor', 'Paracetamol', 'Penicillin'][1 + least((h // 17) % 7, 4)],
        NULL, NULL, admitted_at, 'made' FROM made""",
}
PATIENTS = """INSERT INTO lake.clinical.patients SELECT 'default', md5('p' || i)::UUID,
    ['female', 'male'][1 + (hash(i) % 2)::BIGINT], (1930 + hash(i, 3) % 80)::SMALLINT,
    ['A+', 'A-', 'B+', 'B-', 'AB+', 'AB-', 'O+', 'O-'][1 + (hash(i, 4) % 8)::BIGINT], 'made'
    FROM range({begin}, {end}) AS rows(i)"""


def measure(sizes: Sequence[int]) -> dict[str, Metric]:
    """CPU seconds and memory of the six inputs at each size, in the lake and in native tables."""
    found: dict[str, Metric] = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="medisync-bench-") as folder:
            _make(Path(folder), rows)
            lake = [_one(Path(folder), "lake", name) for name in ANALYSES]
            native = [_one(Path(folder), "native", name) for name in ANALYSES]
        name = f"{rows:.0e}".replace("e+0", "e")
        for ours, theirs in zip(lake, native, strict=True):
            _say(f"{name} {ours} {theirs}")
        cpu, peer = (sum(one["cpu_seconds"] for one in side) for side in (lake, native))
        goal = "<= 1.5" if rows >= 50_000_000 else "shown"
        found |= {
            f"ratio_to_native_{name}": Metric(round(cpu / peer, 2), "x", goal, PEER, 1.0),
            f"cpu_seconds_{name}": Metric(round(cpu, 2), "CPU s", "shown", PEER, round(peer, 2)),
            f"seconds_{name}": Metric(
                round(sum(one["seconds"] for one in lake), 2),
                "s",
                "shown",
                PEER,
                round(sum(one["seconds"] for one in native), 2),
            ),
            f"peak_mb_{name}": Metric(
                round(max(one["peak_mb"] for one in lake)),
                "MB",
                "<= 2000",
                PEER,
                round(max(one["peak_mb"] for one in native)),
            ),
        }
    return found


def _settings(folder: Path) -> Settings:
    places: dict[str, Any] = {"data": folder / "data", "reports": folder / "reports"}
    return Settings(**places)


def _make(folder: Path, rows: int) -> None:
    """A lake of ``rows`` admissions of four fifths as many patients, and the same rows in native tables."""
    lake = Lake(_settings(folder), threads=2)
    patients = rows * 4 // 5
    for begin in range(0, rows, CHUNK):
        end = min(begin + CHUNK, rows)
        with lake.transaction("made") as transaction:
            transaction.execute(ROWS.format(patients=patients, rows=rows, begin=begin, end=end))
            for table, select in INSERTS.items():
                transaction.execute(f"INSERT INTO lake.clinical.{table} {select}")
            if begin < patients:
                transaction.execute(PATIENTS.format(begin=begin, end=min(end, patients)))
        _say(f"made {end:,} of {rows:,}")
    cursor = lake.cursor()
    cursor.execute(f"ATTACH '{folder / 'native.duckdb'}' AS native")
    for schema in ("clinical", "analytics"):
        cursor.execute(f"CREATE SCHEMA native.{schema}")
    for table in (*COPIED, *ALSO_COPIED):
        cursor.execute(f"CREATE TABLE native.{table} AS FROM lake.{table}")
    cursor.execute("DETACH native")
    cursor.close()
    lake.close()
    _say("copied into native tables")


def _one(folder: Path, side: str, analysis: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.scale", "--one", side, analysis, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{analysis} on {side} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


class Native:
    """The tables of a DuckDB file, read as a snapshot is: by one thread, in a kernel's memory."""

    snapshot_id = 0

    def __init__(self, settings: Settings, file: Path) -> None:
        self._connection: duckdb.DuckDBPyConnection = open_duckdb(
            memory_limit_mb=settings.memory_limit_mb, threads=1, temp_directory=settings.temporary
        )
        self._connection.execute(f"ATTACH '{file}' AS native (READ_ONLY)")
        self._connection.execute("USE native")

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._connection.execute(sql, parameters or []).df()
        return frame


def measure_one(side: str, analysis: str, folder: Path) -> dict[str, Any]:
    """Load the inputs of one analysis in this process: seconds, CPU seconds, and its highest memory."""
    module = importlib.import_module(f"medisync.analyses.{analysis}")
    settings = _settings(folder)
    duckdb.sql("SELECT ?::INTEGER", params=[1]).df()  # imports pandas
    started, spent = time.perf_counter(), time.process_time()
    reader = Snapshot(settings) if side == "lake" else Native(settings, folder / "native.duckdb")
    module.load(reader, module.Params())
    return {
        "analysis": analysis,
        "side": side,
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time() - spent, 3),
        "peak_mb": round(_highest_kb() / 1000),
    }


def _highest_kb() -> int:
    """This program's own highest memory; getrusage would count what the process had before it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--one", nargs=3)
    given, others = parser.parse_known_args()
    if given.one:
        print(json.dumps(measure_one(given.one[0], given.one[1], Path(given.one[2]))))
    else:
        main(lambda: measure(given.rows), others)
