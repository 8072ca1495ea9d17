"""The door's own pages: login, logout, password and the start page. Plain HTML forms that need no script."""

from __future__ import annotations

import functools
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Depends, Form, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from medisync.access import addresses, gate
from medisync.access.auth_routes import OPEN
from medisync.access.errors import CrossSiteError, NotAuthenticatedError
from medisync.access.passwords import LEAST_CHARACTERS
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.access.service import BrowserLogin
from medisync.errors import MediSyncError
from medisync.reports.page import stylesheet
from medisync.settings import Settings

TEMPLATES = Path(__file__).parent / "templates"
DEVICE_SECONDS = 365 * 24 * 3600

pages_router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@dataclass(frozen=True)
class Door:
    """A line of the start page; without an address it is not there now."""

    title: str
    says: str
    address: str | None


async def visitor(request: Request) -> Principal | None:
    """Whoever is logged in with a cookie; None for anybody else: these pages then lead to the login."""
    try:
        return await gate.authenticate(request)
    except NotAuthenticatedError:
        return None


visitor.permission = "open"  # type: ignore[attr-defined]

Guest = Annotated[Principal | None, Depends(visitor)]
Field = Annotated[str, Form(max_length=2000)]
Next = Annotated[str, Query(max_length=4000)]


@pages_router.get("/")
def start(request: Request, principal: Guest) -> Response:
    """What the visitor may open."""
    if principal is None:
        return _to("/login")
    if principal.must_change_password:
        return _to("/password")
    settings = gate.access_of(request).settings
    return _page(request, "start.html", "Start", principal=principal, doors=doors(settings, principal, _host(request)))


@pages_router.get("/login")
def login_form(request: Request, principal: Guest, next: Next = "/") -> Response:  # noqa: A002 - the name in the address
    """The form; who is logged in already goes on."""
    wanted = _safe(request, next)
    if principal is not None:
        return _to("/password" if principal.must_change_password else wanted)
    return _page(request, "login.html", "Log in", next=wanted, username="")


@pages_router.post("/login", dependencies=OPEN)
def login(
    request: Request,
    username: Field = "",
    password: Field = "",
    csrf: Field = "",
    next: Field = "/",  # noqa: A002 - the field's name
) -> Response:
    """Check name and password; on success set the cookies and go on."""
    access = gate.access_of(request)
    wanted = _safe(request, next)
    try:
        gate.require_same_origin(request)
        cookie = request.cookies.get(gate.csrf_cookie(access.settings), "")
        if not cookie or not hmac.compare_digest(cookie.encode(), csrf.encode()):
            raise CrossSiteError("This form was too old, or the browser keeps no cookies. Please try again.")
        device = request.cookies.get(_device_cookie(access.settings))
        done = access.log_in_browser(username, password, where=gate.where(request), device=device)
    except MediSyncError as error:
        return _page(request, "login.html", "Log in", error=error, next=wanted, username=username)
    answer = _to("/password" if done.principal.must_change_password else wanted)
    _set_cookies(answer, access.settings, done, access.csrf_token(done.principal.session_id))
    return answer


@pages_router.get("/logout")
def logout_form(request: Request, principal: Guest) -> Response:
    """Ask; a link alone must not be able to log anybody out."""
    return _to("/login") if principal is None else _page(request, "logout.html", "Log out?", principal=principal)


@pages_router.post("/logout")
def logout(request: Request, principal: Guest, csrf: Field = "") -> Response:
    """End the session and take its cookies back."""
    access = gate.access_of(request)
    if principal is not None:
        try:
            gate.require_own_page(request, principal, csrf)
            access.log_out(principal, where=gate.where(request))
        except MediSyncError as error:
            return _page(request, "logout.html", "Log out?", error=error, principal=principal)
    answer = _to("/login")
    for name in (gate.session_cookie(access.settings), gate.csrf_cookie(access.settings)):
        answer.delete_cookie(name, path="/")
    return answer


@pages_router.get("/password")
def password_form(request: Request, principal: Guest, next: Next = "/") -> Response:  # noqa: A002 - as above
    """The form to change one's own password."""
    if principal is None:
        return _to("/login?next=/password")
    return _page(request, "password.html", "Change the password", principal=principal, next=_safe(request, next))


