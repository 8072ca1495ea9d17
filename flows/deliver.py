"""A file arrived: bring it, and what else of its source waits, into the lake; then run what their tables concern."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.rounds import lake, run_round, show_deliveries
from medisync.intake import DeliveryReport, turns
from medisync.ledger import Claims, open_ledger
from medisync.settings import load_settings


@task(task_run_name="intake {delivery_id}", cache_policy=NO_CACHE, persist_result=False)
def load(delivery_id: str) -> tuple[list[DeliveryReport], Exception | None]:
    """Check, de-identify and merge what waits; the reports, and what kept it from going on."""
    reports: list[DeliveryReport] = []
    logger = get_run_logger()
    try:
        for report in turns.take(lake(), Claims(open_ledger(lake().settings)), delivery_id):
            reports.append(report)
            logger.info("%s: %s", report.delivery_id, report.sentence())
    except Exception as error:  # what was loaded before it is analysed all the same
        return reports, error
    return reports, None


@flow(
    name="deliver",
    flow_run_name="{delivery_id}",
    task_runner=ThreadPoolTaskRunner(max_workers=load_settings().kernels),  # type: ignore[arg-type]
)
def deliver(delivery_id: str) -> dict[str, Any]:
    """Load what waits and run the analyses whose input tables it changed."""
    reports, failure = load(delivery_id)
    # Loaded, but not by this run: ahead of it, or by an earlier try that may have ended before its round.
    is_due = any(report.changed or (report.status == "loaded" and not report.seconds) for report in reports)
    try:
        outcomes = run_round(trigger=f"delivery {delivery_id}", since=lake().last_snapshot_id()) if is_due else []
    finally:
        show_deliveries(delivery_id, reports)  # last: nobody waits for it as for the numbers
    if failure is not None:
        raise failure
    return {
        "deliveries": [report.as_json() for report in reports],
        "analyses": [outcome.as_json() for outcome in outcomes],
    }
