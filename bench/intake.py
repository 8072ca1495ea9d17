"""A delivery against DuckDB alone: ``python -m bench.intake [--rows 10000000] [--json]``.

The file is made by ``medisync demo-data``. The peer reads it into a native DuckDB file with
``CREATE TABLE AS SELECT * FROM read_csv(...)``; MediSync hashes, checks, de-identifies and merges it. Each in a process
of its own, one after the other, with its highest resident memory. CPU seconds stand beside elapsed ones, since other
programs' load meets elapsed time alone. Then deliveries of 55,500 rows: into a warm process, and, with a tenth of them
changed, into the rows loaded before. Then bulk FHIR NDJSON of two sizes, since memory must not follow the file's. The
table has the sizes from 10,000 rows up to the largest. What is measured is told on standard error as it goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.bulk import ENCOUNTERS_A_PATIENT, RESOURCES_A_PATIENT
from bench.report import Metric, main
from medisync.settings import project_root

ROWS = 10_000_000
SMALL_ROWS = 55_500
CHANGED_SHARE = 10  # one row in ten
WARM_REPEATS = 3
FHIR_RESOURCES, FHIR_TIMES = 100_000, 5
PEER = "CREATE TABLE AS SELECT * FROM read_csv"

MAKE = """
from medisync.demo.delivery import write_demo_data
write_demo_data(Path(given["file"]), rows=given["rows"], seed=given["seed"])
"""
MAKE_BULK = """
from bench.bulk import write_bulk
write_bulk(Path(given["file"]), given["resources"])
"""
BARE = """
import duckdb
connection = duckdb.connect(given["database"], config={"temp_directory": given["database"] + ".tmp"})
begin()
connection.execute("CREATE TABLE bare AS SELECT * FROM read_csv(?)", [given["file"]])
connection.close()
tell(rows=given["rows"])
"""
DELIVER = """
import os, shutil
from medisync import intake
from medisync.lake import Lake
from medisync.settings import Settings
settings = Settings(data=Path(given["workspace"]) / "data", reports=Path(given["workspace"]) / "reports")
lake = Lake(settings)
lake.connection()
settings.make_folders()
for file, source in given["files"]:
    target = settings.inbox / source / Path(file).name
    target.parent.mkdir(exist_ok=True)
    os.link(file, target)
    delivery_id = intake.arrival.claim(settings, target, source)
    begin()
    report = intake.deliver(lake, delivery_id)
    tell(rows=report.rows_read, created=report.created, updated=report.updated, unchanged=report.unchanged)
"""
PROLOGUE = """
import json, resource, sys, time
from pathlib import Path
given = json.loads(sys.argv[1])
clock = []
def begin():
    clock[:] = [time.perf_counter(), time.process_time()]
def tell(**more):
    seconds, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak_mb, **more}), flush=True)
"""


def run(code: str, **given: Any) -> list[dict[str, float]]:
    """What ``code`` tells, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code, json.dumps(given)],
        cwd=project_root(),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = (line[line.find("{") :] for line in done.stdout.splitlines() if "{" in line)  # behind a progress bar
    return [json.loads(line) for line in told]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measure(rows: int = ROWS) -> dict[str, Metric]:
    """Time and memory of deliveries of up to ``rows`` rows."""
    metrics: dict[str, Metric] = {}
    with tempfile.TemporaryDirectory(prefix="medisync-bench-") as name:
        folder = Path(name)
        sizes = [size for size in (10_000, 100_000, 1_000_000) if size < rows] + [rows]
        for size in sizes:
            say(f"{size:,} rows")
            file, workspace = folder / "admissions.csv", folder / f"workspace-{size}"
            run(MAKE, file=str(file), rows=size, seed=1)
            (bare,) = run(BARE, file=str(file), database=str(folder / "bare.duckdb"), rows=size)
            (ours,) = run(DELIVER, workspace=str(workspace), files=[(str(file), "default")])
            if ours["created"] != size:
                raise RuntimeError(f"{ours['created']:,.0f} of {size:,} admissions were loaded.")
            (folder / "bare.duckdb").unlink()
            say(f"  {PEER}: {bare['seconds']:.1f} s; delivered: {ours['seconds']:.1f} s, {ours['peak_mb']:.0f} MB")
            metrics |= _row(size, bare, ours)
            if size == rows:
                metrics |= _largest(size, bare, ours)
                metrics |= _change(folder, workspace, file)
            shutil.rmtree(workspace)
            file.unlink()
        metrics |= _warm(folder)
        metrics |= _fhir(folder)
    return metrics


