"""A user of a test's workspace, logged in without the form: a session in its ledger, and the cookie for it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from medisync.access.errors import UserExistsError
from medisync.access.gate import csrf_cookie, session_cookie
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

PASSWORD = "a quiet meadow in may"


def make_user(settings: Settings, role: Role = Role.CLINICIAN) -> str:
    """The name of an account with ``role`` and PASSWORD, made when it is missing."""
    access = Access.open(settings)
    name = f"some-{role.value}"
    try:
        if access.accounts.find(name) is None:
            access.accounts.add(name, role, PASSWORD, must_change=False)
    except UserExistsError:
        pass
    finally:
        access.ledger.dispose()
    return name


def cookies(settings: Settings, role: Role = Role.CLINICIAN) -> dict[str, str]:
    """The cookies of a browser in which somebody with ``role`` is logged in."""
    name = make_user(settings, role)
    access = Access.open(settings)
    started = access.sessions.start(name, "cookie", dt.timedelta(hours=1))
    csrf = access.csrf_token(started.session_id)
    access.ledger.dispose()
    return {session_cookie(settings): started.secret, csrf_cookie(settings): csrf}


def log_in(context: BrowserContext, settings: Settings, role: Role = Role.CLINICIAN) -> None:
    """Log a browser in at all doors of the workspace."""
    held = cookies(settings, role).items()
    context.add_cookies([{"name": name, "value": value, "url": settings.pages_url} for name, value in held])
