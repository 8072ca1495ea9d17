"""The gate over HTTP: login pages, cookies, CSRF, who may what, and a ledger that is away."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute

from medisync.access import addresses, audit, gate
from medisync.access.permissions import Permission, Role
from medisync.access.service import Access
from medisync.errors import SettingsError
from medisync.settings import Settings
from tests.support.door import Door, application, bearer
from tests.support.login import PASSWORD


def test_the_form_logs_in_and_leads_on(door: Door) -> None:
    assert door.get("/").headers["Location"] == "/login"
    form = door.get("/login?next=/api/docs")
    assert 'name="next" value="/api/docs"' in form.text
    assert "script" not in form.text
    assert not re.search(r"https?://(?!127\.0\.0\.1)", form.text)
    assert "default-src 'none'" in form.headers["Content-Security-Policy"]
    assert form.headers["Cache-Control"] == "no-store"
    done = door.log_in("analyst", PASSWORD, next="/api/docs")
    assert (done.status_code, done.headers["Location"]) == (303, "/api/docs")
    session, csrf, device = done.headers.get_list("set-cookie")
    assert session.startswith(gate.session_cookie(door.access.settings))
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert "Secure" not in session
    assert "HttpOnly" not in csrf
    assert "HttpOnly" in device
    start = door.get("/")
    assert start.status_code == 200
    assert "analyst" in start.text
    assert "Overview" in start.text
    assert "Prefect" not in start.text, "the start page names what the visitor may open"
    assert door.get("/login?next=/x").headers["Location"] == "/x", "who is logged in goes on"
    assert door.get("/runs").json() == "analyst"


def test_a_wrong_password_is_told_in_the_form(door: Door) -> None:
    answer = door.log_in("analyst", "not the password")
    assert answer.status_code == 401
    assert re.search(r'role="alert"[^>]*>Name or password is wrong', answer.text)
    assert 'value="analyst"' in answer.text, "the name need not be typed again"
    assert "not the password" not in answer.text
    for _ in range(4):
        door.log_in("analyst", "not the password")
    waiting = door.log_in("analyst", PASSWORD)
    assert waiting.status_code == 429
    assert int(waiting.headers["Retry-After"]) >= 1
    assert "Try again in" in waiting.text


def test_what_is_typed_into_the_form_is_never_html(door: Door) -> None:
    answer = door.log_in('"><script>alert(1)</script>', "x", next='/"><script>')
    assert "<script" not in answer.text


def test_behind_tls_cookies_travel_on_nothing_else(workspace: Settings) -> None:
    settings = workspace.model_copy(update={"public_url": "https://medisync.example"})
    access = Access.open(settings)
    access.accounts.add("viewer", Role.VIEWER, PASSWORD, must_change=False)
    with Door(access) as door:
        headers = {"Origin": "https://medisync.example"}
        form = door.get("/login")
        (cookie,) = form.headers.get_list("set-cookie")
        csrf = cookie.split("=", 1)[1].split(";")[0]
        name = gate.csrf_cookie(settings)
        fields = {"username": "viewer", "password": PASSWORD, "csrf": csrf}
        done = door.post("/login", data=fields, headers={**headers, "Cookie": f"{name}={csrf}"})
        assert done.status_code == 303
        assert all("; Secure" in one for one in done.headers.get_list("set-cookie"))
    access.ledger.dispose()


OURS, HOST = "http://127.0.0.1:8000", "127.0.0.1"


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/", "/"),
        ("/api/docs?x=1#y", "/api/docs?x=1#y"),
        ("http://127.0.0.1:8866/voila/render/x.ipynb", "http://127.0.0.1:8866/voila/render/x.ipynb"),
        ("http://127.0.0.1:8888/lab", "http://127.0.0.1:8888/lab"),
        ("http://127.0.0.1:9999/", "/"),
        ("http://127.0.0.1:4200/", "/"),
        ("http://localhost:8866/", "/"),
        ("https://127.0.0.1:8866/", "/"),
        ("http://127.0.0.1:8866@evil.example/", "/"),
        ("http://evil.example:8866/", "/"),
        ("http://evil.example#127.0.0.1:8866", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/ /evil.example", "/"),
        ("\n//evil.example", "/"),
        ("///evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("data:text/html,x", "/"),
        ("http:evil.example", "/"),
        ("http:///evil.example", "/"),
        ("http://[::1", "/"),
        ("evil.example", "/"),
        ("", "/"),
        ("/" + "x" * 3000, "/"),
    ],
)
def test_a_login_leads_to_our_own_doors_only(wanted: str, led_to: str) -> None:
    assert addresses.safe_next(Settings(), HOST, wanted) == led_to


def test_public_addresses_are_doors_too() -> None:
    settings = Settings(public_url="https://m.example", public_pages_url="https://m.example:8866/")
    addresses.require_usable(settings)
    assert addresses.safe_next(settings, "m.example", "https://m.example:8866/x") == "https://m.example:8866/x"
    assert addresses.safe_next(settings, "m.example", "http://m.example:8866/x") == "/"


@pytest.mark.parametrize(
    "given",
    [
        {"public_url": "m.example"},
        {"public_url": "https://m.example/medisync"},
        {"public_url": "https://[m"},
        {"public_lab_url": "javascript:alert(1)"},
        {"public_url": "https://m.example", "public_pages_url": "https://pages.m.example"},  # the cookie is one host's
    ],
)
def test_public_addresses_that_cannot_work_are_an_error(workspace: Settings, given: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        Access.open(workspace.model_copy(update=given))


def test_a_login_needs_our_own_form(door: Door) -> None:
    fields = {"username": "analyst", "password": PASSWORD}
    assert door.post("/login", data=fields).status_code == 403, "no form was opened"
    door.get("/login")
    assert door.post("/login", data={**fields, "csrf": "x" * 43}).status_code == 403
    fields["csrf"] = door.csrf
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8866"):
        assert door.post("/login", data=fields, headers={"Origin": origin}).status_code == 403, origin
    assert door.post("/login", data=fields, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    own = door.access.settings.api_url.rstrip("/")
    assert door.post("/login", data=fields, headers={"Origin": own}).status_code == 303


def test_a_write_with_the_cookie_needs_its_token(door: Door) -> None:
    door.log_in("analyst", PASSWORD)
    before = door.csrf
    assert door.post("/runs").json()["code"] == "cross-site"
    for wrong in ("", "x", before[:-1] + ("0" if before[-1] != "0" else "1"), "é"):
        assert door.post("/runs", headers={gate.CSRF_HEADER: wrong.encode()}).status_code == 403
    right = {gate.CSRF_HEADER: before}
    assert door.post("/runs", headers=right).json() == "analyst"
    own = door.access.settings.api_url.rstrip("/")
    for headers, status in [
        ({"Origin": own}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8866"}, 403),  # same site, another port
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ]:
        assert door.post("/runs", headers={**right, **headers}).status_code == status, headers
    door.cookies.delete(gate.csrf_cookie(door.access.settings))
    door.get("/")
    assert door.csrf == before, "the start page gives it again"
    door.cookies.clear()
    door.log_in("analyst", PASSWORD)
    assert door.csrf != before, "each session has its own"
    assert door.post("/runs", headers=right).status_code == 403


def test_a_bearer_token_needs_none_and_goes_before_a_cookie(door: Door) -> None:
    token = door.tokens("analyst", PASSWORD)["access_token"]
    assert door.post("/runs", headers=bearer(token)).json() == "analyst"
    door.log_in("analyst", PASSWORD)
    for wrong in ("Bearer nothing", "Basic YTpi", "Bearer", "bearer ", f"Token {token}"):
        answer = door.get("/runs", headers={"Authorization": wrong})
        assert answer.status_code == 401, wrong
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_logout_is_a_form_and_ends_the_session_everywhere(door: Door) -> None:
    door.log_in("analyst", PASSWORD)
    cookie = str(door.cookies[gate.session_cookie(door.access.settings)])
    assert "Log out" in door.get("/logout").text
    assert door.post("/logout", data={"csrf": "wrong"}).status_code == 403
    assert door.get("/runs").status_code == 200
    assert door.post("/logout", data={"csrf": door.csrf}).headers["Location"] == "/login"
    door.cookies.set(gate.session_cookie(door.access.settings), cookie)
    assert door.get("/runs").status_code == 401, "a kept cookie is worth nothing"


def test_programs_log_in_refresh_and_log_out(door: Door) -> None:
    held = door.tokens("analyst", PASSWORD)
    for slash in ("", "/"):
        assert (
            door.get(f"/api/auth/me{slash}", headers=bearer(held["access_token"])).json()["data"]["role"] == "analyst"
        )
        answer = door.post(f"/api/auth/refresh{slash}", json={"refresh_token": held["refresh_token"]})
        held = answer.json()["data"]
    assert door.post("/api/auth/logout/", headers=bearer(held["access_token"])).status_code == 200
    assert door.get("/runs", headers=bearer(held["access_token"])).status_code == 401
    assert door.post("/api/auth/refresh", json={"refresh_token": held["refresh_token"]}).status_code == 401
    wrong = door.post("/api/auth/token/", json={"username": "analyst", "password": "not the password"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "login-refused")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "a"},
        {"username": ["a"], "password": "b"},
        {"username": "a", "password": "b", "role": "admin"},
        {"username": "a" * 300, "password": "b"},
        [],
        "x",
        None,
    ],
)
def test_a_malformed_login_is_refused(door: Door, body: Any) -> None:
    assert door.post("/api/auth/token", json=body).status_code == 422


def test_a_one_time_password_must_be_changed_before_anything_else(door: Door, access: Access) -> None:
    password = access.accounts.add("fresh", Role.ADMIN)
    assert door.log_in("fresh", password, next="/api/docs").headers["Location"] == "/password"
    assert door.get("/").headers["Location"] == "/password"
    assert door.get("/runs").json()["code"] == "password-must-change"
    form = {"old": password, "csrf": door.csrf}
    short = door.post("/password", data={**form, "new": "short", "again": "short"})
    assert (short.status_code, "at least 12" in short.text) == (422, True)
    differ = door.post("/password", data={**form, "new": PASSWORD, "again": PASSWORD + "x"})
    assert (differ.status_code, "not the same" in differ.text) == (422, True)
    same = door.post("/password", data={**form, "new": password, "again": password})
    assert (same.status_code, "the old one" in same.text) == (422, True)
    assert door.post("/password", data={**form, "csrf": "", "new": PASSWORD, "again": PASSWORD}).status_code == 403
    done = door.post("/password", data={**form, "new": PASSWORD, "again": PASSWORD, "next": "/api/docs"})
    assert (done.status_code, done.headers["Location"]) == (303, "/api/docs")
    assert door.get("/runs").json() == "fresh"
    held = door.tokens("fresh", PASSWORD)
    assert not held["must_change_password"]


@pytest.mark.parametrize("role", list(Role))
def test_who_may_not_is_refused_and_that_is_written_down(door: Door, access: Access, role: Role) -> None:
    token = door.tokens(role.value, PASSWORD)["access_token"]
    may = role in (Role.ANALYST, Role.ADMIN)
    answer = door.post("/runs", headers=bearer(token))
    assert answer.status_code == (200 if may else 403)
    refusals = [row for row in audit.entries(access.ledger) if row.what == "refused: trigger"]
    told = [] if may else [(role.value, "POST /runs", "10.1.2.3", False)]
    assert [(row.who, row.on, row.where, row.allowed) for row in refusals] == told


def test_every_route_of_the_gate_says_who_may(access: Access) -> None:
    told = {}
    routes = application(access).routes
    for route in [leaf for one in routes for leaf in getattr(getattr(one, "original_router", None), "routes", [one])]:
        if isinstance(route, APIRoute):
            permissions = {getattr(one.call, "permission", None) for one in route.dependant.dependencies} - {None}
            assert len(permissions) == 1, route.path
            told[route.path.rstrip("/") or "/"] = permissions.pop()
    assert told == {
        "/": "open",
        "/login": "open",
        "/logout": "open",
        "/password": "open",
        "/api/auth/token": "open",
        "/api/auth/refresh": "open",
        "/api/auth/logout": "logged in",
        "/api/auth/password": "logged in",
        "/api/auth/me": "logged in",
        "/prefect": Permission.OPEN_PREFECT,
        "/prefect/{path:path}": Permission.OPEN_PREFECT,
        "/runs": Permission.TRIGGER,
    }


def test_prefect_is_for_administrators_and_its_absence_is_said(door: Door) -> None:
    html = {"Accept": "text/html"}
    assert door.get("/prefect/", headers=html).headers["Location"] == "/login?next=/prefect/"
    assert door.get("/prefect/api/flows").status_code == 401
    for role in (Role.VIEWER, Role.CLINICIAN, Role.ANALYST):
        token = door.tokens(role.value, PASSWORD)["access_token"]
        assert door.get("/prefect/", headers={**html, **bearer(token)}).status_code == 403
    token = door.tokens("admin", PASSWORD)["access_token"]
    away = door.get("/prefect/api/health", headers=bearer(token))
    assert (away.status_code, away.json()["code"]) == (503, "not-running")
    door.log_in("admin", PASSWORD)
    crossing = door.post("/prefect/api/flows/filter", headers={"Origin": "http://evil.example"})
    assert crossing.json()["code"] == "cross-site"


def test_a_ledger_that_is_read_only_answers_503_and_reads_go_on(door: Door, access: Access) -> None:
    token = door.tokens("analyst", PASSWORD)["access_token"]
    viewer = door.tokens("viewer", PASSWORD)["access_token"]

    def forbid(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    access.ledger.dispose()
    sa.event.listen(access.ledger, "connect", forbid)
    try:
        assert door.get("/runs", headers=bearer(token)).status_code == 200
        for answer in (
            door.post("/api/auth/token", json={"username": "analyst", "password": PASSWORD}),
            door.post("/api/auth/logout", headers=bearer(token)),
            door.get("/runs", headers=bearer(viewer)),  # what cannot be written down is not answered
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "ledger-away")
        form = door.log_in("analyst", PASSWORD)
        assert (form.status_code, "ledger" in form.text) == (503, True)
    finally:
        sa.event.remove(access.ledger, "connect", forbid)
        access.ledger.dispose()
    assert door.log_in("analyst", PASSWORD).status_code == 303