def _row(size: int, bare: dict[str, float], ours: dict[str, float]) -> dict[str, Metric]:
    per_million = 1_000_000 / size
    return {
        f"seconds_{size}": Metric(round(ours["seconds"], 2), "s", "shown", PEER, round(bare["seconds"], 2)),
        f"cpu_seconds_per_million_{size}": Metric(
            round(ours["cpu_seconds"] * per_million, 2),
            "CPU s",
            "shown",
            PEER,
            round(bare["cpu_seconds"] * per_million, 2),
        ),
    }


def _largest(size: int, bare: dict[str, float], ours: dict[str, float]) -> dict[str, Metric]:
    label = f"{size // 1_000_000}m" if size >= 1_000_000 else str(size)
    return {
        f"ratio_to_bare_{label}": Metric(round(ours["seconds"] / bare["seconds"], 2), "x", "<= 2", PEER, 1.0),
        f"cpu_ratio_to_bare_{label}": Metric(
            round(ours["cpu_seconds"] / bare["cpu_seconds"], 2), "x", "shown", PEER, 1.0
        ),
        f"peak_mb_{label}": Metric(round(ours["peak_mb"]), "MB", "<= 1000", PEER, round(bare["peak_mb"])),
    }


def _change(folder: Path, workspace: Path, file: Path) -> dict[str, Metric]:
    """The first 55,500 rows again, with another bill in every tenth."""
    say(f"{SMALL_ROWS:,} rows, one in {CHANGED_SHARE} changed, into those")
    changed = folder / "changed.csv"
    rows = 0
    with file.open() as source, changed.open("w") as target:
        target.write(next(source))
        for number, line in enumerate(itertools.islice(source, SMALL_ROWS)):
            cells = line.split(",")
            if number % CHANGED_SHARE == 0:
                cells[9] = f"{float(cells[9]) + 1:.2f}"
            target.write(",".join(cells))
            rows += 1
    (merged,) = run(DELIVER, workspace=str(workspace), files=[(str(changed), "default")])
    expected = -(-rows // CHANGED_SHARE)
    if (merged["updated"], merged["unchanged"]) != (expected, rows - expected):
        raise RuntimeError(f"{merged['updated']:,.0f} admissions were updated, not {expected:,}.")
    return {
        "merge_10pct_seconds": Metric(round(merged["seconds"], 2), "s", "<= 6"),
        "merge_10pct_cpu_seconds": Metric(round(merged["cpu_seconds"], 2), "CPU s", "shown"),
    }


def _warm(folder: Path) -> dict[str, Metric]:
    """Deliveries of 55,500 rows to one process, each of a source of its own; the first only warms it."""
    say(f"{SMALL_ROWS:,} rows into a warm process")
    files = []
    for number in range(WARM_REPEATS + 1):
        file = folder / f"small-{number}.csv"
        run(MAKE, file=str(file), rows=SMALL_ROWS, seed=number + 1)
        files.append((str(file), f"ward-{number}"))
    told = run(DELIVER, workspace=str(folder / "warm"), files=files)[1:]
    return {
        "seconds_55500_warm": Metric(round(median(one["seconds"] for one in told), 2), "s", "<= 1.5"),
        "cpu_seconds_55500_warm": Metric(round(median(one["cpu_seconds"] for one in told), 2), "CPU s", "shown"),
    }


def _fhir(folder: Path) -> dict[str, Metric]:
    """Bulk NDJSON of two sizes, each into an empty lake by a process of its own."""
    metrics: dict[str, Metric] = {}
    for times in (1, FHIR_TIMES):
        resources = FHIR_RESOURCES * times
        say(f"{resources:,} FHIR resources")
        file = folder / "bulk.ndjson"
        run(MAKE_BULK, file=str(file), resources=resources)
        (told,) = run(DELIVER, workspace=str(folder / f"fhir-{times}"), files=[(str(file), "default")])
        expected = resources // RESOURCES_A_PATIENT * ENCOUNTERS_A_PATIENT
        if (told["rows"], told["created"]) != (resources, expected):
            raise RuntimeError(f"{told['created']:,.0f} of {expected:,} encounters were loaded.")
        file.unlink()
        name, is_first = f"{resources // 1000}k", times == 1
        seconds, goal = round(told["seconds"], 2), "<= 20" if is_first else "shown"
        metrics[f"fhir_seconds_{name}"] = Metric(seconds, "s", goal)
        metrics[f"fhir_cpu_seconds_{name}"] = Metric(round(told["cpu_seconds"], 2), "CPU s", "shown")
        metrics[f"fhir_peak_mb_{name}"] = Metric(round(told["peak_mb"]), "MB", "shown" if is_first else "<= 1000")
    return metrics


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=int, default=ROWS)
    options, others = parser.parse_known_args()
    begun = time.monotonic()
    main(lambda: measure(options.rows), others)
    print(f"{time.monotonic() - begun:.0f} seconds in all", file=sys.stderr)
