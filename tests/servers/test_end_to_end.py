"""The whole way with every real part: file, watcher, event, worker, kernels, lake, Voila, Chromium.

The tests of this module tell one story and run in their order.
"""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from medisync.access import prefect_auth
from medisync.access.permissions import Role
from medisync.intake.announcing import Announcer
from tests.conftest import ROOT
from tests.support.login import log_in
from tests.support.pages import LIVE, Watched, chromium
from tests.support.running import PATIENCE_SECONDS, RunningWorkspace, wait_until
from tests.support.traces import names_found

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.servers, pytest.mark.browser]

SHIPPED = {path.stem for path in (ROOT / "notebooks" / "analyses").glob("*.ipynb")}


def drop(workspace: RunningWorkspace, file: Path, name: str | None = None) -> None:
    """Put a file into the inbox as a person would: a copy under its own name."""
    shutil.copyfile(file, workspace.settings.inbox / (name or file.name))


def deliveries(workspace: RunningWorkspace) -> list[dict[str, Any]]:
    return workspace.lake().query("SELECT * FROM clinical.deliveries ORDER BY finished_at")


def completed(workspace: RunningWorkspace) -> set[str]:
    rows = workspace.lake().query("SELECT analysis FROM analytics.runs WHERE status = 'completed'")
    return {row["analysis"] for row in rows}


def text(page: Page) -> str:
    """What the page says; it keeps numbers and their signs together with spaces that do not break."""
    return page.inner_text("main").replace("\N{NO-BREAK SPACE}", " ")


def test_the_sample_dropped_into_the_inbox_changes_the_open_page(
    workspace: RunningWorkspace, sample: Path, tmp_path: Path
) -> None:
    with chromium() as browser:
        watched = Watched(browser.new_page())
        page = watched.page
        log_in(page.context, workspace.settings)
        page.goto(workspace.settings.pages_url, wait_until="domcontentloaded")
        page.wait_for_selector(LIVE, timeout=1000 * PATIENCE_SECONDS)
        page.evaluate("window.neverReloaded = true")
        assert "inbox" in text(page), "an empty workspace explains the first step"

        drop(workspace, sample)

        wait_until(lambda: "50,000" in text(page), seconds=600, what="the page shows the delivery")
        wait_until(lambda: completed(workspace) == SHIPPED, seconds=600, what="all analyses are committed")
        headlines = workspace.lake().query("SELECT headline FROM analytics.runs")
        for row in headlines:  # the round still has both cores; how soon a page follows is measured in tests/browser
            wait_until(lambda row=row: row["headline"] in text(page), seconds=30, what=row["headline"])
        assert page.locator("main svg[role=img]").count() >= len(SHIPPED)
        assert page.evaluate("window.neverReloaded"), "it changed in place"
        assert watched.elsewhere() == [], "no request left this machine"
        page.screenshot(path=tmp_path / "overview.png", full_page=True)


def test_the_delivery_was_counted_exactly(workspace: RunningWorkspace) -> None:
    (delivery,) = deliveries(workspace)
    assert delivery["status"] == "loaded"
    assert (delivery["rows_read"], delivery["created"]) == (55_500, 50_000)
    assert (delivery["duplicates_exact"], delivery["duplicates_conflicting"]) == (534, 4_966)


def test_prefect_shows_the_flow_run_with_artifacts_for_people(workspace: RunningWorkspace) -> None:
    (delivery,) = deliveries(workspace)
    named = {"flow_runs": {"name": {"any_": [delivery["delivery_id"]]}}}
    flow_run = wait_until(
        lambda: next((one for one in workspace.api("POST", "/flow_runs/filter", json=named) if one["end_time"]), None),
        seconds=60,
        what="the flow run has ended",
    )
    assert flow_run["state_type"] == "COMPLETED"
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run["id"]]}}}
    artifacts = {one["key"]: one for one in workspace.api("POST", "/artifacts/filter", json=of_run)}
    assert "55,500" in artifacts["delivery"]["data"]
    table = artifacts["analyses"]["data"]
    for name in ("headline", "seconds", "report"):
        assert table.count(f'"{name}"') == len(SHIPPED)


