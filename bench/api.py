"""The API under load: ``python -m bench.api [--json]``.

A real API process over a lake with the sample; no Prefect, since reading needs none. The load comes from
``bench/clients.py`` and ``bench/listeners.py``: a bounded number of plain sockets to 127.0.0.1. The peer of the cached
GET is a bare FastAPI route that returns the same bytes under the same uvicorn settings, asked in turn with ours.
Analyses and deliveries are run by the command line meanwhile, at once, on the same cores. Takes about three minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import json
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.clients import HOST, closed_loop, steady
from bench.report import Metric, main
from medisync import intake
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.access.sessions import FAMILY_LIFE
from medisync.api import server
from medisync.lake import Lake
from medisync.runs.publishing import publish
from medisync.runs.record import RunRecord, RunStatus, new_run_id
from medisync.settings import Settings
from medisync.supervisor.ready import SAMPLE
from tests.support.running import child_environment, free_ports, medisync, trial_settings, wait_until

ANALYSIS = "patient_demographics"
PATH = f"/api/analytics/?type={ANALYSIS}"
READ_PATHS = (PATH, "/api/analytics/realtime/", "/api/analytics/history/", "/api/deliveries/", "/api/health")

ROUNDS, ROUND_SECONDS, CONNECTIONS = 5, 2.0, 8
RATE, RATE_SECONDS = 200.0, 20.0
STREAMS, STREAM_EVENTS, STREAM_EVERY_SECONDS, STREAM_LAST_SECONDS = 1_000, 20, 0.5, 5.0
READ_RATE = 50.0
DELIVERIES, WRITTEN_SECONDS = 3, 45.0
STARTED = time.monotonic()
PASSWORD = secrets.token_urlsafe(18)


def measure() -> dict[str, Metric]:
    """Cached reads against a bare route, beside an analysis and while the lake is written; 1,000 streams."""
    _raise_open_files()
    with tempfile.TemporaryDirectory(prefix="medisync-bench-") as name:
        folder = Path(name)
        settings = trial_settings(folder)
        _say("a lake with the sample, and one result")
        lake = _filled_lake(settings)
        with _process(server.command(), child_environment(settings), settings.api_port) as api:
            headers = {"Authorization": f"Bearer {_token(settings)}"}
            _say("cached reads against a bare route")
            ours, bare = _against_bare(folder, settings, headers)
            _say(f"{RATE:g} reads a second beside an analysis")
            p99 = _beside_an_analysis(settings, headers)
            _say(f"{STREAMS:,} streams")
            stream = _streams(settings, api, lake)
            _say("reads while files are delivered and analysed")
            errors, reads = _while_written(folder, settings, headers)
        lake.close()
        _say("done")
    peer = "bare FastAPI route, same bytes"
    return {
        "cached_get_ratio_to_bare": Metric(round(ours / bare, 3), "x", ">= 0.5", peer, 1.0),
        "cached_get_per_second": Metric(round(ours), "1/s", "shown", peer, round(bare)),
        "p99_ms_at_200rps": Metric(round(1000 * p99, 1), "ms", "<= 25"),
        "stream_median_seconds_1000_clients": Metric(round(stream["p50"], 3), "s", "shown"),
        "stream_p99_seconds_1000_clients": Metric(round(stream["p99"], 3), "s", "<= 1"),
        "stream_kb_per_client": Metric(round(stream["kb"], 1), "KB", "<= 100"),
        "stream_events_missed": Metric(stream["missed"], "", "0"),
        "read_errors_under_load": Metric(errors, "", "0"),
        "reads_under_load": Metric(reads, "", "shown"),
    }


def _say(what: str) -> None:
    """What is measured next, and how long everything took so far."""
    print(f"{time.monotonic() - STARTED:5.0f} s  {what}", file=sys.stderr, flush=True)


def _filled_lake(settings: Settings) -> Lake:
    """The sample, and a result of one analysis; an account that may read everything."""
    lake = Lake(settings)
    intake.ingest(lake, SAMPLE)
    done = medisync(settings, "run", ANALYSIS)
    if done.returncode:
        raise RuntimeError(done.stderr)
    Access.open(settings).accounts.add("bench", Role.ANALYST, PASSWORD, must_change=False)
    return lake


def _token(settings: Settings) -> str:
    answer = httpx.post(
        f"http://{HOST}:{settings.api_port}/api/auth/token", json={"username": "bench", "password": PASSWORD}
    )
    return str(answer.raise_for_status().json()["data"]["access_token"])


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str], port: int) -> Iterator[psutil.Process]:
    """``command``, until it listens; ended at the end."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_up() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://{HOST}:{port}/api/health").status_code > 0
        return False

    try:
        wait_until(is_up, seconds=120, what=f"port {port} answers")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _against_bare(folder: Path, settings: Settings, headers: dict[str, str]) -> tuple[float, float]:
    """Requests a second of ours and of the bare route: medians of rounds in turn."""
    body = folder / "body.json"
    body.write_bytes(httpx.get(f"http://{HOST}:{settings.api_port}{PATH}", headers=headers).content)
    [port] = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "bench.peers.bare_api:app", "--port", str(port), "--no-access-log",
               "--no-server-header", "--log-level", "error"]  # fmt: skip
    with _process(command, {**os.environ, "BENCH_BODY": str(body)}, port):
        pairs = [(_rate(settings.api_port, headers), _rate(port, headers)) for _ in range(ROUNDS)]
    ours, bare = zip(*pairs[1:], strict=True)  # the first warms up
    return statistics.median(ours), statistics.median(bare)


def _rate(port: int, headers: dict[str, str]) -> float:
    tally = asyncio.run(closed_loop(port, PATH, headers, connections=CONNECTIONS, seconds=ROUND_SECONDS))
    if tally.errors:
        raise RuntimeError(f"{len(tally.errors)} errors: {tally.errors[0]}")
    return len(tally.seconds) / ROUND_SECONDS


