"""Daily: small files merged, old reports and logs gone; nothing a kept run needs is removed."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.rounds import lake
from medisync.runs.upkeep import clean_up as remove_what_is_old


@flow(name="clean-up")
def clean_up(dry_run: bool = False) -> dict[str, Any]:
    """Tidy the workspace and say what was done; ``dry_run`` only says what would be."""
    report = remove_what_is_old(lake(), dry_run=dry_run)
    get_run_logger().info(report.sentence())
    if not report.disk["is_enough"]:
        get_run_logger().warning("The disk is nearly full; see: medisync status")
    create_markdown_artifact(key="clean-up", markdown=report.sentence(), description="What clean-up did")
    return report.as_json()
