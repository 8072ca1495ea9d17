"""Run records and results read back from the lake."""

from __future__ import annotations

import datetime as dt

from medisync.analyses.contract import Result
from medisync.errors import UserError
from medisync.lake import Lake
from medisync.runs import identity, registry
from medisync.runs.published import result_of
from medisync.runs.record import RunRecord, RunStatus


class NoSuchRunError(UserError):
    """No run has this id, or it has no result."""

    code = "no-such-run"
    exit_code = 63
    http_status = 404


def record_of(lake: Lake, run_id: str) -> RunRecord:
    """The record of a run; raises NoSuchRunError."""
    rows = lake.query("SELECT record FROM analytics.runs WHERE run_id = ?", [run_id])
    if not rows:
        raise NoSuchRunError("No run has this id.", hint="medisync status names the newest runs.")
    return RunRecord.model_validate_json(rows[0]["record"])


def run_called(lake: Lake, name: str) -> str:
    """The id of the run that ``name`` stands for: ``name`` itself, when a run has this id. An analysis' name stands for
    the run whose result is served, the newest completed one with default parameters; without such a one, for the
    newest completed one.

    Raises NoSuchRunError.
    """
    try:
        served = identity.hash_of(registry.one(lake.settings, name).parameters({}))
    except UserError:  # a run's id, or a notebook that is gone or broken, whose runs are still on record
        served = ""
    rows = lake.query(
        "SELECT run_id FROM analytics.runs WHERE run_id = ? OR (analysis = ? AND status = ?) "
        "ORDER BY run_id = ? DESC, parameters_hash = ? DESC, finished_at DESC LIMIT 1",
        [name, name, RunStatus.COMPLETED, name, served],
    )
    if not rows:
        raise NoSuchRunError(
            "No run has this id, and no analysis of this name has a completed run.",
            hint="medisync status names the newest runs.",
        )
    return str(rows[0]["run_id"])


def completed(lake: Lake, run_id: str) -> tuple[RunRecord, Result]:
    """Record and full result of a run; raises NoSuchRunError when it failed, too."""
    record = record_of(lake, run_id)
    result = result_of(lake, run_id)
    if result is None:
        raise NoSuchRunError(f"The run {run_id} failed and has no result.", hint="Name a completed run.")
    return record, result


def completed_since(lake: Lake, since: dt.datetime | None, most: int) -> list[RunRecord]:
    """Completed runs, newest first, one for each run key: what the same inputs and code made twice is one answer."""
    rows = lake.query(
        "SELECT record FROM (SELECT record, finished_at FROM analytics.runs WHERE status = ? AND finished_at >= ? "
        "QUALIFY row_number() OVER (PARTITION BY run_key ORDER BY finished_at DESC) = 1) "
        f"ORDER BY finished_at DESC LIMIT {int(most)}",
        [
            RunStatus.COMPLETED,
            (since or dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).astimezone(dt.UTC).replace(tzinfo=None),
        ],
    )
    return [RunRecord.model_validate_json(row["record"]) for row in rows]
