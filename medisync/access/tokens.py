"""Access tokens: short-lived JSON Web Tokens (RFC 7519), checked by the rules of RFC 8725."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass
from typing import Any

import jwt

from medisync.access.errors import NotAuthenticatedError
from medisync.access.keys import SigningKeys
from medisync.access.permissions import Role
from medisync.access.records import Clock, utc_now

ISSUER = "medisync"
AUDIENCE = "medisync-api"
ALGORITHM = "EdDSA"
ACCESS_SECONDS = 600
LEEWAY_SECONDS = 10
"""How far the clocks of two machines may be apart."""

REMEMBERED = 4096
REQUIRED = ("iss", "aud", "exp", "nbf", "iat", "jti", "sub", "role", "session")


@dataclass(frozen=True)
class Claims:
    """What a valid token says. The role it was issued with counts for nothing: the ledger's does."""

    name: str
    session_id: str
    token_id: str
    issued_at: float
    not_before: float
    expires_at: float


class Tokens:
    """Issues and checks access tokens; a signature is checked once a token and process, its times every time."""

    def __init__(self, keys: SigningKeys, clock: Clock = utc_now) -> None:
        self._keys = keys
        self._clock = clock
        self._seen: dict[str, Claims] = {}
        self._seen_with = -1

    def issue(self, name: str, role: Role, session_id: str) -> str:
        """A token that is valid from now for ACCESS_SECONDS."""
        kid, key = self._keys.signing()
        now = int(_seconds(self._clock()))
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": name,
            "role": role.value,
            "session": session_id,
            "jti": secrets.token_urlsafe(12),
            "iat": now,
            "nbf": now,
            "exp": now + ACCESS_SECONDS,
        }
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})

    def seen(self, token: str) -> Claims | None:
        """The claims of a token this process has checked before, when its times and its key are still good."""
        claims = self._seen.get(token) if self._seen_with == self._keys.version else None
        return claims if claims is not None and _is_in_time(claims, self._clock()) else None

    def check(self, token: str) -> Claims:
        """The claims of a valid token; raises NotAuthenticatedError for any other."""
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            found = self._keys.verifying(kid) if isinstance(kid, str) else None
            if found is None or header.get("alg") != ALGORITHM:
                raise NotAuthenticatedError("The access token is not one of this workspace.")
            version = self._keys.version
            if self._seen_with != version:
                self._seen, self._seen_with = {}, version
            known = self._seen.get(token)
            if known is None:
                key, retired = found
                known = self._verified(token, key, retired)
        except jwt.PyJWTError:
            raise NotAuthenticatedError("The access token is not valid.") from None
        now = _seconds(self._clock())
        if now >= known.expires_at + LEEWAY_SECONDS:
            raise NotAuthenticatedError("The access token has expired.", hint="Get a new one from /api/auth/refresh.")
        if not _is_in_time(known, self._clock()):
            raise NotAuthenticatedError("The access token is not valid yet.", hint="Was a clock set back?")
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen[token] = known
        return known

    def _verified(self, token: str, key: Any, retired: dt.datetime | None) -> Claims:
        # Times are checked above, against the clock that can be given.
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": list(REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        times = [claims[name] for name in ("iat", "nbf", "exp")]
        if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in times):
            raise NotAuthenticatedError("The access token is not valid.")
        if not (isinstance(claims["session"], str) and isinstance(claims["aud"], str)):
            raise NotAuthenticatedError("The access token is not valid.")
        issued_at, not_before, expires_at = times
        if expires_at - issued_at > ACCESS_SECONDS:
            raise NotAuthenticatedError("The access token is not valid.")
        if retired is not None and issued_at > _seconds(retired) + LEEWAY_SECONDS:
            raise NotAuthenticatedError("The access token was signed with a key that is not used any more.")
        return Claims(claims["sub"], claims["session"], claims["jti"], issued_at, not_before, expires_at)


def _is_in_time(claims: Claims, now: dt.datetime) -> bool:
    seconds = _seconds(now)
    starts = max(claims.issued_at, claims.not_before)
    return starts - LEEWAY_SECONDS <= seconds < claims.expires_at + LEEWAY_SECONDS


def _seconds(moment: dt.datetime) -> float:
    return moment.replace(tzinfo=dt.UTC).timestamp()
