"""Old flow runs in Prefect's database, removed through its API while it runs."""

from __future__ import annotations

import datetime as dt

import httpx

from medisync.settings import Settings

PAGE = 200
MOST = 5_000
"""Removed in one clean-up at most; the next one goes on."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def remove_old_flow_runs(settings: Settings, oldest: dt.datetime, *, dry_run: bool) -> int | None:
    """Remove flow runs that ended before ``oldest``; their number (in a dry run that of those found), or None when
    Prefect is away or does not let us."""
    wanted = {
        "flow_runs": {
            "end_time": {"before_": oldest.isoformat()},
            "state": {"type": {"any_": list(ENDED)}},
        }
    }
    removed = 0
    try:
        with _client(settings) as client:
            if dry_run:
                answer = client.post("/flow_runs/count", json=wanted)
                answer.raise_for_status()
                return int(answer.json())
            while removed < MOST:
                answer = client.post("/flow_runs/filter", json={**wanted, "limit": PAGE})
                answer.raise_for_status()
                found = [one["id"] for one in answer.json()]
                for flow_run_id in found:
                    client.delete(f"/flow_runs/{flow_run_id}").raise_for_status()
                removed += len(found)
                if len(found) < PAGE:
                    break
    except (httpx.HTTPError, ValueError):
        return removed or None
    return removed


def _client(settings: Settings) -> httpx.Client:
    from medisync.access import prefect_auth

    return httpx.Client(base_url=settings.prefect_api_url, timeout=10.0, auth=prefect_auth.auth(settings))
