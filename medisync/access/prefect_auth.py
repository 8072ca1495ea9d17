"""The secret between Prefect's server and its clients: without it no other user of the machine can use its API."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Generator
from functools import lru_cache

import httpx

from medisync.access.records import private_key
from medisync.settings import Settings

NAME = "prefect.auth"
"""Its file in ``data/keys/``."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def auth_string(settings: Settings) -> str:
    """What server and clients are told in ``PREFECT_SERVER_API_AUTH_STRING`` and ``PREFECT_API_AUTH_STRING``; it lies
    in ``data/keys/`` for the owner alone."""
    return private_key(settings, NAME, lambda: f"medisync:{secrets.token_urlsafe(24)}".encode()).decode()


def headers(settings: Settings) -> dict[str, str]:
    """The headers of a request to Prefect's API that only reads, or is passed on for somebody else."""
    return {"Authorization": f"Basic {base64.b64encode(auth_string(settings).encode()).decode()}"}


@lru_cache(maxsize=8)
def auth(settings: Settings) -> PrefectAuth:
    """For any client of this process; they share the CSRF token."""
    return PrefectAuth(settings)


class PrefectAuth(httpx.Auth):
    """Lets a client of httpx use Prefect's API: the secret, and a CSRF token where the server asks for one."""

    requires_response_body = True

    def __init__(self, settings: Settings) -> None:
        self._headers = headers(settings)
        self._token_url = f"{settings.prefect_api_url}/csrf-token"
        self._client = secrets.token_hex(16)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self._headers)
        answer = yield request
        if answer.status_code != httpx.codes.FORBIDDEN or request.method in SAFE_METHODS:
            return
        secret = {"Authorization": self._headers["Authorization"]}
        told = yield httpx.Request("GET", self._token_url, params={"client": self._client}, headers=secret)
        if told.is_success:  # the first time, and whenever the token has expired
            token = {"Prefect-Csrf-Token": str(told.json()["token"]), "Prefect-Csrf-Client": self._client}
            self._headers = {**secret, **token}
            request.headers.update(self._headers)
            yield request
