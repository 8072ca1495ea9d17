"""A file arrived: bring it into the lake, then run what its tables concern."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.rounds import lake, run_round, show_delivery
from medisync import intake
from medisync.intake import DeliveryReport
from medisync.settings import load_settings


@task(task_run_name="intake {delivery_id}", cache_policy=NO_CACHE, persist_result=False)
def load(delivery_id: str) -> DeliveryReport:
    """Check, de-identify and merge the claimed file."""
    return intake.deliver(lake(), delivery_id)


@flow(
    name="deliver",
    flow_run_name="{delivery_id}",
    task_runner=ThreadPoolTaskRunner(max_workers=load_settings().kernels),  # type: ignore[arg-type]
)
def deliver(delivery_id: str) -> dict[str, Any]:
    """Load one delivery and run the analyses whose input tables it changed."""
    report = load(delivery_id)
    show_delivery(report)
    get_run_logger().info(report.sentence())
    outcomes = run_round(trigger=f"delivery {delivery_id}") if report.changed else []
    return {"delivery": report.as_json(), "analyses": [outcome.as_json() for outcome in outcomes]}