@pages_router.post("/password")
def password(
    request: Request,
    principal: Guest,
    old: Field = "",
    new: Field = "",
    again: Field = "",
    csrf: Field = "",
    next: Field = "/",  # noqa: A002 - the field's name
) -> Response:
    """Change one's own password and go on."""
    if principal is None:
        return _to("/login?next=/password")
    access = gate.access_of(request)
    wanted = _safe(request, next)
    told: MediSyncError | str | None = None
    try:
        gate.require_own_page(request, principal, csrf)
        if new == again:
            device = request.cookies.get(_device_cookie(access.settings))
            access.change_password(principal, old, new, where=gate.where(request), device=device)
            return _to(wanted)
        told = "The two new passwords are not the same."
    except MediSyncError as error:
        told = error
    return _page(request, "password.html", "Change the password", error=told, principal=principal, next=wanted)


def doors(settings: Settings, principal: Principal, host: str) -> list[Door]:
    """What this visitor may open, and what of it runs."""
    running = _services(settings)
    listed = [
        Door(
            "Overview",
            "What the data say, and how fresh that is. It changes by itself.",
            addresses.pages_address(settings, host),
        )
    ]
    if principal.may(Permission.READ_RESULTS):
        listed.append(Door("API", "Every address, with its data types, to try out.", "/api/docs"))
    if principal.may(Permission.OPEN_LAB):
        is_up = "lab" in running
        says = "Notebooks over the lake." if is_up else "Not started: medisync up --lab"
        listed.append(Door("JupyterLab", says, addresses.lab_address(settings, host) + "lab" if is_up else None))
    if principal.may(Permission.OPEN_PREFECT):
        listed.append(Door("Prefect", "Flow runs, schedules and their logs.", "/prefect/"))
    return listed


def _services(settings: Settings) -> set[str]:
    """The names of the services the supervisor started."""
    try:
        return set(json.loads((settings.run_state / "supervisor.json").read_text(encoding="utf-8"))["services"])
    except (OSError, ValueError, KeyError):
        return set()


def _page(
    request: Request, template: str, title: str, *, error: MediSyncError | str | None = None, **values: Any
) -> Response:
    """One of our pages, with the headers that let nothing of another address in and no other site around it."""
    access = gate.access_of(request)
    settings = access.settings
    nonce = secrets.token_urlsafe(16)
    principal: Principal | None = values.get("principal")
    anonymous = request.cookies.get(gate.csrf_cookie(settings)) or secrets.token_urlsafe(32)
    csrf = anonymous if principal is None else access.csrf_token(principal.session_id)
    shared = {"title": title, "nonce": nonce, "css": _css(), "csrf": csrf, "least": LEAST_CHARACTERS}
    html = _templates().get_template(template).render(error=str(error) if error else "", **shared, **values)
    status, headers = 200, {}
    if isinstance(error, MediSyncError):
        status, headers = error.http_status, gate.error_headers(error)
    elif error:
        status = 422
    answer = HTMLResponse(html, status_code=status, headers=headers)
    doors_too = " ".join(addresses.origins(settings, _host(request)))  # browsers apply it to where a form leads, too
    answer.headers["Content-Security-Policy"] = "; ".join(
        [
            "default-src 'none'",
            f"style-src 'nonce-{nonce}'",
            "img-src data:",
            f"form-action 'self' {doors_too}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "same-origin"
    _csrf_cookie(answer, settings, csrf)
    return answer


def _set_cookies(answer: Response, settings: Settings, done: BrowserLogin, csrf: str) -> None:
    is_secure = addresses.is_secure(settings)
    seconds = int(settings.session_hours * 3600)
    name = gate.session_cookie(settings)
    answer.set_cookie(name, done.cookie, max_age=seconds, path="/", httponly=True, samesite="lax", secure=is_secure)
    _csrf_cookie(answer, settings, csrf)
    name = _device_cookie(settings)
    answer.set_cookie(
        name, done.device, max_age=DEVICE_SECONDS, path="/", httponly=True, samesite="strict", secure=is_secure
    )


def _csrf_cookie(answer: Response, settings: Settings, value: str) -> None:
    """Our own scripts read it, so it is not HttpOnly; it opens nothing by itself."""
    answer.set_cookie(
        gate.csrf_cookie(settings),
        value,
        max_age=int(settings.session_hours * 3600),
        path="/",
        samesite="strict",
        secure=addresses.is_secure(settings),
    )


def _device_cookie(settings: Settings) -> str:
    return f"medisync_device_{settings.api_port}"


def _to(address: str) -> Response:
    return RedirectResponse(address, status_code=303, headers={"Cache-Control": "no-store"})


def _host(request: Request) -> str:
    return addresses.host_of(request.headers.get("host"))


def _safe(request: Request, wanted: str) -> str:
    return addresses.safe_next(gate.access_of(request).settings, _host(request), wanted)


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)


@functools.cache
def _css() -> str:
    return stylesheet() + (TEMPLATES / "access.css").read_text(encoding="utf-8")
