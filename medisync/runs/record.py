"""The run record: everything needed to say where a number came from, frozen when the run ends."""

from __future__ import annotations

import datetime as dt
import secrets
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from medisync.analyses.contract import Result

RESULT_MIME = "application/vnd.medisync.result+json"
"""The output type by which an executed notebook hands its result back."""


class RunStatus(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"


class RunRecord(BaseModel):
    """One execution of one analysis notebook. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    analysis: str
    title: str
    status: RunStatus
    parameters: dict[str, Any]
    parameters_hash: str
    snapshot_id: int
    inputs: dict[str, int]
    run_key: str
    notebook: str
    notebook_hash: str
    code_hash: str
    environment: dict[str, Any]
    fixed_environment: dict[str, str]
    packages: dict[str, str] = {}  # those whose version decides about the numbers
    settings: dict[str, str] = {}  # those the notebook declares to depend on
    as_of: dt.datetime | None = None  # the data known at that moment, for a backfill
    known_on: dt.datetime | None = None  # the same, when that moment's snapshot was gone and a later one was looked
    # back from
    notices: tuple[str, ...] = ()  # what moved since the run before, and why, in words
    trigger: str
    requested_by: str
    flow_run_id: str | None = None
    attempts: int = 1
    started_at: dt.datetime
    finished_at: dt.datetime
    headline: str | None = None
    error_code: str | None = None
    error_message: str | None = None

    @property
    def seconds(self) -> float:
        return round((self.finished_at - self.started_at).total_seconds(), 3)


class Outcome(BaseModel):
    """What became of one chosen analysis: a run of now, or the earlier one whose answer still holds."""

    model_config = ConfigDict(frozen=True)

    record: RunRecord
    skipped: bool
    result: Result | None = None

    def as_json(self) -> dict[str, Any]:
        """The object `medisync run --json` prints for one analysis."""
        record = self.record
        return {
            "analysis": record.analysis,
            "status": record.status.value,
            "skipped": self.skipped,
            "seconds": 0.0 if self.skipped else record.seconds,
            "headline": record.headline,
            "run_id": record.run_id,
            "snapshot": record.snapshot_id,
            "error_code": record.error_code,
            "error": record.error_message,
        }


def new_run_id() -> str:
    """An id that sorts by time, such as ``r20240507T101500-1f3a9c``."""
    return f"r{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
