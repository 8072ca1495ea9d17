"""Access as a whole: what every door asks, over accounts, sessions, tokens, attempts and the audit log."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from medisync.access import addresses, audit, passwords
from medisync.access.accounts import Accounts, normal_name
from medisync.access.attempts import Attempts
from medisync.access.errors import LedgerAwayError, LoginRefusedError, NotAuthenticatedError
from medisync.access.issuer import ExternalIssuer, configured_trust
from medisync.access.keys import SigningKeys
from medisync.access.principal import Principal
from medisync.access.records import Clock, digest, private_key, utc_now
from medisync.access.sessions import FAMILY_LIFE, RefreshReusedError, Sessions
from medisync.access.tokens import ACCESS_SECONDS, Tokens
from medisync.ledger import open_ledger
from medisync.settings import Settings

NOT_LOGGED_IN = "Nobody is logged in, or the session has ended."


@dataclass(frozen=True)
class TokenPair:
    """What a program gets; the refresh token works once."""

    principal: Principal
    access_token: str
    refresh_token: str
    expires_in_seconds: int = ACCESS_SECONDS


@dataclass(frozen=True)
class BrowserLogin:
    """What a browser gets: the session's cookie, and the device's, by which it is known at the next login."""

    principal: Principal
    cookie: str
    device: str


class Access:
    """The one object the doors of a process share. Thread-safe; open it once."""

    def __init__(self, settings: Settings, ledger: sa.Engine, clock: Clock = utc_now) -> None:
        self.settings = settings
        self.ledger = ledger
        self.accounts = Accounts(ledger, clock)
        self.sessions = Sessions(ledger, clock)
        self.attempts = Attempts(ledger, clock)
        self.keys = SigningKeys(settings, clock)
        self.tokens = Tokens(self.keys, clock)
        addresses.require_usable(settings)
        trust = configured_trust(settings)
        self.issuer = None if trust is None else ExternalIssuer(trust, clock)
        self._secret = private_key(settings, "browsers.key")

    @classmethod
    def open(cls, settings: Settings, clock: Clock = utc_now) -> Access:
        """Over the workspace's ledger; raises SettingsError (issuer, public addresses) or LedgerAwayError."""
        try:
            ledger = open_ledger(settings)
        except (OSError, sa.exc.DBAPIError) as error:
            raise LedgerAwayError(f"The ledger cannot be opened ({type(error).__name__}).") from error
        return cls(settings, ledger, clock)

    # Who is it?

    def glance(self, bearer: str | None, cookie: str | None) -> Principal | None:
        """As :meth:`principal`, from this process' memory alone; None when something must be looked up."""
        if bearer is None:
            return None if cookie is None else self.sessions.glance(f"cookie:{digest(cookie)}")
        claims = self.tokens.seen(bearer)
        if claims is not None:
            found = self.sessions.glance(f"id:{claims.session_id}")
            return found if found is not None and found.name == claims.name else None
        return None if self.issuer is None else self.issuer.seen(bearer)

    def principal(self, bearer: str | None, cookie: str | None) -> Principal:
        """Who holds the bearer token or, without one, the cookie; raises NotAuthenticatedError."""
        if bearer is not None:
            if self.issuer is not None and self.issuer.is_theirs(bearer):
                return self.issuer.check(bearer)
            claims = self.tokens.check(bearer)
            found = self.sessions.look(f"id:{claims.session_id}")
            if found is None or found.name != claims.name:
                raise NotAuthenticatedError(NOT_LOGGED_IN)
            return found
        found = None if cookie is None else self.sessions.look(f"cookie:{digest(cookie)}")
        if found is None:
            raise NotAuthenticatedError(NOT_LOGGED_IN, hint="Log in at /login, or send a bearer token.")
        return found

    # In and out

    def log_in_program(self, name: str, password: str, *, where: str) -> TokenPair:
        """Tokens for a name and a password; raises LoginRefusedError or TooManyAttemptsError."""
        known = self._checked(name, password, where=where, device=None)
        started = self.sessions.start(known, "token", FAMILY_LIFE)
        return self._pair(self._just_started(started.session_id), started.secret)

    def log_in_browser(self, name: str, password: str, *, where: str, device: str | None = None) -> BrowserLogin:
        """A session cookie for a name and a password; raises LoginRefusedError or TooManyAttemptsError."""
        known = self._checked(name, password, where=where, device=device)
        started = self.sessions.start(known, "cookie", dt.timedelta(hours=self.settings.session_hours))
        principal = self._just_started(started.session_id)
        is_known = device is not None and self._device_lane(known, device) is not None
        return BrowserLogin(principal, started.secret, device if is_known and device else self._new_device(known))

    def refresh(self, refresh_token: str, *, where: str) -> TokenPair:
        """The next pair of tokens; raises NotAuthenticatedError, and ends the session of a token that was used."""
        try:
            principal, following = self.sessions.refresh(refresh_token)
        except RefreshReusedError as error:
            holder = self.sessions.holder(error.session_id)
            self.record(holder, "refresh token reused, session ended", error.session_id, where, allowed=False)
            raise
        return self._pair(principal, following)

    def log_out(self, principal: Principal, *, where: str) -> None:
        """End the session at once; an external token lives until its issuer's time is over."""
        if principal.method != "external":
            self.sessions.end(principal.session_id, "logout")
        self.record(principal.name, "logout", "", where)

    def change_password(
        self, principal: Principal, old: str, new: str, *, where: str, device: str | None = None
    ) -> None:
        """Set a password of one's own; every other session of the account ends. Raises LoginRefusedError when the old
        one is wrong, WeakPasswordError, TooManyAttemptsError."""
        if principal.method == "external":
            raise LoginRefusedError("This account's password is kept by its issuer.")
        self._checked(principal.name, old, where=where, device=device, what="password change")
        passwords.require_strong(new, name=principal.name, old=old)
        self.accounts.set_password(principal.name, new, must_change=False, keep_session=principal.session_id)
        self.sessions.forget_all()
        self.record(principal.name, "password changed", principal.name, where)

    # What happened

    def record(self, who: str, what: str, on: str = "", where: str = "", allowed: bool = True) -> None:
        """Append to the audit log; see :func:`medisync.access.audit.record`."""
        audit.record(self.ledger, who, what, on, where, allowed)

    def csrf_token(self, session_id: str) -> str:
        """What a page of ours sends with a write; a page of another site cannot know it."""
        return self._keyed("csrf", session_id)

    def _checked(self, typed: str, password: str, *, where: str, device: str | None, what: str = "login") -> str:
        """The account's name when the password is right; every attempt is counted and recorded."""
        name = normal_name(typed)
        lane = None if device is None else self._device_lane(name, device)
        lanes = [lane] if lane is not None else [
            f"account:{self._keyed('account', name)}", f"address:{self._keyed('address', where)}"
        ]  # fmt: skip
        self.attempts.begin(lanes)
        found = self.accounts.find(name) if len(name) <= 64 else None
        is_right = passwords.is_right(password, None if found is None else found[1])
        if found is None or not is_right or found[0].is_disabled:
            # People type passwords where names belong: a name nobody has is not written down.
            self.record(name if found is not None else "(unknown name)", what, "", where, allowed=False)
            raise LoginRefusedError("Name or password is wrong.")
        self.attempts.succeeded(lanes)
        if passwords.is_outdated(found[1]):
            self.accounts.rehash(name, password)
        self.record(name, what, "", where)
        return name

    def _just_started(self, session_id: str) -> Principal:
        found = self.sessions.look(f"id:{session_id}")
        if found is None:  # disabled between the check and now
            raise LoginRefusedError("Name or password is wrong.")
        return found

    def _pair(self, principal: Principal, refresh_token: str) -> TokenPair:
        token = self.tokens.issue(principal.name, principal.role, principal.session_id)
        return TokenPair(principal, token, refresh_token)

    def _new_device(self, name: str) -> str:
        device = secrets.token_urlsafe(12)
        return f"{device}.{self._keyed('device', f'{name}/{device}')}"

    def _device_lane(self, name: str, cookie: str) -> str | None:
        """The lane of a browser that logged in as ``name`` before; None for any other, or a forged cookie."""
        device, _, seal = cookie.partition(".")
        if not hmac.compare_digest(seal.encode(), self._keyed("device", f"{name}/{device}").encode()):
            return None
        return f"device:{self._keyed('lane', f'{name}/{device}')}"

    def _keyed(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()
