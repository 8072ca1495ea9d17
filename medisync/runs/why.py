"""Why an analysis would, or would not, run now: what changed since which run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medisync.lake import Lake
from medisync.runs import differences, identity, planning, registry
from medisync.runs.input_changes import deliveries_between
from medisync.runs.record import RunRecord, RunStatus


@dataclass(frozen=True)
class Decision:
    """``since``: the run that is the answer, or the newest one that no longer is. ``reasons`` are empty when it is."""

    analysis: str
    would_run: bool
    since: RunRecord | None
    reasons: tuple[str, ...]

    def sentence(self) -> str:
        if not self.would_run and self.since is not None:
            return (
                f"{self.analysis} would not run: data, code, parameters, packages and settings are as in "
                f"{self.since.run_id} of {self.since.finished_at:%Y-%m-%d %H:%M} UTC, and that is the answer."
            )
        since = f" since {self.since.run_id} of {self.since.finished_at:%Y-%m-%d %H:%M} UTC" if self.since else ""
        return f"{self.analysis} would run: {'; '.join(self.reasons)}{since}."

    def as_json(self) -> dict[str, Any]:
        return {
            "analysis": self.analysis,
            "would_run": self.would_run,
            "since": self.since.run_id if self.since else None,
            "reasons": list(self.reasons),
            "sentence": self.sentence(),
        }


def why(lake: Lake, analysis: str, *, parameters: dict[str, Any] | None = None) -> Decision:
    """The decision about ``analysis`` as it would be made now; nothing is executed.

    Raises what :func:`medisync.runs.planning.plan` raises.
    """
    [chosen] = planning.plan(lake, [registry.one(lake.settings, analysis).analysis], parameters=parameters)
    if chosen.answered_by is not None:
        return Decision(analysis, False, chosen.answered_by, ())
    rows = lake.query(
        "SELECT record FROM analytics.runs WHERE analysis = ? AND status = ? "
        "ORDER BY json_extract_string(record, '$.parameters_hash') = ? DESC, finished_at DESC LIMIT 1",
        [analysis, RunStatus.COMPLETED, identity.hash_of(chosen.parameters)],
    )
    failed = lake.query(
        "SELECT run_id, error_code FROM analytics.runs WHERE run_key = ? AND status = ? "
        "ORDER BY finished_at DESC LIMIT 1",
        [chosen.run_key, RunStatus.FAILED],
    )
    reasons = [f"the run {failed[0]['run_id']} of just this failed ({failed[0]['error_code']})"] if failed else []
    if not rows:
        return Decision(analysis, True, None, (*reasons, "it has no completed run yet"))
    before = RunRecord.model_validate_json(rows[0]["record"])
    reasons += [f"{one} changed" for one in differences.of_parameters(before.parameters, chosen.parameters)]
    for table in sorted({*before.inputs, *chosen.inputs}):
        if before.inputs.get(table) != chosen.inputs.get(table):
            reasons.append(_data_reason(lake, before, chosen.snapshot_id, table))
    reasons += [
        f"{one.what} changed ({one.before or 'none'} -> {one.after or 'none'})"
        for one in differences.of_now(lake.settings, before)
        if one.kind in ("code", "settings") or one.what in ("python", *before.packages) or "variable" in one.what
    ]
    return Decision(analysis, True, before, tuple(reasons) or ("something it depends on changed",))


def _data_reason(lake: Lake, before: RunRecord, snapshot_id: int, table: str) -> str:
    rows = lake.query("SELECT delivery_id FROM clinical.table_versions WHERE table_name = ?", [table])
    last = rows[0]["delivery_id"] if rows else "a delivery"
    try:
        planning.require_snapshot(lake, before.snapshot_id)
        number = len(deliveries_between(lake, before.snapshot_id, snapshot_id))
    except planning.SnapshotExpiredError:
        number = 0
    more = f", one of {number} loaded" if number > 1 else ""
    return f"the table {table} was changed by delivery {last}{more}"
