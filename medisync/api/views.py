"""Runs and deliveries as each role sees them. The one place where that is decided."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from pydantic import BaseModel, Field

from medisync.access.permissions import Permission
from medisync.access.principal import Audience, Principal
from medisync.runs.published import DeliveryLine
from medisync.runs.record import RunStatus


class RunView(BaseModel):
    """One run. ``headline`` is that of the form of the result the role may see; the rest of the record, with what the
    run said when it failed, comes for roles that may read records."""

    run_id: str
    analysis: str
    title: str
    status: RunStatus
    snapshot: int
    started_at: dt.datetime
    finished_at: dt.datetime
    seconds: float
    trigger: str
    task_id: str | None
    headline: str | None
    error_code: str | None
    error_message: str | None = None
    parameters: dict[str, Any] | None = None
    record: dict[str, Any] | None = Field(default=None, description="the whole run record, as the lake keeps it")


class DeliveryView(BaseModel):
    """One delivery. How many rows it had and why it was refused come for roles that may know."""

    delivery_id: str
    status: str
    finished_at: dt.datetime | None
    file: str | None = None
    created: int | None = None
    updated: int | None = None
    deleted: int | None = None
    unchanged: int | None = None
    quarantined: int | None = None
    reason: str | None = None
    message: str | None = None


class Sight:
    """What a visitor may see, apart from who it is: visitors of equal sight get equal bytes."""

    def __init__(self, principal: Principal) -> None:
        self.audience: Audience = principal.audience
        self.reasons = principal.may(Permission.READ_REASONS)
        self.records = principal.may(Permission.READ_RUNS)

    @property
    def key(self) -> tuple[Audience, bool, bool]:
        return self.audience, self.reasons, self.records


def run_view(row: dict[str, Any], sight: Sight, *, whole: bool = False) -> RunView:
    """A row of ``analytics.runs`` with ``released_headline``."""
    record = json.loads(row["record"])
    is_full = sight.audience == "full"
    return RunView(
        run_id=record["run_id"],
        analysis=record["analysis"],
        title=record["title"],
        status=record["status"],
        snapshot=record["snapshot_id"],
        started_at=record["started_at"],
        finished_at=record["finished_at"],
        seconds=row["seconds"],
        trigger=record["trigger"],
        task_id=record.get("flow_run_id"),
        headline=record["headline"] if is_full else row.get("released_headline"),
        error_code=record["error_code"],
        error_message=record["error_message"] if sight.records else None,
        parameters=record["parameters"] if is_full else None,
        record=record if whole and sight.records else None,
    )


def delivery_view(line: DeliveryLine, sight: Sight) -> DeliveryView:
    """A delivery's line as ``sight`` allows."""
    shown = DeliveryView(delivery_id=line.delivery_id, status=line.status, finished_at=utc(line.finished_at))
    if sight.audience == "full":
        for name in ("created", "updated", "deleted", "unchanged", "quarantined"):
            setattr(shown, name, getattr(line, name))
        shown.file = line.file_label
    if sight.reasons:
        shown.reason, shown.message = line.reason, line.message
    return shown


def utc(moment: dt.datetime | None) -> dt.datetime | None:
    """The lake's times are UTC without a zone; what leaves the house has one."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=dt.UTC)
