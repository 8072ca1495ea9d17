"""Everything is killed, again and again, while files arrive: ``python -m bench.chaos [--json] [--kills N] [--seed S]``.

A real workspace. At random moments (of a seed) SIGKILL hits the worker, a flow run, a kernel, a fork server, the
Prefect server, the watcher, the API, the pages or the page reader. Then it is left alone, and what is in the lake is
reconciled with what was dropped into the inbox, file by file and row by row.

``lost``: files not loaded, rows missing, and deliveries or runs that were committed once and are not there any more.
``duplicated``: files loaded twice and rows there twice. ``stuck``: flow runs whose attempt was going on at the last
kill and did not end within 90 seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psutil

from bench.report import Metric, main
from medisync.errors import MediSyncError
from medisync.intake.reading import content_hash
from tests.support.admissions_csv import admissions, write_csv
from tests.support.login import log_in
from tests.support.pages import LIVE, chromium
from tests.support.running import RunningWorkspace, running_workspace, trial_settings

SERVICES = ("worker", "prefect", "watcher", "kernels", "flow-runs", "api", "pages", "page-reader")
FORKED = {"flow run": "medisync.fastlane.flow_runs", "kernel": "medisync.fastlane.kernels"}
SOURCES = ("north", "south")
ROWS = 20
KILL_SECONDS = (1.0, 6.0)
DROP_SECONDS = (0.5, 3.0)
END_SECONDS = 90.0
LONGEST_SECONDS = 600.0
UNFINISHED = ["PENDING", "RUNNING", "CANCELLING"]


class Arrivals(threading.Thread):
    """Drops small files, each with admissions of its own, until it is told to stop."""

    def __init__(self, workspace: RunningWorkspace, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._inbox = workspace.settings.inbox
        self._chance = chance
        self._over = threading.Event()
        self.dropped: dict[str, str] = {}
        """Content hash -> source."""

    def run(self) -> None:
        number = 0
        while not self._over.wait(self._chance.uniform(*DROP_SECONDS)):
            source = self._chance.choice(SOURCES)
            draft = write_csv(self._inbox / source / f".{number:04d}.csv", admissions(ROWS, start=number * ROWS))
            self.dropped[content_hash(draft)] = source
            draft.rename(draft.with_name(f"{number:04d}.csv"))
            number += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


class Acknowledged(threading.Thread):
    """Remembers every delivery and run it ever saw committed."""

    def __init__(self, workspace: RunningWorkspace) -> None:
        super().__init__(daemon=True)
        self._lake = workspace.lake()
        self._over = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        while not self._over.wait(1.0):
            self.look()

    def look(self) -> set[str]:
        with contextlib.suppress(MediSyncError, duckdb.Error):
            now = {row["id"] for row in self._lake.query(COMMITTED)}
            self.seen |= now
            return now
        return set()

    def stop(self) -> None:
        self._over.set()
        self.join()


COMMITTED = "SELECT delivery_id AS id FROM clinical.deliveries UNION ALL SELECT run_id FROM analytics.runs"


def measure(kills: int, seed: int) -> dict[str, Metric]:
    """Kill ``kills`` times and count what was lost, came twice, or is stuck."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    with (
        tempfile.TemporaryDirectory(prefix="medisync-bench-") as folder,
        running_workspace(trial_settings(Path(folder))) as workspace,
        chromium() as browser,
    ):
        context = browser.new_context()
        log_in(context, workspace.settings)
        page = context.new_page()
        page.goto(workspace.settings.pages_url, wait_until="domcontentloaded")
        page.wait_for_selector(LIVE, timeout=300_000)
        page.evaluate("window.neverReloaded = true")
        arrivals, acknowledged = Arrivals(workspace, random.Random(seed + 1)), Acknowledged(workspace)  # noqa: S311
        arrivals.start()
        acknowledged.start()
        killed = Counter(_kill_one(workspace, chance) for _ in range(kills))
        arrivals.stop()
        last_kill = dt.datetime.now(dt.UTC)
        _say(f"killed {dict(killed)}; {len(arrivals.dropped)} files dropped")
        stuck = _stuck(workspace, last_kill)
        quiet = _until_quiet(workspace, arrivals, last_kill)
        acknowledged.stop()
        lost, duplicated, told = _reconciled(workspace, arrivals, acknowledged)
        _say(told)
        states = Counter(run["state_name"] for run in _flow_runs(workspace, None))
        _say(f"flow runs: {dict(states)}")
        shown = f"{len(arrivals.dropped) * ROWS:,}"
        recovered = _shows(page, shown)
        if not recovered:
            _say("the page says: " + page.inner_text("body")[:600])
    return {
        "kills": Metric(sum(killed.values()), "", "200"),
        "lost": Metric(lost, "", "0"),
        "duplicated": Metric(duplicated, "", "0"),
        "stuck": Metric(len(stuck), "", "0"),
        "pages_recovered": Metric(float(recovered), "", "1"),
        "files": Metric(len(arrivals.dropped), "", "shown"),
        "seconds_until_all_was_done": Metric(round(quiet), "s", "shown"),
    }


