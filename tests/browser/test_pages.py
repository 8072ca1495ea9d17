"""The pages with controls: real Voila with forked kernels, a real lake, a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe

from medisync import intake
from medisync.access.permissions import Role
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.reports import bulletins
from medisync.settings import Settings, environment, project_root
from tests.support.admissions_csv import admissions, write_csv
from tests.support.fork_servers import fork_server
from tests.support.login import cookies, log_in
from tests.support.pages import LIVE, PagesServer, Watched, running_pages
from tests.support.running import medisync, trial_settings, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

ANALYSES = ("illness_surge_prediction", "medication_analysis", "patient_demographics", "patient_volume_prediction")
PAGES = ("", "voila/render/forecasts.ipynb", "voila/render/surges.ipynb", "voila/render/patients.ipynb",
         "voila/render/data.ipynb")  # fmt: skip
PATIENTS = "voila/render/patients.ipynb"
MARKUP = "Hill <i>& Lake"


@dataclass
class Hospital:
    settings: Settings
    server: PagesServer
    lake: Lake


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """900 admissions, one site named in markup, analyses run, a pack made; kernels forked as in a running workspace."""
    folder = tmp_path_factory.mktemp("pages")
    settings = trial_settings(folder, notebooks=folder / "notebooks", retries=0, inbox_settle_seconds=0.0)
    settings.analyses.mkdir(parents=True)
    for name in ANALYSES:
        shutil.copy(project_root() / "notebooks" / "analyses" / f"{name}.ipynb", settings.analyses)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(settings).items():
            patch.setenv(name, value)
        lake = Lake(settings)
        rows = [{**row, "Hospital": row["Hospital"].replace("Hill Infirmary", MARKUP)} for row in admissions(900)]
        intake.ingest(lake, write_csv(folder / "admissions.csv", rows))
        command = ("-m", "medisync.fastlane.kernels", str(kernels.socket_path(settings)))
        with fork_server(settings.run_state, *command) as forks, running_pages(settings) as server:
            forks.wait_ready()
            done = medisync(settings, "run")
            assert done.returncode == 0, done.stdout + done.stderr
            bulletins.refreshed_packs(lake, bulletins.utc_now())
            yield Hospital(settings, server, lake)
        lake.close()


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield Watched(context.new_page())
    context.close()


def opened(watched: Watched, hospital: Hospital, path: str, role: Role = Role.CLINICIAN) -> Page:
    page = watched.page
    log_in(page.context, hospital.settings, role)
    page.goto(hospital.server.url + path, wait_until="domcontentloaded")
    page.wait_for_selector(LIVE, timeout=30_000)
    page.wait_for_selector("main:not([aria-busy=true])", timeout=30_000)
    return page


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_whole_accessible_and_asks_no_other_machine(hospital: Hospital, watched: Watched, path: str) -> None:
    page = opened(watched, hospital, path)
    assert page.title().endswith("MediSync")
    assert page.locator("h1").count() == 1
    assert page.locator("nav[aria-label=Pages] a").count() == len(PAGES)
    assert page.locator("nav[aria-label=Pages] a[aria-current=page]").count() == 1
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert watched.elsewhere() == []
    assert watched.complaints == []


def test_a_choice_is_computed_kept_in_the_address_and_survives_new_data(
    hospital: Hospital, watched: Watched, tmp_path: Path
) -> None:
    page = opened(watched, hospital, PATIENTS)
    page.focus("select[name=gender]")
    page.keyboard.press("f")  # female, without a mouse
    shown = "#panel-title-medication_analysis >> xpath=../.."
    wait_until(lambda: "450 prescriptions" in page.inner_text(shown), seconds=30, what="the choice is computed")
    assert page.url.endswith("?gender=female")
    assert "not kept" in page.inner_text(shown)

    intake.ingest(hospital.lake, write_csv(tmp_path / "more.csv", admissions(2, 900)))
    wait_until(lambda: "451 prescriptions" in page.inner_text(shown), seconds=30, what="new data are computed")
    assert page.input_value("select[name=gender]") == "female"
    page.reload(wait_until="domcontentloaded")
    page.wait_for_selector(LIVE)
    assert page.input_value("select[name=gender]") == "female"
    wait_until(lambda: "451 prescriptions" in page.inner_text(shown), seconds=30, what="the address is computed")
    page.click("button[data-clear]")
    page.wait_for_selector(f"{shown} >> text=Where these numbers come from")
    assert page.url.endswith("patients.ipynb")
    assert watched.complaints == []


def test_a_filter_that_is_none_is_said(hospital: Hospital, watched: Watched) -> None:
    page = opened(watched, hospital, "forecasts?site=Nowhere&horizon=0&frequency=monthly")  # the short address
    assert "voila/render/forecasts.ipynb?site=Nowhere" in page.url
    said = "left out: site, horizon."
    wait_until(lambda: said in page.inner_text("form"), seconds=30, what="it is said")
    page.wait_for_selector("text=Computed on this page")
    assert said in page.inner_text("form")  # and not for a moment only
    assert page.input_value("select[name=frequency]") == "monthly"


def test_names_in_markup_are_text(hospital: Hospital, watched: Watched) -> None:
    page = opened(watched, hospital, PATIENTS)
    assert MARKUP in page.locator("select[name=site] option").all_inner_texts()
    assert page.locator("main i").count() == 0


def test_a_viewer_sees_released_results_only(hospital: Hospital, watched: Watched) -> None:
    page = opened(watched, hospital, f"{PATIENTS}?gender=female", Role.VIEWER)
    assert page.locator("form").count() == 0
    assert "people are withheld" in (page.text_content("main") or "")
    assert page.locator("a[href*='/reports/']").count() == 0
    page.goto(f"{hospital.server.url}voila/render/data.ipynb")
    page.wait_for_selector(LIVE)
    page.wait_for_selector("a[href*='/packs/']")
    packs = page.locator("a[href*='/packs/']").evaluate_all("all => all.map(one => one.pathname.split('/')[2])")
    assert packs, "the released pack is listed"
    assert all(name.endswith("-released") for name in packs)


def test_packs_and_reports_are_for_those_who_see_all(hospital: Hospital) -> None:
    runs = hospital.lake.query("SELECT run_id FROM analytics.runs LIMIT 1")
    delivered = hospital.lake.query("SELECT delivery_id FROM clinical.deliveries LIMIT 1")
    released, pack = sorted(
        (hospital.settings.reports / "packs").glob("*/*"), key=lambda one: one.name[-9:] != "-released"
    )
    paths = {
        f"packs/{pack.name}/pack.pdf": "application/pdf",
        f"packs/{pack.name}/pack.html": "text/html",
        f"reports/{runs[0]['run_id']}": "text/html",
        f"deliveries/{delivered[0]['delivery_id']}": "text/html",
    }
    for path, kind in paths.items():
        url = f"{hospital.server.url}{path}"
        answer = httpx.get(url, cookies=cookies(hospital.settings))
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, kind)
        assert httpx.get(url, cookies=cookies(hospital.settings, Role.VIEWER)).status_code == 403
        assert httpx.get(url).status_code in (302, 403)
    told = httpx.get(
        f"{hospital.server.url}packs/{released.name}/pack.html", cookies=cookies(hospital.settings, Role.VIEWER)
    )
    assert told.status_code == 200
    assert "Released results" in told.text


def test_what_is_not_there_or_not_for_you_says_so(hospital: Hospital) -> None:
    """In words and with a way back, and no error of an error page in the log."""
    log = hospital.settings.logs / "pages.log"
    before = log.stat().st_size
    run = hospital.lake.query("SELECT run_id FROM analytics.runs LIMIT 1")[0]["run_id"]
    refused = {
        ("packs/nothing/pack.pdf", Role.ADMIN): (404, "There is no such pack."),
        ("reports/r0", Role.ADMIN): (404, "There is no report of r0."),
        (f"reports/{run}", Role.VIEWER): (403, "Your role sees released results only"),
        ("runs/status/00000000-0000-0000-0000-000000000000", Role.VIEWER): (403, "The role viewer does not allow this"),
        ("nothing", Role.VIEWER): (404, "There is no such page"),
        ("no/where/at/all", Role.VIEWER): (404, "There is no such page"),
        ("voila/render/nothing.ipynb", Role.VIEWER): (404, "There is no such page"),
    }
    for (path, role), (status, said) in refused.items():
        answer = httpx.get(f"{hospital.server.url}{path}", cookies=cookies(hospital.settings, role))
        assert answer.status_code == status, path
        assert said in answer.text, path
        assert '<a href="/">Go to the overview</a>' in answer.text, path
    with log.open("rb") as lines:
        lines.seek(before)
        assert b"write_error" not in lines.read()
