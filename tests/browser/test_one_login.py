"""One login for API, pages and JupyterLab: the three doors as the supervisor starts them, and a real Chromium."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from medisync.access import audit
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.settings import Settings, project_root
from medisync.supervisor.services import base_environment, services
from tests.support.login import PASSWORD, cookies, make_user
from tests.support.pace import slowness
from tests.support.running import PATIENCE_SECONDS, trial_settings, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.servers]

NO_KERNEL = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """API, pages and JupyterLab over an empty workspace; nothing of Prefect."""
    settings = trial_settings(tmp_path_factory.mktemp("doors"))
    settings.make_folders()
    for role in Role:
        make_user(settings, role)
    started = [one for one in services(settings, lab=True) if one.name in ("api", "pages", "lab")]
    with contextlib.ExitStack() as stack:
        for service in started:
            log = stack.enter_context((settings.logs / f"{service.name}.log").open("wb"))
            process = subprocess.Popen(
                service.command,
                cwd=project_root(),
                env={**base_environment(settings), **service.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        for service in started:
            assert service.health is not None
            wait_until(lambda health=service.health: answers(health), seconds=120, what=f"{service.title} answers")
        yield settings


def answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def lab_url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.lab_port}"


@pytest.mark.parametrize("role", [None, *Role])
def test_lab_terminals_contents_and_kernels_are_for_analysts(doors: Settings, role: Role | None) -> None:
    known = {} if role is None else cookies(doors, role)
    may = role in (Role.ANALYST, Role.ADMIN)
    with httpx.Client(base_url=lab_url(doors), cookies=known, timeout=PATIENCE_SECONDS) as lab:
        page = lab.get("/lab")
        assert page.status_code == (302 if role is None else 200 if may else 403)
        if role is None:
            assert page.headers["Location"] == "/login?next=%2Flab"
            led = lab.get(page.headers["Location"]).headers["Location"]
            assert led.startswith(f"{doors.api_url}login?next=http%3A%2F%2F127.0.0.1%3A{doors.lab_port}%2Flab")
        for path in ("kernels", "terminals", "contents", "sessions", "kernelspecs", "status", "me"):
            assert lab.get(f"/api/{path}").status_code == (200 if may else 403), path
        for path in ("/lab/api/settings", "/lsp/status"):  # of extensions, which ask no authorizer
            assert lab.get(path).status_code == (200 if may else 403), path
        for path in ("/files/analyses/patient_demographics.ipynb", "/nbconvert/html/x.ipynb", "/tree", "/doc"):
            if not may:
                answer = lab.get(path)
                assert answer.status_code in (302, 403), path
                assert answer.headers.get("Location", "/login?").startswith("/login?"), path
        for path in ("kernels", "terminals", "sessions"):
            assert lab.post(f"/api/{path}", json={}).status_code == 403, "a write needs Jupyter's own token, too"
        assert lab.get("/medisync/health").status_code == 200


@pytest.mark.parametrize("role", [None, *Role])
def test_pages_are_for_every_role_and_their_server_for_nothing_else(doors: Settings, role: Role | None) -> None:
    known = {} if role is None else cookies(doors, role)
    with httpx.Client(base_url=doors.pages_url, cookies=known, timeout=PATIENCE_SECONDS) as pages:
        assert pages.get("health").status_code == 200
        assert pages.get("start").headers["Location"] == doors.api_url
        assert pages.get("logout").headers["Location"] == f"{doors.api_url}logout"
        assert pages.get(f"api/kernels/{NO_KERNEL}").status_code == (403 if role is None else 404)
        assert pages.request("DELETE", f"api/kernels/{NO_KERNEL}").status_code == 403
        report = {None: 302, Role.VIEWER: 403}.get(role, 404)
        assert pages.get("reports/r0").status_code == report
        for path in ("api/contents", "api/kernels", "api/terminals", "lab"):
            assert pages.get(path).status_code == 404, path


@pytest.mark.parametrize("role", [None, *Role])
def test_a_run_is_asked_for_by_analysts_on_their_own_page_and_the_api_decides(
    doors: Settings, role: Role | None
) -> None:
    known = {} if role is None else cookies(doors, role)
    token = "ab" * 16
    asked = {"analysis_type": "patient_demographics", "parameters": {}, "force_refresh": False}
    task = "runs/status/00000000-0000-0000-0000-000000000000"
    with httpx.Client(base_url=doors.pages_url, cookies={**known, "_xsrf": token}, timeout=PATIENCE_SECONDS) as pages:
        assert pages.post("runs/ask", json=asked).status_code == 403, "a write needs the page's own token"
        answer = pages.post("runs/ask", json=asked, headers={"X-XSRFToken": token})
        if role in (Role.ANALYST, Role.ADMIN):
            assert answer.json()["error"]["code"] == "no-data"
            wrong = pages.post("runs/ask", content=b"[", headers={"X-XSRFToken": token})
            assert (wrong.status_code, wrong.json()["success"]) == (422, False)
            assert pages.get(task).json()["error"]["code"] == "orchestrator-away"
        else:
            assert answer.status_code == 403
            assert pages.get(task).status_code == (302 if role is None else 403)


def test_open_sockets_need_a_session_and_our_own_page_and_end_with_the_session(doors: Settings) -> None:
    site = lab_url(doors)
    known = cookies(doors, Role.ANALYST)
    with httpx.Client(base_url=site, cookies=known, timeout=PATIENCE_SECONDS) as lab:
        lab.get("/lab")
        xsrf = {"X-XSRFToken": lab.cookies["_xsrf"]}
        kernel = lab.post("/api/kernels", json={}, headers=xsrf).json()["id"]
        address = f"{site.replace('http', 'ws')}/api/kernels/{kernel}/channels"

        def opened(held: dict[str, str], origin: str | None) -> ClientConnection:
            told = {"Cookie": "; ".join(f"{name}={value}" for name, value in held.items())}
            return connect(address, additional_headers=told, origin=origin, proxy=None)  # type: ignore[arg-type]

        strangers = [
            ({}, site),
            (cookies(doors, Role.CLINICIAN), site),
            (known, "http://evil.example"),
            (known, doors.pages_url.rstrip("/")),
        ]
        for held, origin in strangers:
            with pytest.raises(InvalidStatus) as refused:
                opened(held, origin)
            assert refused.value.response.status_code == 403
        socket = opened(known, site)
        access = Access.open(doors)
        principal = access.principal(None, next(iter(known.values())))
        access.log_out(principal, where="here")
        access.ledger.dispose()
        ended = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            heard_out(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
        assert time.monotonic() - ended < 10 * slowness()
        assert lab.get("/api/kernels").status_code == 403
    with httpx.Client(base_url=site, cookies=cookies(doors, Role.ADMIN), timeout=PATIENCE_SECONDS) as lab:
        lab.get("/lab")
        lab.delete(f"/api/kernels/{kernel}", headers={"X-XSRFToken": lab.cookies["_xsrf"]})


def heard_out(socket: ClientConnection) -> None:
    """Read what the kernel still says, until the server closes."""
    while True:
        socket.recv(timeout=PATIENCE_SECONDS)


def log_in(page: Page, role: Role) -> None:
    page.fill("#username", f"some-{role.value}")
    page.fill("#password", PASSWORD)
    page.click("button")


@pytest.mark.parametrize("role", list(Role))
def test_who_logs_in_once_opens_what_the_role_may(doors: Settings, browser: Browser, role: Role) -> None:
    may = role in (Role.ANALYST, Role.ADMIN)
    context = browser.new_context()
    page = context.new_page()
    page.goto(doors.pages_url, wait_until="domcontentloaded")
    assert page.url.startswith(f"{doors.api_url}login?next=")
    assert page.title() == "Log in – MediSync"
    log_in(page, role)
    page.wait_for_url(doors.pages_url, wait_until="domcontentloaded")
    page.wait_for_selector("main h1")
    assert page.title() == "Overview – MediSync"
    page.goto(f"{doors.api_url}api/docs", wait_until="domcontentloaded")
    assert page.url == f"{doors.api_url}api/docs"
    lab = page.goto(f"{lab_url(doors)}/lab", wait_until="commit")
    assert lab is not None
    assert lab.status == (200 if may else 403)
    if not may:
        assert "does not allow this" in lab.text()
    if may:
        page.wait_for_selector("#jupyter-config-data", state="attached")
        assert page.title() == "JupyterLab"
    page.goto(doors.api_url)
    shown = page.inner_text("main")
    assert [name for name in ("Overview", "API", "JupyterLab", "Prefect") if name in shown] == [
        "Overview",
        "API",
        *(["JupyterLab"] if may else []),
        *(["Prefect"] if role is Role.ADMIN else []),
    ]
    page.click("button:has-text('Log out')")
    page.wait_for_url(f"{doors.api_url}login")
    page.goto(f"{lab_url(doors)}/lab")
    assert page.url.startswith(f"{doors.api_url}login?next=")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_login_page_can_be_used_by_everybody(doors: Settings, browser: Browser, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(
        viewport={"width": 360, "height": 700},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=True,
    )
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{doors.api_url}login")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.fill("#username", f"some-{Role.VIEWER.value}")
    page.fill("#password", "not the password")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], len(one["nodes"])) for one in found] == []
    assert page.evaluate("document.activeElement.id") == "password"
    assert {httpx.URL(url).host for url in asked if not url.startswith("data:")} == {"127.0.0.1"}
    context.close()


def test_without_a_script_the_login_works_as_well(doors: Settings, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{doors.api_url}login")
    log_in(page, Role.ANALYST)
    page.wait_for_url(doors.api_url)
    assert "some-analyst" in page.inner_text("main")
    context.close()


def test_what_was_refused_at_the_doors_is_in_the_audit_log(doors: Settings) -> None:
    access = Access.open(doors)
    rows = list(audit.entries(access.ledger))
    assert audit.verify(access.ledger).number == len(rows)
    access.ledger.dispose()
    told = {(row.who, row.what, row.on, row.allowed) for row in rows}
    assert ("some-viewer", "refused: open-lab", "GET /lab", False) in told
    assert ("some-viewer", "download", "report of run r0", False) in told
    assert ("some-viewer", "login", "", False) in told
    assert PASSWORD not in json.dumps([row.as_json() for row in rows])
