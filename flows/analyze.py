"""Run analyses: hourly, and on request with parameters."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from flows.rounds import run_round
from medisync.errors import NoDataError
from medisync.settings import load_settings


@flow(
    name="analyze",
    task_runner=ThreadPoolTaskRunner(max_workers=load_settings().kernels),  # type: ignore[arg-type]
)
def analyze(
    analyses: list[str] | None = None,
    parameters: dict[str, Any] | None = None,
    force: bool = False,
    trigger: str = "schedule",
    requested_by: str = "prefect",
) -> list[dict[str, Any]]:
    """Run ``analyses`` (all for none) with ``parameters``; those that did not change are answered without a kernel."""
    try:
        outcomes = run_round(analyses, trigger=trigger, requested_by=requested_by, parameters=parameters, force=force)
    except NoDataError as nothing:
        get_run_logger().info(str(nothing))
        return []
    return [outcome.as_json() for outcome in outcomes]
