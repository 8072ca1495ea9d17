"""The plan of a round: what each analysis would read and compute with, and the run that has answered that before."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from medisync.errors import NoDataError, UserError
from medisync.lake import Lake
from medisync.runs import identity, registry
from medisync.runs.closure import Closure
from medisync.runs.record import RunRecord, RunStatus
from medisync.runs.registry import AnalysisNotebook, NotebookError

log = logging.getLogger(__name__)


class SnapshotExpiredError(UserError):
    """A snapshot of the lake that a run or a question needs is gone."""

    code = "snapshot-expired"
    exit_code = 60
    http_status = 410


@dataclass(frozen=True)
class Plan:
    """One analysis of a round."""

    notebook: AnalysisNotebook
    parameters: dict[str, Any]
    snapshot_id: int
    inputs: dict[str, int]
    code: Closure
    settings: dict[str, str]
    run_key: str
    answered_by: RunRecord | None
    as_of: dt.datetime | None = None
    known_on: dt.datetime | None = None
    """Given when the kernel must look back from its snapshot to what was known at that moment."""

    @property
    def analysis(self) -> str:
        return self.notebook.analysis

    @property
    def code_hash(self) -> str:
        return self.code.hash

    @property
    def is_default(self) -> bool:
        """Whether it runs with the analysis' own parameters on the newest data, so that its result is the one
        served."""
        return self.as_of is None and self.parameters == self.notebook.parameters({})


def plan(
    lake: Lake,
    names: list[str] | None = None,
    *,
    parameters: dict[str, Any] | None = None,
    force: bool = False,
    as_of: dt.datetime | None = None,
    is_scheduled: bool = False,
) -> list[Plan]:
    """The round for the analyses ``names`` (all for none); nothing is executed.

    ``parameters`` must suit every analysis named. With ``force`` earlier answers do not count. With ``as_of`` (UTC) the
    data are those known at that moment: its snapshot, or when that has expired, the newest one without what became
    known later (:mod:`medisync.lake.history`). A round that nobody asked for, ``is_scheduled``, leaves out analyses
    whose schedule says that they are not due. Raises UnknownAnalysisError, ParameterError, and NoDataError before the
    first delivery.
    """
    chosen = []
    for notebook in registry.chosen(lake.settings, names or []):
        try:
            chosen.append((notebook, notebook.parameters(parameters or {})))
        except NotebookError as error:
            if notebook.analysis in (names or []):
                raise
            log.warning("%s is left out: %s", notebook.analysis, error)
    snapshot_id, known_on = (lake.last_snapshot_id(), None) if as_of is None else _back_then(lake, as_of)
    versions = table_versions(lake, snapshot_id) if snapshot_id is not None else {}
    if not versions or snapshot_id is None:
        raise NoDataError("There is no data yet.", hint="Drop a file into data/inbox/ or run: medisync ingest FILE")
    plans = [_planned(lake, notebook, values, snapshot_id, versions, known_on) for notebook, values in chosen]
    if is_scheduled:
        plans = [one for one in plans if _is_due(lake, one)]
    answers = {} if force else _answers(lake, [one.run_key for one in plans])
    return [replace(one, answered_by=answers.get(one.run_key), as_of=as_of) for one in plans]


def again(lake: Lake, before: Plan) -> Plan:
    """``before`` with the notebook and code as they are now; the data stay. Raises NotebookError, ParameterError."""
    [notebook] = registry.chosen(lake.settings, [before.analysis])
    made = _planned(
        lake, notebook, notebook.parameters(before.parameters), before.snapshot_id, before.inputs, before.known_on
    )
    return replace(made, as_of=before.as_of)


def table_versions(lake: Lake, snapshot_id: int) -> dict[str, int]:
    """Input table -> its version at a snapshot; empty before the first delivery."""
    rows = lake.query(f"SELECT table_name, version FROM clinical.table_versions AT (VERSION => {int(snapshot_id)})")
    return {row["table_name"]: int(row["version"]) for row in rows}


def _back_then(lake: Lake, moment: dt.datetime) -> tuple[int, dt.datetime | None]:
    """The snapshot that holds the data of ``moment`` (UTC when it has no zone), and the moment itself when that is a
    later snapshot, from which one must look back. Raises NoDataError before the first delivery."""
    utc = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    rows = lake.query(
        "SELECT snapshot_id, snapshot_time <= ?::TIMESTAMPTZ AS is_before FROM lake.snapshots() ORDER BY snapshot_id",
        [utc],
    )
    kept = [int(row["snapshot_id"]) for row in rows]
    before = [int(row["snapshot_id"]) for row in rows if row["is_before"]]
    if before and (before[-1] == kept[-1] or before[-1] + 1 in kept):  # else the one of that moment may be gone
        return before[-1], None
    first = lake.query("SELECT min(finished_at) AS at FROM clinical.deliveries WHERE status = 'loaded'")[0]["at"]
    if first is None or first.replace(tzinfo=dt.UTC) > utc:
        raise NoDataError(f"There was no data yet on {utc:%Y-%m-%d %H:%M} UTC.")
    return kept[-1], utc


def require_snapshot(lake: Lake, snapshot_id: int) -> None:
    """Raise SnapshotExpiredError unless the lake still keeps this snapshot."""
    if not lake.query("SELECT 1 FROM lake.snapshots() WHERE snapshot_id = ?", [snapshot_id]):
        raise SnapshotExpiredError(
            f"Snapshot {snapshot_id} is no longer kept.",
            hint="Clean-up keeps the snapshots of kept runs only; this run's record and result stay readable.",
        )


def parameters_hash(planned: Plan) -> str:
    """What says whose earlier result a run's is compared with: a backfill is not what is served for its parameters."""
    as_of = planned.as_of
    return identity.hash_of([planned.parameters, as_of.isoformat()] if as_of else planned.parameters)


