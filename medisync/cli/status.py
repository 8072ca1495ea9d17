"""``medisync status``: services, data, deliveries and analyses in one object."""

from __future__ import annotations

from typing import Any

import httpx
import rich.console
import rich.table

from medisync.lake import Lake
from medisync.runs.published import data_state, published
from medisync.settings import Settings
from medisync.supervisor.workspace import running
from medisync.upkeep.disk import DiskUse, disk_use

SHOWN_DELIVERIES = 5


def workspace_status(settings: Settings) -> dict[str, Any]:
    """Everything ``medisync status --json`` prints."""
    state = running(settings)
    lake = Lake(settings)
    status: dict[str, Any] = {
        "running": state is not None,
        "services": services_of(state) if state else {},
        "data": None,
        "deliveries": [],
        "analyses": [],
        "disk": disk_use(settings).as_json(),
    }
    if not lake.exists:
        return status
    data = data_state(lake)
    status["data"] = {
        "snapshot": data.snapshot_id,
        "admissions": data.admissions,
        "admitted_from": data.admitted_from,
        "admitted_until": data.admitted_until,
        "delivered_at": data.delivered_at,
        "deliveries": data.deliveries,
    }
    status["deliveries"] = lake.query(
        "SELECT delivery_id, source, file_label, status, reason, finished_at FROM clinical.deliveries "
        f"ORDER BY finished_at DESC LIMIT {SHOWN_DELIVERIES}"
    )
    status["analyses"] = [
        {
            "analysis": one.analysis,
            "freshness": one.freshness.value,
            "reason": one.reason,
            "headline": one.record.headline if one.record else None,
            "run_id": one.record.run_id if one.record else None,
            "snapshot": one.record.snapshot_id if one.record else None,
            "finished_at": one.record.finished_at if one.record else None,
        }
        for one in published(lake)
    ]
    return status


def show(status: dict[str, Any]) -> None:
    """The status for people."""
    console = rich.console.Console(highlight=False)
    if status["running"]:
        for service in status["services"].values():
            word = "up" if service["well"] else "DOWN"
            restarts = f", restarted {service['restarts']} times" if service["restarts"] else ""
            console.print(f"{service['title']}: {word}{restarts} {service['address'] or ''}")
    else:
        console.print("The workspace is not running. Start it with: medisync up")
    use = DiskUse(**{name: value for name, value in status["disk"].items() if name != "is_enough"})
    if not use.is_enough:
        console.print(f"The disk is nearly full: {use.sentence()}. Run: medisync clean-up")
    data = status["data"]
    if data is None or not data["admissions"]:
        console.print("There is no data yet. Drop a file into data/inbox/ or run: medisync ingest FILE")
        return
    console.print(
        f"{data['admissions']:,} admissions from {data['admitted_from']} to {data['admitted_until']}, "
        f"snapshot {data['snapshot']}, {data['deliveries']} deliveries, "
        f"last loaded {data['delivered_at']:%Y-%m-%d %H:%M} UTC"
    )
    deliveries = rich.table.Table("delivery", "source", "file", "status", "reason", title="Last deliveries")
    for row in status["deliveries"]:
        deliveries.add_row(row["delivery_id"], row["source"], row["file_label"], row["status"], row["reason"] or "")
    console.print(deliveries)
    analyses = rich.table.Table("analysis and run", "state", "headline", title="Analyses")
    for row in status["analyses"]:
        run = f"\n{row['run_id']}" if row["run_id"] else ""
        analyses.add_row(f"{row['analysis']}{run}", row["freshness"], row["headline"] or row["reason"] or "")
    console.print(analyses)


def services_of(state: dict[str, Any]) -> dict[str, Any]:
    """Each service the supervisor started, and whether it is well now."""
    from medisync.supervisor.processes import is_well

    with httpx.Client(timeout=2.0) as client:
        return {
            name: {
                "title": service["title"],
                "well": is_well(service["pid"], service["health"], client),
                "pid": service["pid"],
                "restarts": service["restarts"],
                "address": service["address"],
            }
            for name, service in state["services"].items()
        }
