"""Starting, restarting and stopping a workspace."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from websockets import Subprotocol
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from medisync.access.permissions import Role
from medisync.intake import arrival
from medisync.supervisor import crashes
from tests.support.admissions_csv import admissions, write_csv
from tests.support.login import cookies, log_in
from tests.support.pages import Watched, chromium
from tests.support.running import (
    PATIENCE_SECONDS,
    RunningWorkspace,
    child_environment,
    medisync,
    running_workspace,
    trial_settings,
    wait_until,
)

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorkspace]:
    # Heartbeats come each half minute; what is slow beyond that counts as crashed and is tried again, without harm.
    settings = trial_settings(tmp_path_factory.mktemp("supervised"), crash_seconds=35.0, crash_tries=9)
    with running_workspace(settings) as workspace:
        yield workspace


def services(workspace: RunningWorkspace) -> dict[str, dict[str, object]]:
    state = json.loads((workspace.settings.run_state / "supervisor.json").read_text(encoding="utf-8"))
    return dict(state["services"])


def test_everything_listens_on_this_machine_only(running: RunningWorkspace) -> None:
    tree = [psutil.Process(running.process.pid), *psutil.Process(running.process.pid).children(recursive=True)]
    listening = [
        connection.laddr.ip
        for process in tree
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_the_first_administrator_logs_in_with_what_was_printed(running: RunningWorkspace) -> None:
    told = re.findall(r"First login: name (\S+), one-time password (\S+)", running.said())
    assert len(told) == 1
    ((name, password),) = told
    answer = httpx.post(
        f"{running.settings.api_url}api/auth/token",
        json={"username": name, "password": password},
        timeout=PATIENCE_SECONDS,
    )
    assert answer.json()["data"]["must_change_password"]
    logged = [path for path in running.settings.logs.iterdir() if password in path.read_text(errors="replace")]
    assert logged == []


def test_prefect_asks_for_its_secret_and_its_door_for_an_administrator(running: RunningWorkspace) -> None:
    settings = running.settings
    assert httpx.post(f"{settings.prefect_api_url}/flows/filter", timeout=PATIENCE_SECONDS).status_code == 401
    door = f"{settings.api_url}prefect"
    for role, status in [(Role.ANALYST, 403), (Role.ADMIN, 200)]:
        assert (
            httpx.get(f"{door}/ui-settings", cookies=cookies(settings, role), timeout=PATIENCE_SECONDS).status_code
            == status
        )
    known = cookies(settings, Role.ADMIN)
    told = httpx.get(f"{door}/ui-settings", cookies=known, timeout=PATIENCE_SECONDS).json()
    assert (told["api_url"], told["auth"]) == (f"{door}/api", None)
    page = httpx.get(f"{door}/v2/", cookies=known, timeout=PATIENCE_SECONDS)
    assert page.status_code == 200
    assert "connect-src 'self' ws://127.0.0.1" in page.headers["Content-Security-Policy"]
    script = re.search(r'src="(/prefect/v2/[^"]+\.js)"', page.text)
    assert script is not None
    loaded = httpx.get(
        settings.api_url.rstrip("/") + script[1],
        cookies=known,
        headers={"Accept-Encoding": "gzip"},
        timeout=PATIENCE_SECONDS,
    )
    assert "javascript" in loaded.headers["Content-Type"]
    assert len(loaded.text) > 1000
    assert httpx.get(settings.api_url.rstrip("/") + script[1], timeout=PATIENCE_SECONDS).status_code == 401

    site = settings.api_url.rstrip("/")
    held = {"Cookie": "; ".join(f"{name}={value}" for name, value in known.items())}
    address = f"{door.replace('http', 'ws')}/api/events/out"
    options = {"subprotocols": [Subprotocol("prefect")], "proxy": None}
    for headers, origin in [({}, site), (held, "http://evil.example")]:
        with pytest.raises(InvalidStatus):
            connect(address, additional_headers=headers, origin=origin, **options)
    with connect(address, additional_headers=held, origin=site, **options) as events:
        events.send(json.dumps({"type": "auth", "token": None}))
        assert json.loads(events.recv(timeout=PATIENCE_SECONDS))["type"] == "auth_success"
        events.send(json.dumps({"type": "filter", "filter": {}}))
        wait_until(lambda: _hears_of_an_event(events, door, known, site), seconds=60, what="an event is heard of")


@pytest.mark.browser
def test_prefect_s_pages_open_behind_the_door_and_ask_no_other_machine(running: RunningWorkspace) -> None:
    settings = running.settings
    with chromium() as browser:
        context = browser.new_context()
        log_in(context, settings, Role.ADMIN)
        watched = Watched(context.new_page())
        refused: list[str] = []
        watched.page.on("requestfailed", lambda request: refused.append(request.url))
        watched.page.goto(f"{settings.api_url}prefect/deployments", wait_until="domcontentloaded")

        def names_ours() -> bool:
            watched.page.wait_for_timeout(100)
            return "refresh-cache" in watched.page.inner_text("body")

        wait_until(names_ours, seconds=PATIENCE_SECONDS, what="Prefect's own page names our deployments")
        asked = [url for url in watched.elsewhere() if url not in refused]
        assert asked == [], "the policy of our door lets its script talk to this door alone"


def _hears_of_an_event(events: ClientConnection, door: str, known: dict[str, str], site: str) -> bool:
    """Whether the stream of events comes through the door, as what goes in does. Which event it is, is Prefect's: its
    stream begins at a moment of its own."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": dt.datetime.now(dt.UTC).isoformat(),
        "event": "medisync.test",
        "resource": {"prefect.resource.id": "medisync.test"},
    }
    posted = httpx.post(
        f"{door}/api/events", json=[event], cookies=known, headers={"Origin": site}, timeout=PATIENCE_SECONDS
    )
    assert posted.status_code == 204
    try:
        return bool(json.loads(events.recv(timeout=3))["event"]["event"])
    except TimeoutError:
        return False