def latest_of(lake: Lake, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], RunRecord]:
    """The newest completed run of each analysis with parameters of a hash; those that never ran are left out."""
    rows = lake.query(
        "SELECT analysis, parameters_hash, record FROM analytics.runs WHERE status = ? "
        "AND analysis IN (SELECT unnest(?::VARCHAR[])) AND parameters_hash IN (SELECT unnest(?::VARCHAR[])) "
        "QUALIFY row_number() OVER (PARTITION BY analysis, parameters_hash ORDER BY finished_at DESC) = 1",
        [RunStatus.COMPLETED, [analysis for analysis, _ in wanted], [one for _, one in wanted]],
    )
    found = {(row["analysis"], row["parameters_hash"]): row["record"] for row in rows}
    return {key: RunRecord.model_validate_json(found[key]) for key in wanted if key in found}


def answers_for(planned: Plan, record: RunRecord, snapshot_id: int) -> bool:
    """Whether ``record`` read this snapshot or a later one, and differs from what is planned in nothing but data."""
    of_then = _run_key(planned.notebook, planned.parameters, planned.code, record.inputs, planned.settings, None)
    return record.snapshot_id >= snapshot_id and of_then == record.run_key


def _is_due(lake: Lake, planned: Plan) -> bool:
    """Whether the schedule of an analysis, ``hourly`` unless it names another, lets it run now."""
    hours = registry.SCHEDULES[planned.notebook.schedule or registry.HOURLY]
    if hours == 0:
        return True
    before = next(iter(latest_of(lake, [(planned.analysis, identity.hash_of(planned.parameters))]).values()), None)
    if hours is None or before is None:
        return hours is not None
    return dt.datetime.now(dt.UTC) - before.finished_at >= dt.timedelta(hours=hours)


def _planned(
    lake: Lake,
    notebook: AnalysisNotebook,
    values: dict[str, Any],
    snapshot_id: int,
    versions: dict[str, int],
    known_on: dt.datetime | None,
) -> Plan:
    inputs = {table: versions.get(table, 0) for table in notebook.reads}
    code = identity.code_of(notebook)
    settings = identity.settings_of(notebook, lake.settings)
    key = _run_key(notebook, values, code, inputs, settings, known_on)
    return Plan(notebook, values, snapshot_id, inputs, code, settings, key, None, known_on=known_on)


def _run_key(
    notebook: AnalysisNotebook,
    values: dict[str, Any],
    code: Closure,
    inputs: dict[str, int],
    settings: dict[str, str],
    known_on: dt.datetime | None,
) -> str:
    return identity.run_key(
        analysis=notebook.analysis,
        parameters=values,
        notebook_hash=notebook.notebook_hash,
        code=code,
        inputs=inputs,
        settings=settings,
        known_on=known_on,
    )


def _answers(lake: Lake, run_keys: list[str]) -> dict[str, RunRecord]:
    """The newest completed run of each key."""
    rows = lake.query(
        "SELECT run_key, record FROM analytics.runs WHERE status = ? AND run_key IN (SELECT unnest(?::VARCHAR[])) "
        "QUALIFY row_number() OVER (PARTITION BY run_key ORDER BY finished_at DESC) = 1",
        [RunStatus.COMPLETED, run_keys],
    )
    return {row["run_key"]: RunRecord.model_validate_json(row["record"]) for row in rows}
