"""The API as part of a running workspace: the documentation's examples, tasks, and whatever schemathesis thinks of."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from medisync.access.permissions import Role
from medisync.access.service import Access
from tests.support.admissions_csv import admissions, write_csv
from tests.support.pages import chromium
from tests.support.running import RunningWorkspace, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
EXAMPLES = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
ANALYSIS = "patient_demographics"
NAME, PASSWORD = "nightingale", "lamp oil and clean water"


@dataclass
class Visitor:
    """An analyst with a token."""

    workspace: RunningWorkspace
    client: httpx.Client

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def finished(self, task_id: str) -> dict[str, object]:
        def task() -> dict[str, object] | None:
            data: dict[str, object] = self.get(f"/api/analytics/status/{task_id}/").json()["data"]
            return data if data["state"] in ("completed", "failed") else None

        return wait_until(task, seconds=120, what="the task is over", every=0.3)


@pytest.fixture(scope="module")
def visitor(workspace: RunningWorkspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A workspace with data and the result of one analysis."""
    settings = workspace.settings
    Access.open(settings).accounts.add(NAME, Role.ANALYST, PASSWORD, must_change=False)
    url = f"http://127.0.0.1:{settings.api_port}"
    token = httpx.post(f"{url}/api/auth/token", json={"username": NAME, "password": PASSWORD}).json()["data"]
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token['access_token']}"}, timeout=30)
    opened = Visitor(workspace, client)
    empty = opened.get(f"/api/analytics/?type={ANALYSIS}")
    assert (empty.status_code, empty.json()["error"]["code"]) == (404, "no-result")
    asked = client.post("/api/analytics/", json={"analysis_type": ANALYSIS})
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "no-data")
    file = write_csv(tmp_path_factory.mktemp("files") / "admissions.csv", admissions(300))
    draft = settings.inbox / ".admissions.csv"
    draft.write_bytes(file.read_bytes())
    draft.replace(settings.inbox / "admissions.csv")

    def is_current() -> bool:
        shown = opened.get("/api/analytics/realtime/").json()["data"]["analyses"]
        return all(one["freshness"] in ("current", "failed") for one in shown)

    wait_until(is_current, seconds=180, what="the analyses have answered", every=0.5)
    yield opened
    client.close()


def test_every_part_is_up(visitor: Visitor) -> None:
    data = visitor.get("/api/health/").json()["data"]
    assert {one["name"]: one["state"] for one in data["parts"] if one["state"] != "up"} == {}
    assert {"api", "lake", "prefect", "worker", "watcher", "pages"} <= {one["name"] for one in data["parts"]}


def test_the_curl_examples_do_what_they_say(visitor: Visitor, tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(re.findall(r"```bash\n(.*?)```", EXAMPLES, flags=re.S))
    environment = {**os.environ, "MEDISYNC": str(visitor.client.base_url), "NAME": NAME, "PASSWORD": PASSWORD}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "304" in done.stdout.splitlines()
    assert json.loads((tmp_path / "result.json").read_bytes())["data"]["type"] == ANALYSIS
    assert '"state":"completed"' in done.stdout
    assert "event: stream.ready" in done.stdout


@pytest.mark.browser
def test_the_javascript_example_does_what_it_says(visitor: Visitor) -> None:
    [code] = re.findall(r"```js\n(.*?)```", EXAMPLES, flags=re.S)
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        said.append(message.text)

    with chromium() as browser:
        page = browser.new_page(base_url=str(visitor.client.base_url))
        page.on("console", note)
        page.goto("/login")
        page.fill("input[name=username]", NAME)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url("**/")
        page.goto("/api/docs/")
        page.get_by_text("/api/analytics/realtime").first.wait_for()
        page.evaluate(f"async () => {{ {code} }}")
        assert said[-1] == f"true {ANALYSIS}"
        assert [one for one in said if "Content Security Policy" in one] == []


def test_requests_of_one_moment_share_a_task(visitor: Visitor) -> None:
    body = {"analysis_type": ANALYSIS, "force_refresh": True, "parameters": {"period_months": 6}}

    def ask(_: int) -> httpx.Response:
        return visitor.client.post("/api/analytics/", json=body)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert {one.status_code for one in answers} == {202}
    [task_id] = {one.json()["data"]["task_id"] for one in answers}
    task = visitor.finished(task_id)
    assert (task["state"], task["progress"]) == ("completed", {"done": 1, "of": 1})
    [step] = task["analyses"]  # type: ignore[misc]
    assert step["run"]["parameters"]["period_months"] == 6  # type: ignore[index]
    history = visitor.get(f"/api/analytics/history/?type={ANALYSIS}&limit=200").json()["data"]["runs"]
    assert [one["run_id"] for one in history if one["task_id"] == task_id] == [step["run"]["run_id"]]  # type: ignore[index]
    again = visitor.client.post("/api/analytics/", json={**body, "force_refresh": False})
    assert (again.status_code, again.json()["data"]["run_ids"]) == (200, [step["run"]["run_id"]])  # type: ignore[index]


def test_a_refresh_is_a_task(visitor: Visitor) -> None:
    asked = visitor.client.post("/api/analytics/refresh/")
    assert asked.status_code == 202
    assert visitor.finished(asked.json()["data"]["task_id"])["state"] == "completed"


def test_an_unknown_task_is_404(visitor: Visitor) -> None:
    answer = visitor.get("/api/analytics/status/3f2504e0-4f89-41d3-9a0c-0305e82c3301/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown-task")


def test_nothing_schemathesis_sends_meets_a_fault_or_an_undocumented_answer(visitor: Visitor, tmp_path: Path) -> None:
    """All checks. Not asked: the stream, which never ends, and what would log this visitor out."""
    document = tmp_path / "openapi.json"
    document.write_bytes(visitor.get("/api/openapi.json").raise_for_status().content)
    excluded = ("/api/analytics/stream", "/api/auth/logout", "/api/auth/password", "/api/auth/token")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", str(visitor.client.base_url)),
        *("--checks", "all", "--max-examples", "6", "--seed", "1", "--request-timeout", "20"),
        *("--generation-database", "none", "--no-color", "--suppress-health-check", "all"),
        *("--header", f"Authorization: {visitor.client.headers['Authorization']}"),
        *(part for path in excluded for part in ("--exclude-path", path)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMATHESIS")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
