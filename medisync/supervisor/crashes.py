"""What becomes of a flow run that is killed: Prefect automations that notice it, and try it again.

A run whose process dies while its worker lives is marked crashed by the worker. When both die, or the server while it
was told, nobody is left to say so; then it is the missing sign of life that tells. Every running flow sends a heartbeat
each half minute, and the server counts the time since the last one.

The server keeps unheard events in memory only. So after each of its starts every unfinished run is put in doubt, by an
event on its behalf, and must give a sign of life.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import httpx

from medisync.settings import Settings
from medisync.supervisor.prefect_requests import ask, while_too_busy

IN_DOUBT = "medisync.flow-run.in-doubt"
HEARTBEAT = "prefect.flow-run.heartbeat"
LONGEST_DOUBT_SECONDS = 45.0
"""One and a half times the time between two heartbeats."""
NEVER_BEGAN_SECONDS = 3600.0
"""A run that crashed before it began has used no try; it gets another so often at most."""

BEGINNINGS = ("Pending", "Submitting", "InfrastructurePending", "Running", "Retrying")
ENDS = ("Completed", "Cached", "Failed", "Crashed", "Cancelled", "TimedOut")
WAITINGS = ("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Paused", "Suspended", "Cancelling")


def automations(settings: Settings) -> list[dict[str, Any]]:
    """The automations of a workspace, as Prefect's API takes them."""
    signs = [HEARTBEAT, *map(_event, BEGINNINGS)]
    rests = [*map(_event, ENDS), *map(_event, WAITINGS)]
    crashed = {"type": "change-flow-run-state", "state": "CRASHED", "message": "It gave no sign of life."}
    again = {
        "type": "change-flow-run-state",
        "state": "SCHEDULED",
        "name": "AwaitingRetry",
        "message": "It crashed and is tried again.",
    }
    cancelled = {"type": "change-flow-run-state", "state": "CANCELLED", "force": True}
    tries = [str(count) for count in range(1, settings.crash_tries)]
    retried = [
        *([_reactive(tries, within=0)] if tries else []),
        _reactive(["0"], within=NEVER_BEGAN_SECONDS),
    ]
    return [
        _automation(
            "no-sign-of-life",
            "A flow run that no longer gives a sign of life has crashed.",
            _proactive(after=signs, expect=[*signs, *rests], within=settings.crash_seconds),
            crashed,
        ),
        _automation(
            "in-doubt",
            "So has one that gives none after the server was away.",
            _proactive(
                after=[IN_DOUBT],
                expect=[*signs, *rests],
                within=min(settings.crash_seconds, LONGEST_DOUBT_SECONDS),
            ),
            crashed,
        ),
        _automation(
            "try-again",
            "A crashed flow run is tried again, a few times.",
            {"type": "compound", "require": "any", "within": None, "triggers": retried},
            again,
        ),
        _automation(
            "cancelled-at-last",
            "A flow run that died while it was being cancelled is cancelled.",
            _proactive(after=[_event("Cancelling")], expect=[*map(_event, ENDS)], within=settings.crash_seconds),
            cancelled,
        ),
    ]


@while_too_busy
def register(settings: Settings, client: httpx.Client) -> None:
    """Bring the server's automations in line with ours, by name; what is there already stays untouched.

    Raises httpx.HTTPError.
    """
    wanted = automations(settings)
    names = {"automations": {"name": {"any_": [one["name"] for one in wanted]}}}
    found = {one["name"]: one for one in ask(client, settings, "POST", "/automations/filter", names).json()}
    for one in wanted:
        known = found.get(one["name"])
        if known is None:
            ask(client, settings, "POST", "/automations/", one)
        elif not _holds(known, one):
            ask(client, settings, "PUT", f"/automations/{known['id']}", one)


def put_in_doubt(settings: Settings, client: httpx.Client) -> int:
    """Ask every unfinished flow run for a sign of life; the number of them. Raises httpx.HTTPError."""
    begun = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
    runs = ask(client, settings, "POST", "/flow_runs/filter", begun).json()
    now = dt.datetime.now(dt.UTC).isoformat()
    events = [
        {
            "id": str(uuid.uuid4()),
            "occurred": now,
            "event": IN_DOUBT,
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run['id']}"},
        }
        for run in runs
    ]
    if events:
        ask(client, settings, "POST", "/events", events)
    return len(events)


def _event(state: str) -> str:
    return f"prefect.flow-run.{state}"


def _automation(name: str, description: str, trigger: dict[str, Any], action: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"medisync-{name}", "description": description, "trigger": trigger, "actions": [action]}


def _proactive(*, after: list[str], expect: list[str], within: float) -> dict[str, Any]:
    return {
        "type": "event",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": ["prefect.resource.id"],
        "after": after,
        "expect": expect,
        "posture": "Proactive",
        "threshold": 1,
        "within": within,
    }


def _reactive(run_counts: list[str], *, within: float) -> dict[str, Any]:
    return {
        "type": "event",
        "match": {"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": run_counts},
        "for_each": ["prefect.resource.id"],
        "expect": [_event("Crashed")],
        "posture": "Reactive",
        "threshold": 1,
        "within": within,
    }


def _holds(known: Any, wanted: Any) -> bool:
    """Whether what the server keeps is what is wanted, and perhaps more; its lists have no order of their own."""
    if isinstance(wanted, dict):
        return isinstance(known, dict) and all(_holds(known.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        known = known if isinstance(known, list) else [known]
        return len(known) == len(wanted) and all(any(_holds(one, value) for one in known) for value in wanted)
    return bool(known == wanted or [wanted] == known)
