"""The gate of the HTTP door: who asks, may they, and does a write with a cookie come from a page of ours?

An application puts an :class:`~medisync.access.service.Access` on ``app.state.access`` (:func:`install` does) and gives
every route ``Depends(require(Permission....))``.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request

from medisync.access.errors import (
    CrossSiteError,
    ForbiddenError,
    NotAuthenticatedError,
    PasswordMustChangeError,
    TooManyAttemptsError,
)
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.errors import MediSyncError
from medisync.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "X-CSRF-Token"


def install(app: FastAPI, access: Access) -> None:
    """Give ``app`` its gate: the access object, and the routes of login, logout, tokens and the start page."""
    from medisync.access.auth_routes import auth_router
    from medisync.access.page_routes import pages_router
    from medisync.access.prefect_door import prefect_router

    app.state.access = access
    app.include_router(auth_router)
    app.include_router(prefect_router)
    app.include_router(pages_router)


def access_of(connection: HTTPConnection) -> Access:
    """The access object of the application that got the request."""
    access: Access = connection.app.state.access
    return access


async def authenticate(connection: HTTPConnection) -> Principal:
    """Who asks, by the ``Authorization`` header or else the login cookie; raises NotAuthenticatedError (401),
    LedgerAwayError or IssuerAwayError (503). Works for requests and websockets."""
    access = access_of(connection)
    bearer, cookie = credentials(connection)
    found = access.glance(bearer, cookie)
    if found is None:
        found = await run_in_threadpool(access.principal, bearer, cookie)
    connection.state.principal = found
    return found


def require(permission: Permission) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that lets in whoever may; raises ForbiddenError or PasswordMustChangeError (403), recorded in the
    audit log, and CrossSiteError for a write with a cookie that is not from a page of ours.

    The dependency carries its permission as ``.permission``, so that a test can tell which route asks for which.
    """

    async def gate(request: Request) -> Principal:
        principal = await authenticate(request)
        if principal.method == "cookie" and request.method not in SAFE_METHODS:
            require_own_page(request, principal)
        await require_permission(request, principal, permission)
        return principal

    gate.permission = permission  # type: ignore[attr-defined]
    return gate


async def require_permission(request: Request, principal: Principal, permission: Permission) -> None:
    """Raises ForbiddenError, recorded in the audit log, or PasswordMustChangeError, when the principal may not."""
    if not principal.may(permission):
        await run_in_threadpool(_refuse, request, principal, permission)


def credentials(connection: HTTPConnection) -> tuple[str | None, str | None]:
    """The bearer token and the session cookie that came with the request. A header that is no bearer token counts as a
    wrong one: whoever sends a header does not mean the cookie."""
    header = connection.headers.get("authorization")
    cookie = connection.cookies.get(session_cookie(access_of(connection).settings))
    if header is None:
        return None, cookie
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else "", cookie


def require_own_page(request: Request, principal: Principal, token: str | None = None) -> None:
    """Raises CrossSiteError unless the request has the session's CSRF token and, where the browser tells where it comes
    from, comes from this door's own pages. ``token`` is that of a form; without it the header's counts."""
    require_same_origin(request)
    given = token if token is not None else request.headers.get(CSRF_HEADER, "")
    right = access_of(request).csrf_token(principal.session_id)
    if not hmac.compare_digest(given.encode(), right.encode()):
        raise CrossSiteError(
            "This request lacks the token of a page of this workspace.",
            hint=f"Send the cookie {csrf_cookie(access_of(request).settings)} as header {CSRF_HEADER}.",
        )


def require_same_origin(connection: HTTPConnection) -> None:
    """Raises CrossSiteError when the browser says that another site's page, or one of another port, sent this."""
    origin = connection.headers.get("origin")
    if origin is not None:
        public = access_of(connection).settings.public_url.rstrip("/")
        is_own = urlsplit(origin).netloc == connection.headers.get("host") or (public != "" and origin == public)
    else:
        is_own = connection.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    if not is_own:
        raise CrossSiteError("This request comes from a page of another site.")


def where(connection: HTTPConnection) -> str:
    """The address a request comes from, for the audit log and the count of attempts."""
    return connection.client.host if connection.client else "unknown"


def session_cookie(settings: Settings) -> str:
    """The session cookie's name. Cookies know no ports: workspaces side by side must not share a name."""
    return f"medisync_session_{settings.api_port}"


def csrf_cookie(settings: Settings) -> str:
    """The name of the cookie that scripts of ours read and send back as header."""
    return f"medisync_csrf_{settings.api_port}"


def error_headers(error: MediSyncError) -> dict[str, str]:
    """The headers that belong to the answer an error becomes."""
    if isinstance(error, TooManyAttemptsError):
        return {"Retry-After": str(error.retry_after_seconds)}
    if isinstance(error, NotAuthenticatedError):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def _refuse(request: Request, principal: Principal, permission: Permission) -> None:
    if principal.must_change_password:
        raise PasswordMustChangeError("The one-time password must be changed first.", hint="Do so at /password.")
    access_of(request).record(
        principal.name, f"refused: {permission.value}", f"{request.method} {request.url.path}", where(request), False
    )
    raise ForbiddenError(f"The role {principal.role.value} does not allow {permission.value}.")
