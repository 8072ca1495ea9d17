"""Runs put on record without a kernel."""

from __future__ import annotations

import datetime as dt
from typing import Any

from medisync.analyses.contract import Finding, Result
from medisync.lake import Lake
from medisync.runs import identity
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.runs.planning import Plan
from medisync.runs.publishing import publish
from medisync.runs.record import RunRecord, RunStatus, new_run_id


def put_on_record(lake: Lake, chosen: Plan, result: Result | None = None, **changes: Any) -> RunRecord:
    """A completed run of ``chosen`` with ``result``, as if it had been executed now."""
    now = dt.datetime.now(dt.UTC)
    result = result or Result(analysis=chosen.analysis, title="T", headline="Nothing here.", finding=Finding.NOTHING)
    values = {
        "run_id": new_run_id(),
        "analysis": chosen.analysis,
        "title": chosen.notebook.title,
        "status": RunStatus.COMPLETED,
        "parameters": chosen.parameters,
        "parameters_hash": identity.hash_of(chosen.parameters),
        "snapshot_id": chosen.snapshot_id,
        "inputs": chosen.inputs,
        "run_key": chosen.run_key,
        "notebook": chosen.notebook.path.name,
        "notebook_hash": chosen.notebook.notebook_hash,
        "code_hash": chosen.code_hash,
        "environment": identity.environment_record(),
        "packages": identity.packages_of(chosen.code),
        "settings": chosen.settings,
        "fixed_environment": FIXED_ENVIRONMENT,
        "trigger": "test",
        "requested_by": "test",
        "started_at": now,
        "finished_at": now,
        "headline": result.headline,
    }
    record = RunRecord(**{**values, **changes})
    publish(lake, record, result if record.status is RunStatus.COMPLETED else None)
    return record
