"""A file arrived: bring it, and what else of its source waits, into the lake; then run what their tables concern.

A forked flow run begins to load with its process, while Prefect's engine still asks its server about the run: that
takes half a second, in which a core would rest. Loading is idempotent by delivery id and asks Prefect nothing,
so a flow run that comes to nothing after all has done no harm.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.rounds import lake, run_round, show_deliveries
from medisync.intake import DeliveryReport, turns
from medisync.ledger import Claims, open_ledger
from medisync.settings import load_settings

_begun: dict[str, Loading] = {}
"""What began before the flow: by delivery id, until the flow asks for it."""


class Loading:
    """What waits is loaded in a thread; iterating gives a report of each delivery as it is loaded, and raises what kept
    it from going on."""

    def __init__(self, delivery_id: str) -> None:
        self._told: queue.SimpleQueue[DeliveryReport | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._load, args=(delivery_id,), name="loading", daemon=True).start()

    def _load(self, delivery_id: str) -> None:
        end: Exception | None = None
        try:
            for report in _loaded(delivery_id):
                self._told.put(report)
        except Exception as error:
            end = error
        self._told.put(end)

    def __iter__(self) -> Iterator[DeliveryReport]:
        while isinstance(told := self._told.get(), DeliveryReport):
            yield told
        if told is not None:
            raise told


def begin(delivery_id: str) -> None:
    """Begin to load, before the flow run of ``delivery_id`` is under way in this process."""
    _begun[delivery_id] = Loading(delivery_id)


def _loaded(delivery_id: str) -> Iterator[DeliveryReport]:
    return turns.take(lake(), Claims(open_ledger(lake().settings)), delivery_id)


@task(task_run_name="intake {delivery_id}", cache_policy=NO_CACHE, persist_result=False)
def load(delivery_id: str) -> tuple[list[DeliveryReport], Exception | None]:
    """Check, de-identify and merge what waits; the reports, and what kept it from going on."""
    reports: list[DeliveryReport] = []
    logger = get_run_logger()
    try:
        for report in _begun.pop(delivery_id, None) or _loaded(delivery_id):
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
    # Loaded, but by an earlier try of this run: that may have ended before its round.
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
