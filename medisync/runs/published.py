"""What is served: per analysis the last good result, and whether it is still what the data say."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medisync.analyses.contract import Result
from medisync.lake import Lake
from medisync.runs import identity, registry
from medisync.runs.record import RunRecord, RunStatus


class Freshness(StrEnum):
    CURRENT = "current"  # made from the data as they are
    UPDATING = "updating"  # newer data have arrived; this is the result from before them
    STALE = "stale"  # a later run failed; this is the last good result
    FAILED = "failed"  # every run so far failed
    NEVER = "never"  # no run yet


@dataclass(frozen=True)
class Published:
    """One analysis as a page, program or report shows it."""

    analysis: str
    title: str
    freshness: Freshness
    reason: str | None = None  # why it is not current, in words
    record: RunRecord | None = None
    result: Result | None = None


@dataclass(frozen=True)
class DataState:
    """The newest loaded delivery and the span of the admissions; None before the first."""

    snapshot_id: int
    delivered_at: dt.datetime | None
    admissions: int
    admitted_from: dt.date | None
    admitted_until: dt.date | None
    deliveries: int


def published(lake: Lake) -> list[Published]:
    """Every analysis with default parameters, in the registry's order."""
    notebooks = registry.analyses(lake.settings)
    versions = {
        row["table_name"]: int(row["version"])
        for row in lake.query("SELECT table_name, version FROM clinical.table_versions")
    }
    latest = _latest(lake)
    shelf = []
    for notebook in notebooks:
        runs = latest.get((notebook.analysis, identity.hash_of(notebook.parameters({}))), {})
        good, bad = runs.get(RunStatus.COMPLETED), runs.get(RunStatus.FAILED)
        inputs = {table: versions.get(table, 0) for table in notebook.reads}
        shelf.append(_judge(lake, notebook.analysis, notebook.title, good, bad, inputs))
    return shelf


def data_state(lake: Lake) -> DataState:
    """What the lake holds; raises nothing on an empty one."""
    row = lake.query(
        "SELECT (SELECT max(finished_at) FROM clinical.deliveries WHERE status = 'loaded') AS delivered_at, "
        "(SELECT count(*) FROM clinical.deliveries) AS deliveries, count(*) AS admissions, "
        "min(admitted_at)::DATE AS admitted_from, max(admitted_at)::DATE AS admitted_until FROM clinical.admissions"
    )[0]
    return DataState(snapshot_id=lake.last_snapshot_id() or 0, **row)


def result_of(lake: Lake, run_id: str) -> Result | None:
    """The full result of a completed run."""
    rows = lake.query("SELECT document FROM analytics.results WHERE run_id = ? AND audience = 'full' LIMIT 1", [run_id])
    return Result.model_validate_json(rows[0]["document"]) if rows else None


def _latest(lake: Lake) -> dict[tuple[str, str], dict[RunStatus, dict[str, Any]]]:
    rows = lake.query(
        "SELECT analysis, parameters_hash, status, run_id, finished_at, record FROM analytics.runs QUALIFY "
        "row_number() OVER (PARTITION BY analysis, parameters_hash, status ORDER BY finished_at DESC) = 1"
    )
    latest: dict[tuple[str, str], dict[RunStatus, dict[str, Any]]] = {}
    for row in rows:
        latest.setdefault((row["analysis"], row["parameters_hash"]), {})[RunStatus(row["status"])] = row
    return latest


def _judge(
    lake: Lake,
    analysis: str,
    title: str,
    good: dict[str, Any] | None,
    bad: dict[str, Any] | None,
    inputs: dict[str, int],
) -> Published:
    failed_since = bad is not None and (good is None or bad["finished_at"] > good["finished_at"])
    reason = _why(bad["record"]) if bad is not None and failed_since else None
    if good is None:
        return Published(analysis, title, Freshness.FAILED if reason else Freshness.NEVER, reason)
    record = RunRecord.model_validate_json(good["record"])
    result = result_of(lake, record.run_id)
    if reason:
        return Published(analysis, title, Freshness.STALE, reason, record, result)
    if record.inputs != inputs:
        return Published(analysis, title, Freshness.UPDATING, "Newer data have arrived.", record, result)
    return Published(analysis, title, Freshness.CURRENT, None, record, result)


def _why(record: str) -> str:
    failed = json.loads(record)
    return f"The run of {failed['finished_at'][:16].replace('T', ' ')} UTC failed: {failed['error_message']}"
