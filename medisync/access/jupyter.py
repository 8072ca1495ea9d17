"""One login for Voila and JupyterLab: both take the session cookie the login page sets.

Cookies belong to a host, not to a port, so the browser sends it to all three doors. Jupyter's own tokens and passwords
are not asked. Whoever is not logged in is led to the login page and back; whoever may not, is refused, whatever is
asked for: the identity provider sees every request, also of extensions that ask no authorizer.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import Any
from urllib.parse import quote

import tornado.web
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import JupyterHandler
from tornado.ioloop import PeriodicCallback
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from medisync import __version__
from medisync.access import addresses
from medisync.access.errors import NotAuthenticatedError
from medisync.access.gate import session_cookie
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.errors import MediSyncError
from medisync.settings import load_settings

HEALTH_PATH = "medisync/health"
LOOK_SECONDS = 0.5
"""How often open websockets are looked at: those of a session that has ended are closed."""

LOGGED_OUT = 4401
"""The code a websocket is closed with then."""


@functools.cache
def access() -> Access:
    """This process' access."""
    return Access.open(load_settings())


class SessionIdentity(IdentityProvider):
    """Who asks, by the session cookie; ``needed`` is what the door as a whole asks for."""

    needed = Permission.OPEN_LAB
    token = ""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sockets: weakref.WeakSet[WebSocketHandler] = weakref.WeakSet()
        self._watch: PeriodicCallback | None = None

    @property
    def auth_enabled(self) -> bool:
        return True

    def get_user(self, handler: tornado.web.RequestHandler) -> User | None:
        """The visitor; None without a session. Raises 403 when the role does not allow this door, 503 when the ledger
        is away."""
        principal = principal_of(handler)
        if principal is None or principal.must_change_password:
            return None
        if not principal.may(self.needed):
            asked = f"{handler.request.method} {handler.request.path}"
            with contextlib.suppress(MediSyncError):  # refused all the same
                access().record(principal.name, f"refused: {self.needed.value}", asked, _where(handler), False)
            handler.current_user = handler._jupyter_current_user = None  # type: ignore[attr-defined]
            raise tornado.web.HTTPError(403, "The role %s does not allow this", principal.role.value)
        handler.medisync_principal = principal  # type: ignore[attr-defined]
        if isinstance(handler, WebSocketHandler):
            self._keep_watch(handler)
        return User(username=principal.name, name=principal.name, display_name=principal.name)

    def get_handlers(self) -> list[tuple[str, object]]:
        return [(r"/login", ToLogin), (r"/logout", ToLogout), (r"/start", ToStart), (rf"/{HEALTH_PATH}", Health)]

    def is_token_authenticated(self, handler: tornado.web.RequestHandler) -> bool:  # noqa: ARG002
        """Never: so Jupyter checks its XSRF token on every write, and the origin of every websocket."""
        return False

    def _keep_watch(self, handler: WebSocketHandler) -> None:
        self._sockets.add(handler)
        if self._watch is None:
            self._watch = PeriodicCallback(self._close_ended, LOOK_SECONDS * 1000)
            self._watch.start()

    def _close_ended(self) -> None:
        for handler in list(self._sockets):
            if handler.ws_connection is None:
                continue
            try:
                principal = principal_of(handler)
            except tornado.web.HTTPError:  # the ledger is away: nobody new gets in, open pages stay
                continue
            if principal is None or not principal.may(self.needed):
                with contextlib.suppress(WebSocketClosedError):
                    handler.close(LOGGED_OUT, "The session has ended.")


class PagesIdentity(SessionIdentity):
    """The same for the live pages: every role may."""

    needed = Permission.OPEN_PAGES


class LabAuthorizer(Authorizer):
    """Contents, kernels, terminals and the rest: all of it is JupyterLab."""

    def is_authorized(self, handler: JupyterHandler, user: User, action: str, resource: str) -> bool:  # noqa: ARG002
        return _may(handler, Permission.OPEN_LAB)


class PagesAuthorizer(Authorizer):
    """A page may talk to its own kernel, in the few messages Voila lets through, and ask whether it is still there."""

    def is_authorized(self, handler: JupyterHandler, user: User, action: str, resource: str) -> bool:  # noqa: ARG002
        is_of_a_page = resource == "kernels" and action in ("read", "execute")
        return is_of_a_page and _may(handler, Permission.OPEN_PAGES)


def principal_of(handler: tornado.web.RequestHandler) -> Principal | None:
    """Whose session the request's cookie is; raises HTTPError 503 when the ledger cannot tell."""
    try:
        gate = access()
        cookie = handler.get_cookie(session_cookie(gate.settings))
        if not cookie:
            return None
        return gate.glance(None, cookie) or gate.principal(None, cookie)
    except NotAuthenticatedError:
        return None
    except MediSyncError as error:
        raise tornado.web.HTTPError(error.http_status, "%s", error.message) from None


def record_download(handler: tornado.web.RequestHandler, on: str, *, allowed: bool = True) -> None:
    """Write a download, or its refusal, into the audit log; raises HTTPError 503 when that cannot be done."""
    principal = getattr(handler, "medisync_principal", None)
    name = principal.name if isinstance(principal, Principal) else "unknown"
    try:
        access().record(name, "download", on, _where(handler), allowed)
    except MediSyncError as error:
        raise tornado.web.HTTPError(error.http_status, "%s", error.message) from None


class ToLogin(JupyterHandler):
    """Leads to the one login page, and from there back to where the visitor wanted to go."""

    @allow_unauthenticated
    def get(self) -> None:
        settings = access().settings
        host = addresses.host_of(self.request.host)
        is_of_pages = isinstance(self.identity_provider, PagesIdentity)
        address = addresses.pages_address if is_of_pages else addresses.lab_address
        path = self.get_argument("next", "/")
        wanted = address(settings, host) + (path.lstrip("/") if path.startswith("/") else "")
        self.redirect(f"{addresses.api_address(settings, host)}login?next={quote(wanted, safe='')}")


class ToLogout(JupyterHandler):
    """Leads to the one logout page."""

    there = "logout"

    @allow_unauthenticated
    def get(self) -> None:
        self.redirect(addresses.api_address(access().settings, addresses.host_of(self.request.host)) + self.there)


class ToStart(ToLogout):
    """Leads to the start page, which says what else the visitor may open."""

    there = ""


class Health(tornado.web.RequestHandler):
    """Whether the server listens; tells nothing else, and asks for no login."""

    @allow_unauthenticated
    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write({"status": "ok", "version": __version__})


def _may(handler: tornado.web.RequestHandler, permission: Permission) -> bool:
    principal = getattr(handler, "medisync_principal", None)
    return isinstance(principal, Principal) and principal.may(permission)


def _where(handler: tornado.web.RequestHandler) -> str:
    return str(handler.request.remote_ip or "unknown")
