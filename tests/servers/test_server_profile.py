"""The whole way with Postgres below it: started before the database is, and the database restarted in the middle.

The tests of this module tell one story and run in their order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from medisync.access.permissions import Role
from medisync.access.service import Access
from tests.conftest import ROOT
from tests.support.admissions_csv import admissions, write_csv
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.running import PATIENCE_SECONDS, RunningWorkspace, running_workspace, trial_settings, wait_until
from tests.support.small_notebooks import write_notebook

pytestmark = pytest.mark.servers

NAME, PASSWORD = "nightingale", "lamp oil and clean water"


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    """A server of this module's own, which it may stop."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def workspace(database: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorkspace]:
    """A workspace with one small analysis, asked for its password over TCP; its database starts after it."""
    folder = tmp_path_factory.mktemp("server")
    write_notebook(folder / "notebooks" / "analyses", "count")
    (folder / "notebooks" / "dashboards").symlink_to(ROOT / "notebooks" / "dashboards")
    settings = trial_settings(
        folder,
        notebooks=folder / "notebooks",
        database_url=database.url(database.new_database(), tcp=True),
        database_passfile=database.passfile,
        inbox_settle_seconds=0.0,
    )
    database.stop()
    with running_workspace(
        settings, "--profile", "server", meanwhile=lambda said: database.start_when("Waiting for it" in said)
    ) as running:
        running.settings = settings.model_copy(update={"profile": "server"})
        yield running


@pytest.fixture(scope="module")
def client(workspace: RunningWorkspace) -> Iterator[httpx.Client]:
    """An analyst of the API."""
    Access.open(workspace.settings).accounts.add(NAME, Role.ANALYST, PASSWORD, must_change=False)
    with httpx.Client(base_url=workspace.settings.api_url, timeout=PATIENCE_SECONDS) as opened:
        answer = opened.post("/api/auth/token", json={"username": NAME, "password": PASSWORD})
        opened.headers["Authorization"] = f"Bearer {answer.json()['data']['access_token']}"
        yield opened


def headline(client: httpx.Client) -> Any:
    answer = client.get("/api/analytics/?type=count")
    return answer.json()["data"]["result"]["headline"] if answer.is_success else None


def test_it_waits_for_a_database_that_is_not_up_yet(workspace: RunningWorkspace) -> None:
    said = workspace.said()
    assert "cannot be reached: " in said
    assert said.index("Waiting for it") < said.index("answers.") < said.index("Prefect is up")


def test_the_sample_is_loaded_analysed_and_served(
    workspace: RunningWorkspace, client: httpx.Client, sample: Path
) -> None:
    shutil.copyfile(sample, workspace.settings.inbox / sample.name)
    wait_until(lambda: headline(client) == "50000 admissions.", seconds=600, what="the API answers")
    (delivery,) = client.get("/api/deliveries/").json()["data"]["deliveries"]
    assert (delivery["status"], delivery["created"]) == ("loaded", 50_000)


def test_nothing_of_it_lies_in_sqlite_and_the_password_nowhere(
    workspace: RunningWorkspace, database: PostgresServer
) -> None:
    settings = workspace.settings
    assert not [path for pattern in ("*.sqlite*", "*.db") for path in settings.data.rglob(pattern)]
    with database.connect(settings.database_url.rsplit("/", 1)[1]) as connection:
        completed = "SELECT 1 FROM prefect.flow_run WHERE state_type = 'COMPLETED'"
        wait_until(lambda: connection.execute(completed).fetchone(), seconds=60, what="the sample's flow run is there")
    children = psutil.Process(workspace.process.pid).children(recursive=True)
    told = [*(word for process in children for word in process.cmdline()), workspace.said()]
    told += [path.read_text(errors="replace") for path in settings.logs.glob("*.log")]
    told += [workspace.medisync(*words).stdout for words in (["settings"], ["doctor"])]
    assert not [text for text in told if database.password in text]


def test_the_privacy_scan_finds_nobody_in_the_database(workspace: RunningWorkspace) -> None:
    """Catalog, ledger and Prefect's tables, for everybody of the sample."""
    done = workspace.medisync("privacy-scan", str(workspace.settings.data), "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["findings"], report["unreadable"]) == (0, [], [])
    assert report["sought"] > 100_000
    assert report["files"] > 80


def test_a_database_that_goes_and_comes_back_loses_nothing(
    workspace: RunningWorkspace, client: httpx.Client, database: PostgresServer
) -> None:
    """What is shown stays, what must be asked for says why it cannot be had, what arrives meanwhile is taken later."""
    database.stop()
    answer = wait_until(
        lambda: found if (found := client.get("/api/deliveries/")).is_error else None, seconds=60, what="it is noticed"
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] in ("database-away", "ledger-away", "lake-unreadable")
    assert database.password not in answer.text
    told = workspace.medisync("status")
    assert told.returncode == 91
    assert "cannot be reached" in told.stderr
    write_csv(workspace.settings.inbox / "later.csv", admissions(7))
    database.start()
    wait_until(lambda: headline(client) == "50007 admissions.", seconds=600, what="the API answers again")
    assert workspace.process.poll() is None