def test_every_run_left_a_report_and_its_notebook(workspace: RunningWorkspace) -> None:
    reports = workspace.settings.reports
    for row in workspace.lake().query("SELECT run_id, analysis, headline FROM analytics.runs"):
        html = (reports / "runs" / row["run_id"] / "report.html").read_text(encoding="utf-8")
        assert row["run_id"] in html
        assert "http://" not in html.replace("http://www.w3.org/", "")
        assert "https://" not in html
        assert (reports / "runs" / row["run_id"] / "notebook.ipynb").exists()
        assert (reports / "latest" / f"{row['analysis']}.html").exists()


def test_the_same_file_again_does_nothing_and_says_so(workspace: RunningWorkspace, sample: Path) -> None:
    runs = workspace.lake().query("SELECT count(*) AS number FROM analytics.runs")
    drop(workspace, sample, "healthcare_dataset_again.csv.gz")
    again = wait_until(
        lambda: next((one for one in deliveries(workspace) if one["status"] == "repeat"), None),
        seconds=60,
        what="the repeat is recorded",
    )
    assert again["reason"] == deliveries(workspace)[0]["delivery_id"]
    assert workspace.lake().query("SELECT count(*) AS number FROM analytics.runs") == runs


def test_a_delivery_announced_twice_has_one_run_and_one_that_waits_gets_another(workspace: RunningWorkspace) -> None:
    loaded = deliveries(workspace)
    delivery_id, source = loaded[0]["delivery_id"], loaded[0]["source"]
    settings = workspace.settings

    def flow_runs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = workspace.api(
            "POST", "/flow_runs/filter", json={"flow_runs": {"name": {"any_": [delivery_id]}}}
        )
        return found

    before = len(flow_runs())

    def tell(how: Callable[[str, str], None]) -> None:
        """As the watcher does: again until the server has taken it, whose database may be busy."""

        def is_taken() -> bool:
            try:
                how(delivery_id, source)
            except httpx.HTTPError:
                return False
            return True

        wait_until(is_taken, seconds=60, what="the server takes the announcement")

    headers = prefect_auth.headers(settings)
    with httpx.Client(base_url=settings.prefect_api_url, headers=headers, timeout=PATIENCE_SECONDS) as client:
        announcer = Announcer(settings, client)
        tell(announcer.arrived)  # as after a crash between the request and the ledger
        tell(announcer.arrived)
        assert len(flow_runs()) == before
        tell(announcer.waiting)
    wait_until(
        lambda: len(flow_runs()) == before + 1 and all(one["state_type"] == "COMPLETED" for one in flow_runs()),
        seconds=60,
        what="the trigger's flow run has ended",
    )
    assert deliveries(workspace) == loaded  # nothing is loaded twice


def test_bad_files_are_refused_and_the_service_goes_on(
    workspace: RunningWorkspace, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "wrong_columns.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(b"x" * 100_000)[:60])
    for file in sorted(tmp_path.iterdir()):
        drop(workspace, file)
    refused = wait_until(
        lambda: (
            rows if len(rows := [one for one in deliveries(workspace) if one["status"] == "refused"]) == 3 else None
        ),
        seconds=120,
        what="three refusals",
    )
    assert {one["reason"] for one in refused} == {"EMPTY_FILE", "UNKNOWN_LAYOUT", "DAMAGED"}
    wait_until(  # the lake is told first, then the file is put away
        lambda: len(list(workspace.settings.refused.glob("*.reason.txt"))) == 3, seconds=20, what="three notes"
    )

    changed = tmp_path / "update.csv"  # one new admission: what came after the bad files is still served
    with gzip.open(sample, "rt", encoding="utf-8", newline="") as lines:
        header, first, *_ = csv.reader(lines)
    with changed.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, ["Quenby Brambleworth", *first[1:]]])
    drop(workspace, changed)
    loaded = wait_until(
        lambda: next((one for one in deliveries(workspace) if one["rows_read"] == 1), None),
        seconds=60,
        what="the good file after them is loaded",
    )
    assert (loaded["created"], loaded["deleted"]) == (1, 0)
    named = {"flow_runs": {"name": {"any_": [loaded["delivery_id"]]}}}
    wait_until(
        lambda: workspace.api("POST", "/flow_runs/filter", json=named)[0]["end_time"],
        seconds=120,
        what="its flow run has ended",
    )