def _kill_one(workspace: RunningWorkspace, chance: random.Random) -> str:
    time.sleep(chance.uniform(*KILL_SECONDS))
    while True:
        kind = chance.choice([*SERVICES, *FORKED, *FORKED])
        victims = _service(workspace, kind) if kind in SERVICES else _forked(workspace, kind)
        if not victims:
            time.sleep(0.1)
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(victims).send_signal(signal.SIGKILL)
            return kind


def _service(workspace: RunningWorkspace, name: str) -> list[psutil.Process]:
    state = json.loads((workspace.settings.run_state / "supervisor.json").read_text(encoding="utf-8"))
    pid = state["services"][name]["pid"]
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return []


def _forked(workspace: RunningWorkspace, kind: str) -> list[psutil.Process]:
    """Flow runs or kernels, with the guards beside them: forks keep the command line of their server."""
    servers = {process.pid for name in ("kernels", "flow-runs") for process in _service(workspace, name)}
    found = []
    for process in psutil.Process(workspace.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.pid not in servers and FORKED[kind] in process.cmdline():
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


def _flow_runs(workspace: RunningWorkspace, types: list[str] | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        body: dict[str, Any] = {"limit": 200, "offset": len(found), "sort": "START_TIME_ASC"}
        if types:
            body["flow_runs"] = {"state": {"type": {"any_": types}}}
        with contextlib.suppress(httpx.HTTPError):  # it is being started again
            some = workspace.api("POST", "/flow_runs/filter", json=body)
            found += some
            if len(some) < body["limit"]:
                return found
            continue
        time.sleep(0.5)


def _stuck(workspace: RunningWorkspace, last_kill: dt.datetime) -> list[dict[str, Any]]:
    """Flow runs whose attempt was going on at the last kill and has not ended 90 seconds later."""
    deadline = last_kill + dt.timedelta(seconds=END_SECONDS)
    while True:
        runs = _flow_runs(workspace, UNFINISHED)
        stuck = [run for run in runs if dt.datetime.fromisoformat(run["state"]["timestamp"]) < last_kill]
        if not stuck or dt.datetime.now(dt.UTC) > deadline:
            break
        time.sleep(1.0)
    for run in stuck:
        history = workspace.api("GET", f"/flow_run_states/?flow_run_id={run['id']}")
        _say(f"stuck: {run['name']} {[(one['name'], one['timestamp']) for one in history]}")
    return stuck


def _until_quiet(workspace: RunningWorkspace, arrivals: Arrivals, since: dt.datetime) -> float:
    """Wait until every file is recorded and every flow run is over; seconds since the last kill."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        rows = workspace.lake().query("SELECT count(DISTINCT content_hash) AS n FROM clinical.deliveries")
        if rows[0]["n"] >= len(arrivals.dropped) and not _flow_runs(workspace, UNFINISHED):
            break
        time.sleep(1.0)
    return (dt.datetime.now(dt.UTC) - since).total_seconds()


def _reconciled(workspace: RunningWorkspace, arrivals: Arrivals, acknowledged: Acknowledged) -> tuple[int, int, str]:
    lake = workspace.lake()
    loaded = Counter(
        row["content_hash"]
        for row in lake.query("SELECT content_hash FROM clinical.deliveries WHERE status = 'loaded'")
    )
    [rows] = lake.query("SELECT count(*) AS n, count(DISTINCT admission_key) AS keys FROM clinical.admissions")
    missing_files = sum(one not in loaded for one in arrivals.dropped)
    missing_rows = max(0, len(arrivals.dropped) * ROWS - int(rows["keys"]))
    forgotten = len(acknowledged.seen - acknowledged.look())
    twice = sum(number - 1 for number in loaded.values()) + int(rows["n"]) - int(rows["keys"])
    told = (
        f"{missing_files} files and {missing_rows} rows missing, {forgotten} of {len(acknowledged.seen)} commits gone, "
        f"{twice} twice"
    )
    return missing_files + missing_rows + forgotten, twice, told


def _shows(page: Any, text: str) -> bool:
    """Whether the page that was open all the time comes to show ``text``, without anybody's help."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):  # it is just being loaded
            if text in page.inner_text("main"):
                return True
        time.sleep(1.0)
    return False


def _say(what: str) -> None:
    print(f"{dt.datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)  # noqa: DTZ005


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given, others = parser.parse_known_args()
    main(lambda: measure(given.kills, given.seed), others)
