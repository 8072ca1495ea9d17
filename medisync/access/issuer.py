"""Tokens of an external OpenID Connect issuer (a hospital's own login service)."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from medisync.access.errors import IssuerAwayError, NotAuthenticatedError
from medisync.access.permissions import GRANTS, Role
from medisync.access.principal import Principal
from medisync.access.records import Clock, digest, utc_now
from medisync.access.tokens import LEEWAY_SECONDS
from medisync.errors import SettingsError
from medisync.settings import Settings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Only signatures with a public key: a shared secret or ``none`` can never be taken for one."""

FRESH_SECONDS = 3600.0
"""Keys are fetched again after this; while the issuer is away the old ones go on."""

LEAST_SECONDS_BETWEEN = 10.0
"""Tokens with made-up key ids must not make us a nuisance to the issuer."""

FETCH_SECONDS = 5.0
LARGEST_BYTES = 262_144
REMEMBERED = 4096


@dataclass(frozen=True)
class Trust:
    """What is configured about the issuer."""

    issuer: str
    audience: str
    jwks_url: str
    role_claim: str
    roles: dict[str, Role]
    user_claim: str


def configured_trust(settings: Settings) -> Trust | None:
    """The configured issuer; None when there is none. Raises SettingsError when the configuration is incomplete."""
    given = (settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url)
    if not any(given):
        return None
    if not all(given):
        raise SettingsError("MEDISYNC_OIDC_ISSUER, _AUDIENCE and _JWKS_URL must be set together.")
    if not settings.oidc_jwks_url.startswith(("https://", "http://")):
        raise SettingsError("MEDISYNC_OIDC_JWKS_URL must be an http(s) address.")
    roles = {}
    for pair in filter(None, (one.strip() for one in settings.oidc_roles.split(","))):
        theirs, _, ours = pair.partition("=")
        if ours.strip() not in set(Role):
            raise SettingsError("MEDISYNC_OIDC_ROLES must have the form THEIRS=viewer,THEIRS=admin with roles of ours.")
        roles[theirs.strip()] = Role(ours.strip())
    return Trust(
        *given, settings.oidc_role_claim, roles or {role.value: role for role in Role}, settings.oidc_user_claim
    )


class ExternalIssuer:
    """Checks the issuer's tokens with its published keys (JWKS), which are kept while the issuer is away."""

    def __init__(self, trust: Trust, clock: Clock = utc_now) -> None:
        self.trust = trust
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[Principal, float, float, str]] = {}

    def is_theirs(self, token: str) -> bool:
        """Whether the token says that it is of this issuer; it may lie, :meth:`check` finds out."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return False
        return bool(claims.get("iss") == self.trust.issuer)

    def seen(self, token: str) -> Principal | None:
        """The holder of a token this process has checked before, while it is in time and its key is published."""
        known = self._seen.get(token)
        if known is None or time.monotonic() - self._fetched_at > FRESH_SECONDS:
            return None
        principal, starts, ends, kid = known
        now = self._clock().replace(tzinfo=dt.UTC).timestamp()
        in_time = starts - LEEWAY_SECONDS <= now < ends + LEEWAY_SECONDS
        return principal if in_time and kid in self._keys else None

    def check(self, token: str) -> Principal:
        """Who holds the token; raises NotAuthenticatedError, or IssuerAwayError when no key was ever fetched."""
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS or not isinstance(kid, str):
                raise NotAuthenticatedError("The token's signature is of a kind that is not accepted.")
            key = self._key(kid)
            if key.algorithm_name != algorithm and not _same_family(key.algorithm_name, algorithm):
                raise NotAuthenticatedError("The token's signature is not of its key's kind.")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self.trust.audience,
                issuer=self.trust.issuer,
                options={"require": ["iss", "aud", "exp", "iat"], "verify_exp": False, "verify_nbf": False,
                         "verify_iat": False},
            )  # fmt: skip
        except jwt.PyJWTError:
            raise NotAuthenticatedError("The issuer's token is not valid.") from None
        starts, ends = self._times(claims)
        principal = self._principal(claims, token)
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen[token] = (principal, starts, ends, kid)
        return principal

    def _times(self, claims: dict[str, Any]) -> tuple[float, float]:
        times = [claims[name] for name in ("exp", "iat")] + [claims.get("nbf", claims["iat"])]
        if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in times):
            raise NotAuthenticatedError("The issuer's token is not valid.")
        ends, starts = times[0], max(times[1:])
        now = self._clock().replace(tzinfo=dt.UTC).timestamp()
        if now >= ends + LEEWAY_SECONDS:
            raise NotAuthenticatedError("The issuer's token has expired.", hint="Get a new one from the issuer.")
        if now < starts - LEEWAY_SECONDS:
            raise NotAuthenticatedError("The issuer's token is not valid yet.")
        return starts, ends

    def _principal(self, claims: dict[str, Any], token: str) -> Principal:
        name = claims.get(self.trust.user_claim)
        if not isinstance(name, str) or not 0 < len(name) <= 100:
            raise NotAuthenticatedError("The issuer's token names no user.")
        found: Any = claims
        for part in self.trust.role_claim.split("."):  # realm_access.roles: a claim within a claim
            found = found.get(part) if isinstance(found, dict) else None
        given = found if isinstance(found, list) else str(found or "").split()
        roles = [self.trust.roles[one] for one in given if isinstance(one, str) and one in self.trust.roles]
        if not roles:
            raise NotAuthenticatedError("The issuer's token grants no role here.")
        # A name of theirs must never be one of ours.
        return Principal(
            f"external:{name}", max(roles, key=lambda role: len(GRANTS[role])), "external", digest(token)[:22]
        )

    def _key(self, kid: str) -> jwt.PyJWK:
        age = time.monotonic() - self._fetched_at
        if kid not in self._keys or age > FRESH_SECONDS:
            self._fetch()
        if not self._keys:
            raise IssuerAwayError("The issuer's keys cannot be fetched.", hint="Local accounts work meanwhile.")
        if kid not in self._keys:
            raise NotAuthenticatedError("The token's key is not one the issuer publishes.")
        return self._keys[kid]

    def _fetch(self) -> None:
        """Fetch the keys, unless that was tried a moment ago; what is known stays when it fails."""
        with self._lock:
            if time.monotonic() - self._tried_at < LEAST_SECONDS_BETWEEN:
                return
            self._tried_at = time.monotonic()
            try:
                with httpx.stream("GET", self.trust.jwks_url, timeout=FETCH_SECONDS, trust_env=False) as answer:
                    answer.raise_for_status()
                    body = b""
                    for chunk in answer.iter_bytes():
                        body += chunk
                        if len(body) > LARGEST_BYTES:
                            return
                keys = _keys_of(json.loads(body))
            except (httpx.HTTPError, ValueError):
                return
            if keys:
                self._keys, self._fetched_at = keys, self._tried_at


def _keys_of(published: Any) -> dict[str, jwt.PyJWK]:
    """The keys that can check a signature; one of a kind unknown here does not spoil the others."""
    keys: dict[str, jwt.PyJWK] = {}
    listed = published.get("keys") if isinstance(published, dict) else None
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or one.get("kty") == "oct" or one.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(one)
        except jwt.PyJWTError:
            continue
        if isinstance(one.get("kid"), str) and key.algorithm_name in ALGORITHMS:
            keys[one["kid"]] = key
    return keys


def _same_family(of_key: str, of_token: str) -> bool:
    """An RSA key that names no algorithm is taken for RS256 and may be used with the others of RSA."""
    rsa = ("RS", "PS")
    return of_key.startswith(rsa) and of_token.startswith(rsa)
