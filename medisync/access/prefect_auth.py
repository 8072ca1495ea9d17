"""The secret between Prefect's server and its clients: without it no other user of the machine can use its API."""

from __future__ import annotations

import base64
import secrets

from medisync.access.records import private_key
from medisync.settings import Settings

NAME = "prefect.auth"
"""Its file in ``data/keys/``."""


def auth_string(settings: Settings) -> str:
    """What server and clients are told in ``PREFECT_SERVER_API_AUTH_STRING`` and ``PREFECT_API_AUTH_STRING``; it lies
    in ``data/keys/`` for the owner alone."""
    return private_key(settings, NAME, lambda: f"medisync:{secrets.token_urlsafe(24)}".encode()).decode()


def headers(settings: Settings) -> dict[str, str]:
    """The headers of a request to Prefect's API."""
    return {"Authorization": f"Basic {base64.b64encode(auth_string(settings).encode()).decode()}"}
