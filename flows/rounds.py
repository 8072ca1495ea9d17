"""What the flows share: a workspace, a round of analyses as Prefect tasks, and artifacts people understand."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.fan_out import run_each
from medisync.errors import MediSyncError
from medisync.intake import DeliveryReport
from medisync.lake import Lake
from medisync.reports.bulletins import post_surges, utc_now
from medisync.reports.sending import is_any_waiting
from medisync.runs import dropped, recall, story
from medisync.runs.earlier import EarlierRuns
from medisync.runs.record import Outcome
from medisync.runs.rounds import one_round
from medisync.settings import Settings, load_settings


@functools.cache
def lake() -> Lake:
    """This flow run's lake."""
    return Lake(load_settings())


@task(task_run_name="{analysis}", cache_policy=NO_CACHE, persist_result=False)
def run_analysis(analysis: str, chosen: story.Plan, request: story.Request, earlier: EarlierRuns) -> Outcome:
    """One notebook, as a task of its own so that the Prefect UI shows when it ran."""
    outcome = story.perform(lake(), chosen, request, earlier)
    logger = get_run_logger()
    if outcome.record.status == "failed":
        logger.error("%s failed: %s", analysis, outcome.record.error_code)
    else:
        logger.info("%s: %s", analysis, "unchanged" if outcome.skipped else f"{outcome.record.seconds:.1f} s")
    return outcome


def run_round(
    names: list[str] | None = None,
    *,
    trigger: str,
    requested_by: str = "prefect",
    parameters: dict[str, Any] | None = None,
    choices: Sequence[dict[str, Any]] = ({},),
    force: bool = False,
    since: int | None = None,
) -> list[Outcome]:
    """A round of analyses, several notebooks at once; a failed one is an outcome and leaves the others alone.

    Each analysis runs once for each of ``choices``, which are added to ``parameters``. With ``since``, a snapshot, one
    that has read it or a later one when the turn comes is the answer: who brought what came later waits, too.
    """
    request = story.Request(trigger=trigger, requested_by=requested_by, flow_run_id=flow_run.id)
    settings = lake().settings
    with one_round(settings):
        for taken in dropped.take_in(lake()):
            get_run_logger().info(taken.sentence())
        is_scheduled = trigger in ("schedule", "refresh") or trigger.startswith("delivery")
        plans = [
            one
            for choice in choices
            for one in story.plan(
                lake(), names, parameters={**(parameters or {}), **choice}, force=force, is_scheduled=is_scheduled
            )
        ]
        earlier = EarlierRuns.of(lake(), [one for one in plans if one.answered_by is None])
        if since is not None:
            plans = [one if one.answered_by else earlier.answered(one, since) for one in plans]
        waiting = earlier.longest_first(one for one in plans if one.answered_by is None)
        common = {"request": request, "earlier": earlier}
        tasks = [{"analysis": one.analysis, "chosen": one, **common} for one in waiting]
        ran = {one.run_key: outcome for one, outcome in zip(waiting, run_each(run_analysis, tasks), strict=True)}
    outcomes = [ran.get(one.run_key) or story.perform(lake(), one, request) for one in plans]
    recall.note(lake())
    _show_round(settings, outcomes)
    _tell(outcomes)
    return outcomes


def show_deliveries(delivery_id: str, reports: list[DeliveryReport]) -> None:
    """As artifacts: the outcome of ``delivery_id``, and of whatever else the flow run loaded one row each."""
    for report in reports:
        if report.delivery_id == delivery_id:
            _show_delivery(report)
    others = [
        {"delivery": report.delivery_id, "status": report.status.value, "outcome": report.sentence()}
        for report in reports
        if report.delivery_id != delivery_id
    ]
    if others:
        create_table_artifact(key="deliveries", table=others, description="What else waited and was taken with it.")


def _show_delivery(report: DeliveryReport) -> None:
    rows = [
        ("Status", report.status.value),
        ("Rows read", f"{report.rows_read:,}"),
        ("Admissions created", f"{report.created:,}"),
        ("Admissions updated", f"{report.updated:,}"),
        ("Admissions deleted", f"{report.deleted:,}"),
        ("Admissions unchanged", f"{report.unchanged:,}"),
        ("Exact duplicates", f"{report.duplicates_exact:,}"),
        ("Conflicting duplicates", f"{report.duplicates_conflicting:,}"),
        ("Rows quarantined", f"{report.quarantined:,}"),
    ]
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows)
    faults = "".join(f"\n- {reason}: {number:,} rows" for reason, number in report.faults.items())
    create_markdown_artifact(
        key="delivery",
        markdown=f"## Delivery {report.delivery_id}\n\n{report.sentence()}\n\n| | |\n|---|---|\n{lines}\n{faults}",
        description=report.sentence(),
    )


def wake_sender(settings: Settings) -> None:
    """Have the flow ``send`` look into the outbox when something lies there."""
    if is_any_waiting(settings):
        emit_event("medisync.message.waiting", resource={"prefect.resource.id": "medisync.outbox"})


def _tell(outcomes: list[Outcome]) -> None:
    """Confirmed surges go to the outbox, and the flow ``send`` is woken; a round never waits for a mail server."""
    try:
        post_surges(lake(), outcomes, utc_now())
        wake_sender(lake().settings)
    except MediSyncError as error:
        get_run_logger().error("Surges could not be posted: %s", error)
    except Exception as error:  # a full disk, an event that did not go: the results stand
        get_run_logger().error("Surges could not be posted (%s).", type(error).__name__)


def _show_round(settings: Settings, outcomes: list[Outcome]) -> None:
    table = [
        {
            "analysis": outcome.record.title,
            "status": "unchanged" if outcome.skipped else outcome.record.status.value,
            "headline": outcome.record.headline or outcome.record.error_message or "",
            "seconds": 0.0 if outcome.skipped else outcome.record.seconds,
            "run": outcome.record.run_id,
            "report": (settings.reports / "runs" / outcome.record.run_id / "report.html").as_uri(),
            "page": settings.pages_url,
        }
        for outcome in outcomes
    ]
    create_table_artifact(key="analyses", table=table, description="What each analysis said, and where its report is.")
