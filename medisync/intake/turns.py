"""Deliveries of one source take turns: one process at a time loads whatever waits, in the order it came.

A later file corrects an earlier one, so their order matters within a source; sources do not wait for each other. Who
has the turn takes all that waits, so that many files at once need one flow run and one round of analyses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from medisync.backend.choice import backend_of
from medisync.errors import LockBusyError
from medisync.intake import arrival
from medisync.intake.delivery import DeliveryInHandsError, deliver
from medisync.intake.report import DeliveryReport
from medisync.intake.together import MOST_FILES, deliver_together
from medisync.lake import Lake
from medisync.ledger import Claims
from medisync.settings import Settings

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60.0
"""After this time a turn ends with the delivery in hand, so that the analyses get to see what was loaded; the watcher
then announces what is left."""


@contextmanager
def turn(settings: Settings, source: str, *, seconds: float | None = None) -> Iterator[None]:
    """Wait for the source's turn, at most ``seconds``, and hold it; it ends with its holder. Raises LockBusyError."""
    settings.make_folders()
    with backend_of(settings).lock(_name(source), seconds=seconds):
        yield


def is_free(settings: Settings, source: str) -> bool:
    """Whether nobody has the source's turn."""
    try:
        with turn(settings, source, seconds=0):
            return True
    except LockBusyError:
        return False


def _name(source: str) -> str:
    return f"run/source-{source}.lock"


def take(lake: Lake, claims: Claims, delivery_id: str) -> Iterator[DeliveryReport]:
    """Load ``delivery_id`` and whatever else of its source waits, oldest first; a report for each, as it is loaded.

    Ends at the first delivery that cannot be loaded now (its error is raised): what came after it may correct it. Safe
    to repeat after a crash at any point: of a delivery that is finished already the report is found again.
    """
    found = arrival.claimed_file(lake.settings, delivery_id)
    report = None
    if found is None:
        report = deliver(lake, delivery_id)
        yield report
    source = found[0] if found else report.source if report else arrival.DEFAULT_SOURCE
    with turn(lake.settings, source):
        until = time.monotonic() + LONGEST_SECONDS
        for done in _as_they_come(lake, claims, source):
            report = done if done.delivery_id == delivery_id else report
            yield done
            if time.monotonic() > until:
                break
    if report is None and arrival.claimed_file(lake.settings, delivery_id) is None:  # whoever had the turn took it
        yield deliver(lake, delivery_id)


def take_one(lake: Lake, delivery_id: str) -> DeliveryReport | None:
    """Load ``delivery_id`` alone when it is its source's oldest and nobody has the turn; None leaves it to others.

    For a delivery that somebody is expected for already. What else waits has nobody yet who would analyse it.
    """
    found = arrival.claimed_file(lake.settings, delivery_id)
    if found is None:
        return None
    try:
        with turn(lake.settings, found[0], seconds=0):
            return deliver(lake, delivery_id) if _waiting(lake.settings, found[0])[:1] == [delivery_id] else None
    except LockBusyError:
        return None


def _as_they_come(lake: Lake, claims: Claims, source: str) -> Iterator[DeliveryReport]:
    """Load the source's deliveries, oldest first, also those that are claimed meanwhile; together where they can be."""
    tried: set[str] = set()
    most = MOST_FILES
    while new := [one for one in _waiting(lake.settings, source) if one not in tried][:most]:
        claims.announced(*new)  # should this process die of them, their next try is a while away
        done = deliver_together(lake, source, new)
        # Where files that are to be loaded by themselves lie close together, not many more are looked at in vain.
        most = MOST_FILES if len(done) == len(new) else max(2, 2 * len(done))
        tried.update(report.delivery_id for report in done)
        yield from done
        if not done:
            tried.add(new[0])
            try:
                yield deliver(lake, new[0])
            except DeliveryInHandsError:  # by hand, with `medisync ingest`
                log.info("Delivery %s is being loaded by another process", new[0])


def _waiting(settings: Settings, source: str) -> list[str]:
    """The source's claimed deliveries, oldest first."""
    claimed = ((one, arrival.claimed_file(settings, one)) for one in arrival.claimed(settings))
    return [one for one, found in claimed if found is not None and found[0] == source]
