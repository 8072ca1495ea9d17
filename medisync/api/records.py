"""Questions to the lake about runs: plain SQL, rows as dictionaries. Called in a thread."""

from __future__ import annotations

from typing import Any

from medisync.lake import Lake

RUN_COLUMNS = (
    "r.run_id, r.seconds, r.record, (SELECT json_extract_string(d.document, '$.headline') FROM analytics.results d "
    "WHERE d.run_id = r.run_id AND d.audience = 'released' LIMIT 1) AS released_headline"
)


def history(lake: Lake, *, analysis: str | None, limit: int, before: str | None) -> list[dict[str, Any]]:
    """The newest runs, of one analysis or of all, older than the run ``before``; ids sort by time."""
    if lake.last_snapshot_id() is None:
        return []
    conditions, values = ["true"], []
    if analysis is not None:
        conditions.append("r.analysis = ?")
        values.append(analysis)
    if before is not None:
        conditions.append("r.run_id < ?")
        values.append(before)
    return lake.query(
        f"SELECT {RUN_COLUMNS} FROM analytics.runs r WHERE {' AND '.join(conditions)} "
        f"ORDER BY r.run_id DESC LIMIT {int(limit)}",
        values,
    )


def run(lake: Lake, run_id: str) -> dict[str, Any] | None:
    """One run."""
    if lake.last_snapshot_id() is None:
        return None
    rows = lake.query(f"SELECT {RUN_COLUMNS} FROM analytics.runs r WHERE r.run_id = ? LIMIT 1", [run_id])
    return rows[0] if rows else None


def runs_of_flow_run(lake: Lake, flow_run_id: str) -> list[dict[str, Any]]:
    """The runs one flow run made."""
    if lake.last_snapshot_id() is None:
        return []
    return lake.query(
        f"SELECT {RUN_COLUMNS} FROM analytics.runs r WHERE json_extract_string(r.record, '$.flow_run_id') = ? "
        "ORDER BY r.run_id",
        [flow_run_id],
    )


def document(lake: Lake, run_id: str, audience: str) -> str | None:
    """A run's result in one form, as JSON text."""
    rows = lake.query(
        "SELECT document FROM analytics.results WHERE run_id = ? AND audience = ? LIMIT 1", [run_id, audience]
    )
    return rows[0]["document"] if rows else None
