"""The API's own process: several workers, an orderly end, ids that outlive it, a lake it cannot read."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.api import server
from medisync.lake import Lake
from medisync.runs import planning
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv
from tests.support.published import publish_result
from tests.support.running import PATIENCE_SECONDS, child_environment, trial_settings, wait_until

pytestmark = pytest.mark.servers

PASSWORD = "seven green bottles on a wall"
WORKERS = 2


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    from medisync import intake

    folder = tmp_path_factory.mktemp("process")
    settings = trial_settings(folder, api_workers=WORKERS, log_json=True)
    lake = Lake(settings)
    intake.ingest(lake, write_csv(folder / "admissions.csv", admissions(60)))
    Access.open(settings).accounts.add("reader", Role.ANALYST, PASSWORD, must_change=False)
    yield lake
    lake.close()


@contextlib.contextmanager
def api_process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The supervisor's own command, until all its workers serve; its log goes to ``data/logs/api.log``.

    One that is still starting sees what is committed meanwhile as what there is, and not as an event.
    """
    log_file = settings.logs / "api.log"
    with log_file.open("ab") as log:
        begun = log.tell()
        process = subprocess.Popen(server.command(), env=child_environment(settings), stdout=log, stderr=log)

    def answers() -> bool:
        if log_file.read_bytes()[begun:].count(b"Application startup complete.") < settings.api_workers:
            return False
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(server.health_url(settings), timeout=30).status_code in (200, 503)
        return False

    try:
        wait_until(answers, seconds=90, what="the API answers")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


def token(settings: Settings) -> dict[str, str]:
    url = f"{server.address(settings)}api/auth/token"
    answer = httpx.post(
        url, json={"username": "reader", "password": PASSWORD}, timeout=PATIENCE_SECONDS
    ).raise_for_status()
    return {"Authorization": f"Bearer {answer.json()['data']['access_token']}"}


def fail_once(lake: Lake) -> str:
    [plan] = planning.plan(lake, ["illness_prediction"])
    return publish_result(lake, plan, None).run_id


def test_every_worker_sees_a_commit_and_an_id_outlives_them_all(filled: Lake) -> None:
    settings = filled.settings
    with api_process(settings) as process:
        headers = token(settings)
        first = fail_once(filled)
        asked: list[bool] = []

        def seen(_: int) -> bool:
            """By a connection of its own, so that any worker may be the one that answers."""
            asked.append(True)
            shown = httpx.get(
                f"{server.address(settings)}api/analytics/realtime/", headers=headers, timeout=PATIENCE_SECONDS
            ).json()
            return any(one["type"] == "illness_prediction" and one["freshness"] == "failed"
                       for one in shown["data"]["analyses"])  # fmt: skip

        wait_until(lambda: all(map(seen, range(6))), seconds=30, what="every worker shows the failed run")
        answered = 'medisync_requests_total{method="GET",route="/api/analytics/realtime",status="200"}'

        of_all = {f"{answered} {len(asked)}.0", f'medisync_events_total{{event="run.failed"}} {WORKERS}.0'}

        def are_summed() -> bool:
            figures = httpx.get(f"{server.address(settings)}metrics", timeout=PATIENCE_SECONDS).text
            return of_all <= set(figures.splitlines())

        wait_until(are_summed, seconds=30, what="the figures are those of all workers")
        with httpx.stream(
            "GET", f"{server.address(settings)}api/analytics/stream/", headers=headers, timeout=PATIENCE_SECONDS
        ) as one:
            lines = one.iter_lines()
            last_id = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
            workers = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGTERM)
            list(lines)  # it ends, and so does this
        assert process.wait(PATIENCE_SECONDS) in (0, -signal.SIGTERM)
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
        assert alive == []
    second = fail_once(filled)
    with api_process(settings):
        given = {**token(settings), "Last-Event-ID": last_id}
        with httpx.stream(
            "GET", f"{server.address(settings)}api/analytics/stream/", headers=given, timeout=PATIENCE_SECONDS
        ) as one:
            data = next(line for line in one.iter_lines() if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))["run_id"] == second
    assert first != second
    log = [json.loads(line) for line in (settings.logs / "api.log").read_text(encoding="utf-8").splitlines()]
    assert any(line.get("event") == "run.failed" and line.get("run_id") == first for line in log)
    assert all("ward 7" not in json.dumps(line) for line in log)


@pytest.mark.parametrize("fault", ["cannot be written", "not a database"])
def test_a_lake_that_cannot_be_read_is_said_so_and_the_service_lives_on(
    filled: Lake, tmp_path: Path, fault: str
) -> None:
    settings = trial_settings(tmp_path)
    shutil.copytree(filled.settings.data, settings.data)
    if fault == "cannot be written":
        locked = settings.lake / "write.lock"
        locked.unlink(missing_ok=True)
        locked.mkdir()  # what a folder nobody may write to means for its lock, also where tests run as root
    else:
        for journal in settings.lake.glob("catalog.sqlite-*"):
            journal.unlink()  # SQLite would take pages from it
        settings.lake.joinpath("catalog.sqlite").write_bytes(b"Sekretwert" * 1000)
    with api_process(settings):
        headers = token(settings)
        answer = httpx.get(f"{server.address(settings)}api/deliveries/", headers=headers, timeout=PATIENCE_SECONDS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "lake-unreadable")
        assert "Sekretwert" not in answer.text

        def is_down() -> bool:
            health = httpx.get(server.health_url(settings), timeout=PATIENCE_SECONDS)
            return (health.status_code, health.json()["data"]["status"]) == (503, "down")

        wait_until(is_down, seconds=60, what="the process that answers has looked at the lake, too")
        assert (
            httpx.get(f"{server.address(settings)}api/auth/me", headers=headers, timeout=PATIENCE_SECONDS).status_code
            == 200
        )