def test_an_analyst_runs_an_analysis_with_other_parameters_from_the_page(workspace: RunningWorkspace) -> None:
    """By the page's own form: the API starts a flow run, its progress is told, and the run is among the runs."""
    with chromium() as browser:
        context = browser.new_context()
        log_in(context, workspace.settings, Role.ANALYST)
        page = context.new_page()
        page.goto(f"{workspace.settings.pages_url}voila/render/data.ipynb", wait_until="domcontentloaded")
        page.wait_for_selector(LIVE, timeout=60_000)
        page.click("summary >> text=Patient demographics")
        form = "form[data-run=patient_demographics]"
        page.fill(f"{form} input[name=period_months]", "0")
        page.evaluate(f"document.querySelector('{form}').noValidate = true")
        page.click(f"{form} button[type=submit]")
        page.wait_for_selector(f"{form} >> text=Wrong parameters", timeout=60_000)
        page.fill(f"{form} input[name=period_months]", "6")
        page.click(f"{form} button[type=submit]")
        page.wait_for_selector(f"{form} >> text=Done.", timeout=180_000)
    rows = workspace.lake().query("SELECT record FROM analytics.runs WHERE analysis = 'patient_demographics'")
    records = [json.loads(row["record"]) for row in rows]
    (run,) = [one for one in records if one["parameters"]["period_months"] == 6]
    assert (run["requested_by"], run["trigger"]) == ("some-analyst", "api")


def test_no_patient_is_named_in_anything_that_was_written(workspace: RunningWorkspace, sample: Path) -> None:
    settings = workspace.settings
    with gzip.open(sample, "rt", encoding="utf-8", newline="") as lines:
        names = {row["Name"] for row in csv.DictReader(lines)} | {"Quenby Brambleworth"}
    assert names_found(names, settings) == []
    assert not any(name.casefold() in workspace.said().casefold() for name in names)


def test_the_privacy_scan_finds_nobody_in_all_that(workspace: RunningWorkspace) -> None:
    """Data but for the raw folders, reports, logs and Prefect's database, for everybody of every delivery."""
    import json

    done = workspace.medisync("privacy-scan", str(workspace.settings.data), str(workspace.settings.reports), "--json")
    report = json.loads(done.stdout)
    assert (report["findings"], report["unreadable"]) == ([], [])
    assert report["sought"] > 200_000


def test_the_status_command_tells_people_and_programs(workspace: RunningWorkspace) -> None:
    import json

    status = json.loads(workspace.medisync("status", "--json").stdout)
    assert status["running"]
    assert all(service["well"] for service in status["services"].values())
    assert status["data"]["admissions"] == 50_001
    assert {one["analysis"]: one["freshness"] for one in status["analyses"]} == dict.fromkeys(SHIPPED, "current")
    shown = workspace.medisync("status").stdout
    assert "50,001 admissions" in shown
    doctor = workspace.medisync("doctor")
    assert doctor.returncode == 0, doctor.stdout


def test_nothing_survives_a_killed_supervisor(workspace: RunningWorkspace) -> None:
    """The last of this module: kernels of pages, fork servers and the API's workers are all there by now."""
    tree = psutil.Process(workspace.process.pid).children(recursive=True)
    assert len(tree) >= 4
    workspace.process.kill()
    workspace.process.wait(PATIENCE_SECONDS)
    _, alive = psutil.wait_procs(tree, timeout=PATIENCE_SECONDS)
    assert [" ".join(process.cmdline())[-80:] for process in alive] == []
