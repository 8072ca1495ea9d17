"""Sessions: what a login starts and a logout ends, for browsers (a cookie) and programs (tokens).

Every request asks whether its session still lives. The answer is remembered for LOOK_SECONDS in each process, so a
logout, a disabled account or another role works everywhere within that time, and at once in the process it happened in.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from medisync.access.errors import NotAuthenticatedError
from medisync.access.permissions import Role
from medisync.access.principal import Method, Principal
from medisync.access.records import Clock, digest, transaction, utc_now
from medisync.ledger.access import refresh_tokens, sessions, users

LOOK_SECONDS = 0.5
REMEMBERED = 10_000

REFRESH_LIFE = dt.timedelta(days=7)
"""How long a refresh token may lie unused."""

FAMILY_LIFE = dt.timedelta(days=30)
"""After this a program must log in again, however often it refreshed."""

KEPT_ENDED = dt.timedelta(days=7)


@dataclass(frozen=True)
class Started:
    """A new session: ``secret`` is the cookie's value or the first refresh token, and is kept nowhere."""

    session_id: str
    secret: str


@dataclass(frozen=True)
class _Known:
    principal: Principal
    expires_at: dt.datetime
    looked_at: float  # on the clock that nobody can set


class Sessions:
    """The sessions of one ledger."""

    def __init__(self, ledger: sa.Engine, clock: Clock = utc_now) -> None:
        self._ledger = ledger
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def start(self, name: str, method: Method, life: dt.timedelta) -> Started:
        """Begin a session; with ``token`` its first refresh token is made, too."""
        now = self._clock()
        session_id, secret = secrets.token_urlsafe(16), secrets.token_urlsafe(32)
        row = {
            "session_id": session_id,
            "user_name": name,
            "secret_hash": digest(secret if method == "cookie" else secrets.token_urlsafe(32)),
            "method": method,
            "started_at": now,
            "expires_at": now + life,
        }
        with transaction(self._ledger) as connection:
            connection.execute(sessions.insert().values(**row))
            self._forget_old(connection, now)
            if method == "token":
                secret = self._new_refresh_token(connection, session_id, now)
        return Started(session_id, secret)

    def glance(self, key: str) -> Principal | None:
        """Who holds the session, when this process looked less than LOOK_SECONDS ago. ``key``: see :meth:`look`."""
        known = self._known.get(key)
        if known is None or time.monotonic() - known.looked_at > LOOK_SECONDS or self._clock() >= known.expires_at:
            return None
        return known.principal

    def look(self, key: str) -> Principal | None:
        """Who holds the session now; None when it ended. ``key`` is ``id:`` and its id, or ``cookie:`` and the
        cookie's hash."""
        looked_at = time.monotonic()
        kind, _, value = key.partition(":")
        is_it = sessions.c.session_id == value if kind == "id" else sessions.c.secret_hash == value
        row = next(iter(self._alive(is_it)), None)
        if row is None:
            self._known.pop(key, None)
            return None
        principal = _holder(row)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[key] = _Known(principal, row.expires_at, looked_at)
        return principal

    def holders(self, session_ids: Collection[str]) -> dict[str, Principal]:
        """Session id -> who holds it now, in one question for all of ``session_ids``; without those that ended."""
        return {row.session_id: _holder(row) for row in self._alive(sessions.c.session_id.in_(session_ids))}

    def end(self, session_id: str, because: str) -> None:
        """End a session; all its refresh tokens with it."""
        with transaction(self._ledger) as connection:
            self._end(connection, session_id, because)
        self._forget(session_id)

    def forget_all(self) -> None:
        """Look every session up again at its next request: accounts were changed in this process."""
        self._known.clear()

    def refresh(self, token: str) -> tuple[Principal, str]:
        """Exchange a refresh token, which works once, for the next one. A used one that comes again was copied: its
        session ends, for the thief and for the owner. Raises NotAuthenticatedError."""
        now = self._clock()
        hashed = digest(token)
        with transaction(self._ledger) as connection:
            unused = (refresh_tokens.c.token_hash == hashed) & refresh_tokens.c.used_at.is_(None)
            is_first = connection.execute(refresh_tokens.update().where(unused).values(used_at=now)).rowcount == 1
            row = connection.execute(
                sa.select(refresh_tokens).where(refresh_tokens.c.token_hash == hashed)
            ).one_or_none()
            if row is not None and not is_first:
                self._end(connection, row.session_id, "refresh token used twice")
        if row is None:
            raise NotAuthenticatedError("The refresh token is not valid.", hint="Log in again.")
        if not is_first:
            self._forget(row.session_id)
            raise RefreshReusedError(row.session_id)
        principal = self.look(f"id:{row.session_id}")
        if principal is None or now >= row.expires_at:
            raise NotAuthenticatedError("The session has ended.", hint="Log in again.")
        with transaction(self._ledger) as connection:
            return replace(principal, method="token"), self._new_refresh_token(connection, row.session_id, now)

    def holder(self, session_id: str) -> str:
        """The name of the account a session belongs or belonged to; "" when it is not known."""
        with transaction(self._ledger) as connection:
            query = sa.select(sessions.c.user_name).where(sessions.c.session_id == session_id)
            return str(connection.execute(query).scalar_one_or_none() or "")

    def _alive(self, which: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
        """The sessions that live, with what is to be known of their accounts."""
        query = (
            sa.select(sessions, users.c.role, users.c.must_change_password)
            .join(users, users.c.name == sessions.c.user_name)
            .where(which, sessions.c.ended_at.is_(None), users.c.is_disabled.is_(False))
        )
        with transaction(self._ledger) as connection:
            rows = connection.execute(query).all()
        now = self._clock()
        return [row for row in rows if now < row.expires_at]

    def _end(self, connection: sa.Connection, session_id: str, because: str) -> None:
        alive = (sessions.c.session_id == session_id) & sessions.c.ended_at.is_(None)
        ended: dict[str, Any] = {"ended_at": self._clock(), "ended_because": because}
        connection.execute(sessions.update().where(alive).values(**ended))

    def _forget(self, session_id: str) -> None:
        of_session = [key for key, known in list(self._known.items()) if known.principal.session_id == session_id]
        for key in of_session:
            self._known.pop(key, None)

    def _new_refresh_token(self, connection: sa.Connection, session_id: str, now: dt.datetime) -> str:
        token = secrets.token_urlsafe(32)
        row = {"token_hash": digest(token), "session_id": session_id, "issued_at": now}
        connection.execute(refresh_tokens.insert().values(**row, expires_at=now + REFRESH_LIFE))
        return token

    def _forget_old(self, connection: sa.Connection, now: dt.datetime) -> None:
        """Sessions that are over for a week tell nobody anything any more."""
        old = sa.select(sessions.c.session_id).where(sessions.c.expires_at < now - KEPT_ENDED)
        connection.execute(refresh_tokens.delete().where(refresh_tokens.c.session_id.in_(old)))
        connection.execute(sessions.delete().where(sessions.c.expires_at < now - KEPT_ENDED))


def _holder(row: sa.Row[Any]) -> Principal:
    return Principal(row.user_name, Role(row.role), row.method, row.session_id, row.must_change_password)


class RefreshReusedError(NotAuthenticatedError):
    """A refresh token came a second time; its session is ended."""

    def __init__(self, session_id: str) -> None:
        super().__init__("This refresh token was used before; the session is ended.", hint="Log in again.")
        self.session_id = session_id