def _beside_an_analysis(settings: Settings, headers: dict[str, str]) -> float:
    """The 99th percentile in seconds at a steady rate while an analysis runs again and again."""
    with _running(settings, "run", ANALYSIS, "--force"):
        tally = asyncio.run(steady(settings.api_port, [PATH], headers, rate=RATE, seconds=RATE_SECONDS))
    if tally.errors:
        raise RuntimeError(f"{len(tally.errors)} errors: {tally.errors[0]}")
    return tally.percentile(0.99)


@contextlib.contextmanager
def _running(settings: Settings, *arguments: str) -> Iterator[None]:
    """The command line again and again, until the block ends; it has begun its work when the block begins."""
    command = [sys.executable, "-m", "medisync.cli.main", *arguments]
    loop = "while True:\n    subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)"
    runner = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys\n{loop}", *command],
        env=child_environment(settings),
        start_new_session=True,
    )
    try:
        notes = settings.run_state / "runs"
        wait_until(lambda: any(notes.glob("r*.json")), seconds=60, what="the analysis runs")
        yield
    finally:
        tree = [*psutil.Process(runner.pid).children(recursive=True), psutil.Process(runner.pid)]
        for process in reversed(tree):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        runner.wait(10)


def _tokens(settings: Settings, number: int) -> list[str]:
    """A token of a session of its own for each client, as after as many logins; without their passwords' argon2."""
    access = Access.open(settings)
    sessions = [access.sessions.start("bench", "token", FAMILY_LIFE).session_id for _ in range(number)]
    tokens = [access.tokens.issue("bench", Role.ANALYST, one) for one in sessions]
    access.ledger.dispose()
    return tokens


def _streams(settings: Settings, api: psutil.Process, lake: Lake) -> dict[str, Any]:
    """Many clients on one process, each with a session of its own; how long a commit takes to reach each, and what a
    client costs in memory."""
    tokens = _tokens(settings, STREAMS)
    before = api.memory_full_info().uss
    command = [sys.executable, "-m", "bench.listeners", str(settings.api_port)]
    listeners = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert listeners.stdin is not None and listeners.stdout is not None  # noqa: S101, PT018 - for the type checker
    try:
        listeners.stdin.write(json.dumps(tokens) + "\n")
        listeners.stdin.flush()
        if listeners.stdout.readline().strip() != "ready":
            raise RuntimeError("the stream ended before it began")
        time.sleep(1.0)
        kilobytes = (api.memory_full_info().uss - before) / 1000 / STREAMS
        like = _completed(lake)
        committed = {}
        for _ in range(STREAM_EVENTS):
            run_id, at = _commit_a_run(lake, like)
            committed[run_id] = at
            time.sleep(STREAM_EVERY_SECONDS)
        time.sleep(STREAM_LAST_SECONDS)
        answer, _ = listeners.communicate("enough\n", timeout=30)
    finally:
        listeners.kill()
        listeners.wait()
    heard = json.loads(answer)["heard"]
    delays = sorted(arrived - at for run_id, at in committed.items() for arrived in heard.get(run_id, []))
    return {
        "p50": delays[len(delays) // 2],
        "p99": delays[int(0.99 * len(delays))],
        "kb": kilobytes,
        "missed": STREAMS * STREAM_EVENTS - len(delays),
    }


def _completed(lake: Lake) -> RunRecord:
    """The record of a run that has a result."""
    [row] = lake.query("SELECT record FROM analytics.runs WHERE status = 'completed' ORDER BY run_id DESC LIMIT 1")
    return RunRecord.model_validate_json(row["record"])


def _commit_a_run(lake: Lake, like: RunRecord) -> tuple[str, float]:
    """A failed run's record in the lake; its id, and when the commit was acknowledged."""
    changes = {"run_id": new_run_id(), "status": RunStatus.FAILED, "error_code": "notebook-raised", "headline": None}
    record = like.model_copy(update=changes)
    publish(lake, record, None)
    return record.run_id, time.monotonic()


def _while_written(folder: Path, settings: Settings, headers: dict[str, str]) -> tuple[int, int]:
    """Errors and reads while deliveries are loaded and analyses run; no further delivery after WRITTEN_SECONDS."""
    errors: list[str] = []
    reads = 0
    until = time.monotonic() + WRITTEN_SECONDS
    for number in range(1, DELIVERIES + 1):
        file = _variant(folder, number)
        script = " && ".join(
            f"{sys.executable} -m medisync.cli.main {one}" for one in (f"ingest {file}", f"run {ANALYSIS}")
        )
        writer = subprocess.Popen(["/bin/sh", "-c", script], env=child_environment(settings), stdout=subprocess.DEVNULL)
        while writer.poll() is None:
            asked = steady(settings.api_port, READ_PATHS, headers, rate=READ_RATE, seconds=1.0, connections=8)
            tally = asyncio.run(asked)
            errors += tally.errors
            reads += len(tally.seconds)
        if writer.returncode:
            raise RuntimeError("a delivery or a run failed")
        if time.monotonic() > until:
            break
    for error in dict.fromkeys(errors):
        print(error, file=sys.stderr)
    return len(errors), reads


def _variant(folder: Path, number: int) -> Path:
    """Some rows of the sample, other patients in each file."""
    target = folder / f"more-{number}.csv"
    with gzip.open(SAMPLE, "rt", encoding="utf-8", newline="") as source:
        rows = list(csv.reader(source))[:4_001]
    for row in rows[1:]:
        row[0] = f"{row[0]} {'abc'[number % 3] * number}"
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return target


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * STREAMS
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


if __name__ == "__main__":
    main(measure)
