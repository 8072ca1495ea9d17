"""Every morning: the pack of all analyses, and the message that sends it."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.rounds import lake, wake_sender
from medisync.reports.bulletins import daily_report, utc_now


@flow(name="report")
def report() -> dict[str, Any]:
    """Make the pack of what is published now and put it into the outbox."""
    kept = daily_report(lake(), utc_now()).get("full")
    if kept is None:
        get_run_logger().info("There is no result yet.")
        return {"pack": None}
    wake_sender(lake().settings)
    create_markdown_artifact(
        key="pack", markdown=f"[HTML]({kept.html.as_uri()}), [PDF]({kept.pdf.as_uri()})", description="The report pack"
    )
    return {"pack": kept.name}