def test_what_dies_is_started_again(running: RunningWorkspace) -> None:
    before = services(running)
    for name in ("watcher", "worker"):
        os.kill(int(str(before[name]["pid"])), signal.SIGKILL)
    after = wait_until(
        lambda: (
            now if all((now := services(running))[name]["restarts"] == 1 for name in ("watcher", "worker")) else None
        ),
        seconds=30,
        what="both are started again",
    )
    assert after["watcher"]["pid"] != before["watcher"]["pid"]
    assert "Inbox watcher stopped" in running.said()


def test_a_file_dropped_after_the_restart_is_loaded(running: RunningWorkspace, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "admissions.csv", admissions(30))
    draft = running.settings.inbox / "admissions.csv.part"  # not ready: nothing may take it
    draft.write_bytes(file.read_bytes())
    draft.replace(running.settings.inbox / "admissions.csv")
    wait_until(
        lambda: running.lake().query("SELECT 1 FROM clinical.deliveries WHERE status = 'loaded' AND created = 30"),
        seconds=90,
        what="the file is loaded",
    )


def test_a_run_killed_together_with_its_worker_crashes_and_is_tried_again(
    running: RunningWorkspace, tmp_path: Path
) -> None:
    """Nobody is left to tell the server: only the missing sign of life does."""
    inbox = running.settings.inbox / "held"
    inbox.mkdir()
    lake = running.lake()
    lake.connection()
    with lake.lock(seconds=PATIENCE_SECONDS):  # so that the run is there to be killed
        (tmp_path / "odd.csv").write_text("a,b\n1,2\n", encoding="utf-8")
        (tmp_path / "odd.csv").rename(inbox / "odd.csv")
        wait_until(lambda: having_turn(running, "held"), seconds=60, what="it has begun")
        claims = ((one, arrival.claimed_file(running.settings, one)) for one in arrival.claimed(running.settings))
        [held] = [one for one, found in claims if found is not None and found[0] == "held"]
        of_held = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}, "name": {"any_": [held]}}}
        [flow_run] = wait_until(
            lambda: running.api("POST", "/flow_runs/filter", json=of_held), seconds=60, what="it is running"
        )
        worker = psutil.Process(int(str(services(running)["worker"]["pid"])))
        of_worker = worker.children(recursive=True)
        # The run, what loads ahead of it, and their guards, before they notice that the worker is dead.
        for process in (worker, *forked_runs(running), *of_worker):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    address = f"/flow_runs/{flow_run['id']}"
    ended = wait_until(
        lambda: (
            run if (run := running.api("GET", address))["run_count"] > 1 and run["state_type"] == "COMPLETED" else None
        ),
        seconds=200,
        what="it was tried again, to its end",
        every=1.0,
    )
    states = running.api("GET", f"/flow_run_states/?flow_run_id={ended['id']}")
    assert "It gave no sign of life." in {one["message"] for one in states}
    assert {one["name"] for one in states} >= {"Running", "Crashed", "AwaitingRetry", "Completed"}
    rows = running.lake().query("SELECT status, reason FROM clinical.deliveries WHERE source = 'held'")
    assert rows == [{"status": "refused", "reason": "UNKNOWN_LAYOUT"}], "what it was to do is done, once"


