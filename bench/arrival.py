"""From a file in the inbox to all six results committed: ``python -m bench.arrival [--json]``.

A real workspace in a temporary folder, with the notebooks of the six analyses the goals are about. Cold: the first
delivery right after start. Warm: the median of further deliveries, each the sample with one admission more, so that
every analysis must run again. The peer, measured in the same call on the same server: a stock Prefect process worker
and stock papermill kernels (``bench/peers``).
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import gzip
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.forecast import ANALYSES
from bench.report import Metric, main
from medisync.intake import arrival
from medisync.ledger import Claims, open_ledger
from medisync.settings import project_root
from medisync.supervisor.ready import SAMPLE
from medisync.supervisor.services import base_environment
from tests.support.running import RunningWorkspace, running_workspace, trial_settings, wait_until

WARM_ROUNDS = 3
STOCK_ROUNDS = 3
LIMIT_SECONDS = 300
OUR_PREFECT = (
    "PREFECT_WORKER_QUERY_SECONDS",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED",
)
"""What we set to be quick; the peer runs without."""


def measure() -> dict[str, Metric]:
    """Seconds from a file's arrival to all results committed, here and with stock parts."""
    with tempfile.TemporaryDirectory(prefix="medisync-bench-") as folder:
        settings = trial_settings(Path(folder), notebooks=_six_notebooks(Path(folder)))
        with running_workspace(settings) as workspace, _MemoryWatch(workspace) as memory:
            at_rest = memory.now_mb()
            cold = _arrive(workspace, _variant(Path(folder), 0))
            warm = [_arrive(workspace, _variant(Path(folder), number)) for number in range(1, WARM_ROUNDS + 1)]
            peak = memory.peak_mb
            again = _repeat(workspace, _variant(Path(folder), WARM_ROUNDS))
            with _stock_worker(workspace):
                first = 100
                _arrive_stock(workspace, _variant(Path(folder), first))  # its first run warms the page cache, too
                stock = [
                    _arrive_stock(workspace, _variant(Path(folder), first + number))
                    for number in range(1, STOCK_ROUNDS + 1)
                ]
    median = statistics.median(one["total"] for one in warm)
    stock_median = statistics.median(stock)
    peer = "stock process worker and papermill kernels"
    metrics = {
        "arrival_to_results_seconds": Metric(round(median, 2), "s", "<= 2.5", peer, round(stock_median, 2)),
        "ratio_to_stock": Metric(round(stock_median / median, 2), "x", ">= 6", peer, 1.0),
        "cold_seconds": Metric(round(cold["total"], 2), "s", "shown"),
        "repeat_seconds": Metric(round(again, 2), "s", "<= 0.5"),
        "memory_at_rest_mb": Metric(round(at_rest), "MB", "shown"),
        "memory_peak_mb": Metric(round(peak), "MB", "shown"),
    }
    for part in warm[0]:
        if part != "total":
            value = statistics.median(one[part] for one in warm)
            metrics[f"warm_{part}_seconds"] = Metric(round(value, 2), "s", "shown")
    return metrics


def _six_notebooks(folder: Path) -> Path:
    target = folder / "notebooks"
    (target / "analyses").mkdir(parents=True)
    for name in ANALYSES:
        shutil.copy(project_root() / "notebooks" / "analyses" / f"{name}.ipynb", target / "analyses")
    return target


def _variant(folder: Path, number: int) -> Path:
    """The sample with ``number`` admissions more."""
    target = folder / f"sample-{number}.csv"
    with gzip.open(SAMPLE, "rt", encoding="utf-8", newline="") as source:
        rows = list(csv.reader(source))
    more = [["Extra Patient", *rows[1][1:5], f"2024-02-{one % 28 + 1:02d}", *rows[1][6:]] for one in range(number)]
    for one, row in enumerate(more):
        row[7], row[12] = f"Extra Hospital {one}", "2024-04-01"
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*rows, *more])
    return target


def _drop(workspace: RunningWorkspace, file: Path) -> tuple[dt.datetime, set[str]]:
    known = {row["delivery_id"] for row in workspace.lake().query("SELECT delivery_id FROM clinical.deliveries")}
    draft = workspace.settings.inbox / f".{file.name}"
    shutil.copyfile(file, draft)
    draft.replace(workspace.settings.inbox / file.name)
    return _utc_now(), known


def _arrive(workspace: RunningWorkspace, file: Path) -> dict[str, float]:
    """Drop ``file`` and follow it; seconds of each part."""
    dropped, known = _drop(workspace, file)
    delivery = _wait(workspace, lambda: _new_delivery(workspace, known), what="the delivery is loaded")
    runs = _wait(workspace, lambda: _runs_of(workspace, delivery["delivery_id"]), what="all runs are committed")
    flow_run = workspace.api(
        "POST", "/flow_runs/filter", json={"flow_runs": {"name": {"any_": [delivery["delivery_id"]]}}}
    )[0]
    created, started = _moment(flow_run["created"]), _moment(flow_run["start_time"])
    claimed = _claimed_at(workspace, delivery["delivery_id"])
    received, loaded = delivery["received_at"], delivery["finished_at"]
    first, last = min(run["started_at"] for run in runs), max(run["finished_at"] for run in runs)
    committed = max(run["committed_at"] for run in runs)
    parts = {
        "claim": claimed - dropped,
        "event": created - claimed,
        "to_intake": received - created,
        "intake": loaded - received,
        "plan": first - loaded,
        "notebooks": last - first,
        "publish": committed - last,
        "total": committed - dropped,
    }
    parts["flow_running"] = started - created  # beside the others: intake does not wait for it
    seconds = {name: part.total_seconds() for name, part in parts.items()}
    return {**seconds, **{f"notebook_{run['analysis']}": float(run["seconds"]) for run in runs}}


