"""Asking the running workspace for something, through Prefect's API."""

from __future__ import annotations

import httpx

from medisync.access import prefect_auth
from medisync.settings import Settings


def request_refresh(settings: Settings) -> bool:
    """Have the workspace rerun what changed; False when it is not running. Nothing is lost then: ask again later."""
    try:
        auth = prefect_auth.auth(settings)
        with httpx.Client(base_url=settings.prefect_api_url, auth=auth, timeout=5.0) as client:
            found = client.get("/deployments/name/analyze/analyze")
            found.raise_for_status()
            body = {"parameters": {"trigger": "command line"}, "state": {"type": "SCHEDULED"}}
            client.post(f"/deployments/{found.json()['id']}/create_flow_run", json=body).raise_for_status()
    except httpx.HTTPError:
        return False
    return True