def forked_runs(workspace: RunningWorkspace) -> list[psutil.Process]:
    """What the fork server of flow runs has forked."""
    server = int(str(services(workspace)["flow-runs"]["pid"]))
    found = []
    for process in psutil.Process(workspace.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "medisync.fastlane.flow_runs" in process.cmdline() and process.pid != server:
                found.append(process)
    return found


def having_turn(workspace: RunningWorkspace, source: str) -> list[psutil.Process]:
    """Those of them that have the lock of the source's turn open; the watcher only looks whether it is free."""
    path = str(workspace.settings.run_state / f"source-{source}.lock")
    found = []
    for process in forked_runs(workspace):
        with contextlib.suppress(psutil.Error):
            found += [process for file in process.open_files() if file.path == path]
    return found


def test_automations_are_registered_once(running: RunningWorkspace) -> None:
    """Registering again changes nothing; one that somebody changed is put right."""

    def registered() -> dict[str, dict[str, object]]:
        found = running.api("POST", "/automations/filter", json={"limit": 200})
        return {one["name"]: one for one in found if one["name"].startswith("medisync-")}

    before = registered()
    assert before.keys() == {one["name"] for one in crashes.automations(running.settings)}
    with httpx.Client() as client:
        crashes.register(running.settings, client)
        assert registered() == before
        changed = running.settings.model_copy(update={"crash_tries": 2})
        crashes.register(changed, client)
        assert {name for name, one in registered().items() if one != before[name]} == {"medisync-try-again"}
        crashes.register(running.settings, client)


def test_a_second_supervisor_is_refused(running: RunningWorkspace) -> None:
    second = medisync(running.settings, "up")
    assert second.returncode == 14
    assert "already-running" in second.stderr


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    settings = trial_settings(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.pages_port))
        taken.listen()
        refused = medisync(settings, "up")
    assert refused.returncode == 12
    assert str(settings.pages_port) in refused.stderr
    assert "MEDISYNC_PAGES_PORT" in refused.stderr


def test_down_leaves_no_process_behind(running: RunningWorkspace) -> None:
    tree = psutil.Process(running.process.pid).children(recursive=True)
    assert len(tree) >= 4
    stopped = running.medisync("down")
    assert stopped.returncode == 0, stopped.stderr
    running.process.wait(PATIENCE_SECONDS)
    _, alive = psutil.wait_procs(tree, timeout=PATIENCE_SECONDS)
    assert alive == []
    assert running.medisync("down").returncode == 13


def test_ingest_and_run_need_no_server(tmp_path: Path) -> None:
    settings = trial_settings(tmp_path)
    file = write_csv(tmp_path / "admissions.csv", admissions(400))
    done = medisync(settings, "ingest", str(file), "--json")
    assert done.returncode == 0, done.stderr
    delivery = json.loads(done.stdout)
    assert {name: delivery[name] for name in ("status", "rows_read", "created", "updated", "deleted")} == {
        "status": "loaded",
        "rows_read": 400,
        "created": 400,
        "updated": 0,
        "deleted": 0,
    }
    ran = medisync(settings, "run", "patient_demographics", "medication_analysis", "--json")
    assert ran.returncode == 0, ran.stderr
    outcomes = {one["analysis"]: one for one in map(json.loads, ran.stdout.splitlines())}
    assert outcomes.keys() == {"patient_demographics", "medication_analysis"}
    assert all(one["status"] == "completed" and not one["skipped"] for one in outcomes.values())
    again = medisync(settings, "run", "patient_demographics", "--json")
    assert json.loads(again.stdout)["skipped"]
    assert json.loads(again.stdout)["run_id"] == outcomes["patient_demographics"]["run_id"]


def test_an_error_is_one_message_and_its_exit_code(tmp_path: Path) -> None:
    settings = trial_settings(tmp_path)
    nothing = medisync(settings, "run")
    assert (nothing.returncode, "Traceback" in nothing.stderr) == (7, False)
    unknown = medisync(settings, "run", "no_such_analysis")
    assert unknown.returncode == 4
    refused = medisync(settings, "ingest", str(tmp_path / "missing.csv"))
    assert refused.returncode == 8
    assert "missing.csv" in refused.stdout
    misspelt = {**child_environment(settings), "MEDISYNC_DTA": "x"}
    import subprocess
    import sys

    wrong = subprocess.run(
        [sys.executable, "-m", "medisync.cli.main", "status"], env=misspelt, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 3
    assert "MEDISYNC_DTA" in wrong.stderr
