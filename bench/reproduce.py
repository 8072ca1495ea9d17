"""Can every number be made again, and does deciding stay quick: ``python -m bench.reproduce [--json] [--quick]``.

The sample: how long ``medisync run`` takes, from the start of its process, when nothing changed, and whether every
analysis executed again gives identical numbers. A week of made-up deliveries, each a full extract with new, corrected
and deleted admissions, a round after each and clean-up twice: 200 runs drawn at random are executed again. A lake of
1,000 deliveries (a commit each) and 10,000 runs (ten a commit), never cleaned up before: deciding, listing, comparing,
cleaning up, opening the overview and the data page, whose peer is the same lake with 10 runs, and drawing them.
``--quick`` takes a tenth of runs and deliveries, and says as much about what is identical.
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Metric, main
from medisync import intake
from medisync.dashboards import server
from medisync.dashboards.data import Data
from medisync.dashboards.kept import KeptPages, followed
from medisync.dashboards.overview import Overview
from medisync.dashboards.parts import Source
from medisync.demo import write_demo_data
from medisync.fastlane import kernels
from medisync.intake.merging import DeliveryMode
from medisync.lake import Lake
from medisync.runs import planning, recall, story, upkeep
from medisync.runs.compare import compare_runs
from medisync.runs.published import published
from medisync.runs.publishing import run_row
from medisync.runs.record import RunRecord
from medisync.runs.reproduce import Reproduction, Verdict, reproduce
from medisync.settings import Settings, environment, project_root

REQUEST = story.Request(trigger="bench")
QUICK = "--quick"
DAYS, RERUNS, RUNS_A_COMMIT, FEW_RUNS = 7, 200, 10, 10
DELIVERIES, RUNS = 1_000, 10_000
READY_SECONDS = 600.0
OPENED = 7
"""How often each page is drawn; the median counts."""


def measure() -> dict[str, Metric]:
    """What the issue asks for, in one run."""
    return _measured(RERUNS, DELIVERIES, RUNS)


def measure_quickly() -> dict[str, Metric]:
    """A tenth of it."""
    return _measured(RERUNS // 10, DELIVERIES // 10, RUNS // 10)


def _measured(reruns: int, deliveries: int, runs: int) -> dict[str, Metric]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        seconds, identical = _sample(folder / "sample")
        week = _week(folder / "week", reruns)
        slowest, few, many, tidy = _large(folder / "large", deliveries, runs)
    peer = f"the same pages with {FEW_RUNS} runs"
    return {
        "nothing_changed_seconds": Metric(round(seconds, 3), "s", "<= 0.5"),
        "identical_percent": Metric(identical, "%", "100"),
        "week_identical_percent": Metric(week, "%", "100"),
        "slowest_of_list_compare_cleanup_seconds": Metric(round(max(slowest.values()), 3), "s", "<= 2"),
        **{f"{name}_seconds": Metric(round(value, 3), "s", "<= 2") for name, value in slowest.items()},
        "page_seconds": Metric(round(many.opened, 4), "s", "<= 1.2 x peer", peer, round(few.opened, 4)),
        "page_drawn_seconds": Metric(round(many.drawn, 3), "s", "shown", peer, round(few.drawn, 3)),
        "page_drawn_after_clean_up_seconds": Metric(round(tidy.drawn, 3), "s", "shown", peer, round(few.drawn, 3)),
    }


def _settings(folder: Path) -> Settings:
    folder.mkdir(parents=True)
    values: dict[str, Any] = {"data": folder / "data", "reports": folder / "reports", "retries": 0}
    settings = Settings(**values)
    settings.make_folders()
    os.environ.update(environment(settings))  # for the kernels
    return settings


def _sample(folder: Path) -> tuple[float, float]:
    """Seconds of a round with nothing to do, and the percentage of analyses whose rerun is identical."""
    settings = _settings(folder)
    lake = Lake(settings)
    intake.ingest(lake, project_root() / "data" / "sample" / "healthcare_dataset.csv.gz")
    with _kernel_server(settings):
        outcomes = story.run(lake, request=REQUEST)
        made = _again(lake, [one.record.run_id for one in outcomes])
    time.sleep(2.1)  # so that no source file counts as changed just now
    recall.note(lake)  # as each round leaves it
    runs = lake.query("SELECT count(*) AS n FROM analytics.runs")[0]["n"]
    took = [_seconds(lambda: _unchanged(settings, len(outcomes))) for _ in range(5)]
    if lake.query("SELECT count(*) AS n FROM analytics.runs")[0]["n"] != runs:
        raise RuntimeError("A kernel ran although nothing had changed.")
    lake.close()
    return median(took), _percent(made)


def _unchanged(settings: Settings, analyses: int) -> None:
    command = [sys.executable, "-m", "medisync.cli.entry", "run", "--json"]
    told = subprocess.run(
        command, env={**os.environ, **environment(settings)}, capture_output=True, text=True, check=True
    )
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    if len(answers) != analyses or not all(one["skipped"] for one in answers):
        raise RuntimeError("Something ran, or was not answered.")


def _week(folder: Path, reruns: int) -> float:
    """The percentage of ``reruns`` runs, drawn at random from a week's, whose rerun is identical."""
    settings = _settings(folder)
    lake = Lake(settings)
    chance = random.Random(7)  # noqa: S311 - a simulation
    write_demo_data(folder / "demo.csv", rows=6_000, years=3, truth_path=folder / "truth.json")
    with (folder / "demo.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with _kernel_server(settings):
        for day in range(DAYS):
            intake.ingest(lake, _extract(folder / f"day-{day}.csv", rows, day, chance), mode=DeliveryMode.SNAPSHOT)
            story.run(lake, request=REQUEST)
            story.run(lake, ["patient_volume_prediction"], parameters={"horizon": 4 + day}, request=REQUEST)
            if day in (2, 5):
                upkeep.clean_up(lake)
        known = [row["run_id"] for row in lake.query("SELECT run_id FROM analytics.runs WHERE status = 'completed'")]
        made = _again(lake, chance.choices(sorted(known), k=reruns))
    lake.close()
    for one in made:
        if one.verdict is not Verdict.IDENTICAL:
            print(one.sentence(), file=sys.stderr)
    return _percent(made)


def _extract(path: Path, rows: list[dict[str, str]], day: int, chance: random.Random) -> Path:
    """The admissions known on a day: more than the day before, some corrected for good, some gone for good."""
    for row in chance.sample(rows[: len(rows) * 8 // 10], 40):
        row["Medication"] = chance.choice(rows)["Medication"]
        row["Test Results"] = chance.choice(("Normal", "Abnormal", "Inconclusive"))
    for _ in range(20):
        rows.pop(chance.randrange(len(rows) * 7 // 10))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows[: len(rows) * (80 + 3 * day) // 100])
    return path


@dataclass(frozen=True)
class Pages:
    """Seconds for the overview and the data page together: until a viewer's kernel has them, and to draw them."""

    opened: float
    drawn: float


def _large(folder: Path, deliveries: int, runs: int) -> tuple[dict[str, float], Pages, Pages, Pages]:
    """Seconds of deciding, listing, comparing and cleaning up a large lake, and of its pages: before most of the runs,
    after them, and once that lake is cleaned up, as each night leaves it."""
    settings = _settings(folder)
    lake = Lake(settings)
    write_demo_data(folder / "demo.csv", rows=20_000, years=3, truth_path=folder / "truth.json")
    intake.ingest(lake, folder / "demo.csv")
    with _kernel_server(settings):
        made = story.run(lake, request=REQUEST)
    template = next(one.record for one in made if one.record.analysis == "medication_analysis")
    document = lake.query("SELECT document FROM analytics.results WHERE run_id = ?", [template.run_id])[0]["document"]
    for number in range(deliveries):
        _deliver_one(lake, number)
    _record_some(lake, template, document, 0, FEW_RUNS - len(made), runs)
    few = _pages(lake)
    for start in range(FEW_RUNS, runs, RUNS_A_COMMIT):
        _record_some(lake, template, document, start, RUNS_A_COMMIT, runs)
    many = _pages(lake)
    first, last = "r-bench-00000", f"r-bench-{runs - 1:05d}"
    seconds = {
        "decide": _seconds(lambda: _require(len(planning.plan(lake)) == len(made))),
        "list": _seconds(lambda: _require(len(_listed(lake)) == 100 and len(published(lake)) == len(made))),
        "compare": _seconds(lambda: _require(compare_runs(lake, first, last).kind == "runs")),
        "clean_up": _seconds(lambda: _require(not upkeep.clean_up(lake).dry_run)),
    }
    tidy = _pages(lake)
    lake.close()
    return seconds, few, many, tidy


def _pages(lake: Lake) -> Pages:
    """Both pages as a kernel has them when somebody opens them, which takes them from the page reader, and drawn from
    the lake, as that reader does after a commit; what a browser and Voila add does not depend on the lake."""
    settings = lake.settings

    def show(as_kept: Callable[[Source], Source]) -> None:
        for page in (Overview(settings), Data(settings, {})):
            source = as_kept(page)
            source.show_to("full")
            source.frame(source.parts())

    def draw() -> None:
        show(lambda page: page)

    draw()
    drawn = median(_seconds(draw) for _ in range(OPENED))
    with _page_reader(settings):
        opened = median(_seconds(lambda: show(followed)) for _ in range(OPENED))
    return Pages(opened, drawn)


def _page_reader(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """The workspace's page reader, once it has drawn what is opened here."""
    kept = KeptPages.of(settings)
    names = ("overview-full", "data-full")
    return _running(server.reader_command(), lambda: None not in [kept.mark(name) for name in names])


def _deliver_one(lake: Lake, number: int) -> None:
    """One delivery that corrects one admission, as intake commits it."""
    delivery = f"d-bench-{number:04d}"
    with lake.transaction(f"delivery {delivery}", extra={"delivery_id": delivery}) as transaction:
        transaction.execute(
            "UPDATE lake.clinical.admissions SET test_result = ?, delivery_id = ? WHERE admission_key = "
            "(SELECT min(admission_key) FROM lake.clinical.admissions)",
            [f"Corrected {number}", delivery],
        )
        transaction.execute(
            "UPDATE lake.clinical.table_versions SET version = version + 1 WHERE table_name = 'admissions'"
        )
        transaction.execute(
            "INSERT INTO lake.clinical.deliveries (delivery_id, source, status, updated, finished_at) "
            "VALUES (?, 'bench', 'loaded', 1, ?)",
            [delivery, dt.datetime.now(dt.UTC).replace(tzinfo=None)],
        )


def _record_some(lake: Lake, template: RunRecord, document: str, start: int, number: int, runs: int) -> None:
    """``number`` runs in one commit; the first and the last of all have a result."""
    snapshot = lake.last_snapshot_id() or 0
    rows = [_row(template, one, snapshot) for one in range(start, start + number)]
    marks = f"({', '.join('?' for _ in rows[0])})"
    with lake.transaction(f"runs from {start}") as transaction:
        transaction.execute(
            f"INSERT INTO lake.analytics.runs ({', '.join(rows[0])}) VALUES {', '.join([marks] * len(rows))}",
            [value for row in rows for value in row.values()],
        )
        for row in rows:
            if row["run_id"] in ("r-bench-00000", f"r-bench-{runs - 1:05d}"):
                transaction.execute(
                    "INSERT INTO lake.analytics.results VALUES (?, ?, 'full', ?)",
                    [row["run_id"], template.analysis, document],
                )


def _row(template: RunRecord, number: int, snapshot: int) -> dict[str, Any]:
    at = template.finished_at + dt.timedelta(seconds=number)
    return run_row(
        template.model_copy(
            update={
                "run_id": f"r-bench-{number:05d}",
                "run_key": f"key {number}",
                "snapshot_id": snapshot,
                "inputs": dict.fromkeys(template.inputs, number // 10),
                "started_at": at,
                "finished_at": at,
            }
        )
    )


def _listed(lake: Lake) -> list[dict[str, object]]:
    return lake.query("SELECT run_id, headline, record FROM analytics.runs ORDER BY finished_at DESC LIMIT 100")


def _again(lake: Lake, run_ids: list[str]) -> list[Reproduction]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda run_id: reproduce(lake, run_id), run_ids))


def _percent(made: list[Reproduction]) -> float:
    return round(100 * sum(one.verdict is Verdict.IDENTICAL for one in made) / len(made), 2)


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _require(is_so: bool) -> None:
    if not is_so:
        raise RuntimeError("The benchmark measures something else than it says.")


def _kernel_server(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """The workspace's kernel server, so that kernels are forked."""
    path = kernels.socket_path(settings)
    return _running([sys.executable, "-m", "medisync.fastlane.kernels", str(path)], path.exists)


@contextlib.contextmanager
def _running(command: list[str], is_ready: Callable[[], bool]) -> Iterator[None]:
    """The program ``command`` from when it is ready until the end."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=project_root(), stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"It did not start: {' '.join(command)}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    chosen = measure_quickly if QUICK in sys.argv else measure
    main(chosen, [word for word in sys.argv[1:] if word != QUICK])