def _repeat(workspace: RunningWorkspace, file: Path) -> float:
    dropped, known = _drop(workspace, file)
    delivery = _wait(workspace, lambda: _new_delivery(workspace, known), what="the repeat is recorded")
    return float((delivery["finished_at"] - dropped).total_seconds())


def _arrive_stock(workspace: RunningWorkspace, file: Path) -> float:
    """The same through the stock deployment; claiming and announcing are not counted against it."""
    settings = workspace.settings
    delivery_id = arrival.reserve(settings, arrival.DEFAULT_SOURCE)
    claims = Claims(open_ledger(settings))
    claims.add(delivery_id, arrival.DEFAULT_SOURCE)
    claims.announced(delivery_id)  # so that our own watcher leaves it alone
    arrival.copy_in(settings, delivery_id, file)
    arrived = _utc_now()
    event = {
        "id": str(uuid.uuid4()),
        "occurred": dt.datetime.now(dt.UTC).isoformat(),
        "event": "stock.file.arrived",
        "resource": {"prefect.resource.id": f"stock.file.{delivery_id}"},
        "payload": {"delivery_id": delivery_id},
    }
    with contextlib.suppress(ValueError):  # the answer has no body
        workspace.api("POST", "/events", json=[event])

    def finished() -> list[dict[str, Any]]:
        rows = workspace.lake().query(
            "SELECT finished_at FROM analytics.runs WHERE json_extract_string(record, '$.trigger') = 'stock' "
            "AND started_at > ?",
            [arrived],
        )
        return rows if len(rows) >= _notebooks(workspace) else []

    rows = _wait(workspace, finished, what="all stock runs are committed")
    return float((max(row["finished_at"] for row in rows) - arrived).total_seconds())


@contextlib.contextmanager
def _stock_worker(workspace: RunningWorkspace) -> Iterator[None]:
    """A worker with Prefect's default settings, and the peer's deployment."""
    environment = {
        name: value for name, value in base_environment(workspace.settings).items() if name not in OUR_PREFECT
    }
    prefect = [sys.executable, "-m", "prefect"]
    root = project_root()
    workspace.api("POST", "/work_pools/", json={"name": "stock", "type": "process"})
    deploy = [*prefect, "--no-prompt", "deploy", "--all", "--prefect-file", "bench/peers/prefect.yaml"]
    subprocess.run(deploy, env=environment, cwd=root, check=True, capture_output=True)
    worker = subprocess.Popen(
        [*prefect, "worker", "start", "--pool", "stock", "--type", "process", "--name", "stock"],
        env=environment,
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(30)


class _MemoryWatch:
    """Memory of the workspace's processes: private and shared pages counted once each (PSS)."""

    def __init__(self, workspace: RunningWorkspace) -> None:
        import threading

        self._root = psutil.Process(workspace.process.pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> _MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def now_mb(self) -> float:
        total = 0
        for process in [self._root, *self._root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, FileNotFoundError):
                total += process.memory_full_info().pss
        return total / 1e6

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self.peak_mb = max(self.peak_mb, self.now_mb())


def _wait(workspace: RunningWorkspace, condition: Callable[[], Any], *, what: str) -> Any:
    """As ``wait_until``, asking the lake after commits only, and seldom: a question takes a core from what is measured,
    and every moment that counts is told by the lake."""
    seen: list[int | None] = []

    def after_a_commit() -> Any:
        newest = workspace.lake().last_snapshot_id()
        if seen and seen[-1] == newest:
            return None
        seen.append(newest)
        return condition()

    return wait_until(after_a_commit, seconds=LIMIT_SECONDS, what=what, every=0.5)


def _new_delivery(workspace: RunningWorkspace, known: set[str]) -> dict[str, Any] | None:
    rows = workspace.lake().query("SELECT * FROM clinical.deliveries ORDER BY finished_at")
    return next((row for row in rows if row["delivery_id"] not in known), None)


def _runs_of(workspace: RunningWorkspace, delivery_id: str) -> list[dict[str, Any]]:
    """The runs a delivery led to, with the time each was committed; empty until all are there."""
    rows = workspace.lake().query(
        "SELECT runs.*, (SELECT snapshot_time FROM lake.snapshots() WHERE commit_message LIKE 'run ' || run_id || '%') "
        "AS committed_at FROM analytics.runs WHERE json_extract_string(record, '$.trigger') = ?",
        [f"delivery {delivery_id}"],
    )
    for row in rows:
        row["committed_at"] = row["committed_at"].astimezone(dt.UTC).replace(tzinfo=None)
    return rows if len(rows) >= _notebooks(workspace) else []


def _notebooks(workspace: RunningWorkspace) -> int:
    return len(list(workspace.settings.analyses.glob("*.ipynb")))


def _claimed_at(workspace: RunningWorkspace, delivery_id: str) -> dt.datetime:
    claim = Claims(open_ledger(workspace.settings)).get(delivery_id)
    if claim is None:
        raise LookupError(delivery_id)
    return claim.claimed_at


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC).replace(tzinfo=None)


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


if __name__ == "__main__":
    started = time.monotonic()
    main(measure)
    print(f"measured in {time.monotonic() - started:.0f} s", file=sys.stderr)
