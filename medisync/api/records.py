"""Questions to the lake about runs: plain SQL, rows as dictionaries. Called in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medisync.access.principal import Audience
from medisync.lake import Lake

RUN_COLUMNS = "r.run_id, r.status, r.seconds, r.record"


def history(
    lake: Lake, audience: Audience, *, analysis: str | None, limit: int, before: str | None
) -> list[dict[str, Any]]:
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
    rows = lake.query(
        f"SELECT {RUN_COLUMNS} FROM analytics.runs r WHERE {' AND '.join(conditions)} "
        f"ORDER BY r.run_id DESC LIMIT {int(limit)}",
        values,
    )
    return with_headlines(lake, rows, audience)


def run(lake: Lake, audience: Audience, run_id: str) -> dict[str, Any] | None:
    """One run."""
    if lake.last_snapshot_id() is None:
        return None
    rows = lake.query(f"SELECT {RUN_COLUMNS} FROM analytics.runs r WHERE r.run_id = ? LIMIT 1", [run_id])
    return with_headlines(lake, rows, audience)[0] if rows else None


def runs_of_flow_run(lake: Lake, audience: Audience, flow_run_id: str) -> list[dict[str, Any]]:
    """The runs one flow run made."""
    if lake.last_snapshot_id() is None:
        return []
    rows = lake.query(
        f"SELECT {RUN_COLUMNS} FROM analytics.runs r WHERE json_extract_string(r.record, '$.flow_run_id') = ? "
        "ORDER BY r.run_id",
        [flow_run_id],
    )
    return with_headlines(lake, rows, audience)


def released_headlines(lake: Lake, run_ids: Sequence[str]) -> dict[str, str]:
    """Run id -> headline of the released form, for those of ``run_ids`` that disclosure control has passed."""
    if not run_ids:
        return {}
    marks = ", ".join("?" for _ in run_ids)
    rows = lake.query(
        "SELECT run_id, json_extract_string(document, '$.headline') AS headline FROM analytics.results "
        f"WHERE audience = 'released' AND run_id IN ({marks})",
        list(run_ids),
    )
    return {row["run_id"]: row["headline"] for row in rows}


def with_headlines(lake: Lake, rows: list[dict[str, Any]], audience: Audience) -> list[dict[str, Any]]:
    """``rows`` of runs with ``released_headline``, read only for those who see no other."""
    if audience == "full":
        return rows
    found = released_headlines(lake, [row["run_id"] for row in rows])
    return [{**row, "released_headline": found.get(row["run_id"])} for row in rows]


def document(lake: Lake, run_id: str, audience: str) -> str | None:
    """A run's result in one form, as JSON text."""
    rows = lake.query(
        "SELECT document FROM analytics.results WHERE run_id = ? AND audience = ? LIMIT 1", [run_id, audience]
    )
    return rows[0]["document"] if rows else None
