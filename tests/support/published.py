"""A lake with real results in it, made without kernels: each analysis is computed in this process and published."""

from __future__ import annotations

import datetime as dt
import importlib
import importlib.util
import json
from pathlib import Path
from unittest.mock import patch

from medisync import intake, notebook
from medisync.analyses.contract import Result
from medisync.api.results import MODELS
from medisync.lake import Lake, Snapshot
from medisync.runs import identity, planning
from medisync.runs.planning import Plan
from medisync.runs.publishing import publish
from medisync.runs.record import RunRecord, RunStatus, new_run_id
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv


def filled_lake(settings: Settings, folder: Path, *, rows: int = 400) -> Lake:
    """A lake with ``rows`` admissions and the result of every analysis that has a model."""
    lake = Lake(settings)
    intake.ingest(lake, write_csv(folder / "admissions.csv", admissions(rows)))
    for one in planning.plan(lake):
        if one.analysis in MODELS:
            publish_result(lake, one, computed(settings, one))
    return lake


def computed(settings: Settings, plan: Plan) -> Result:
    """What the analysis of ``plan`` finds."""
    if importlib.util.find_spec(f"medisync.analyses.{plan.analysis}") is None:
        return by_its_notebook(settings, plan)
    module = importlib.import_module(f"medisync.analyses.{plan.analysis}")
    params = module.Params.checked(plan.parameters)
    with Snapshot(settings, plan.snapshot_id) as snapshot:
        result: Result = module.compute(module.load(snapshot, params), params)
    return result.with_figures(module.figures(result)[:1])


def by_its_notebook(settings: Settings, plan: Plan) -> Result:
    """What an analysis without a module publishes: its notebook's cells, run in this process."""
    published: list[Result] = []
    opened = Snapshot(settings, plan.snapshot_id)
    stand_ins = {"open_snapshot": lambda _=None: opened, "show": lambda _: None, "publish": published.append}
    cells = json.loads(plan.notebook.path.read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    with patch.multiple(notebook, **stand_ins), opened:
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    [result] = published
    return result.with_figures(result.figures[:1])


def record_of(plan: Plan, result: Result | None, *, flow_run_id: str | None = None) -> RunRecord:
    """A run's record; without a result that of a failed run."""
    now = dt.datetime.now(dt.UTC)
    return RunRecord(
        run_id=new_run_id(),
        analysis=plan.analysis,
        title=plan.notebook.title,
        status=RunStatus.COMPLETED if result else RunStatus.FAILED,
        parameters=plan.parameters,
        parameters_hash=identity.hash_of(plan.parameters),
        snapshot_id=plan.snapshot_id,
        inputs=plan.inputs,
        run_key=plan.run_key,
        notebook=plan.notebook.path.name,
        notebook_hash=plan.notebook.notebook_hash,
        code_hash=plan.code_hash,
        environment={},
        fixed_environment={},
        trigger="test",
        requested_by="test",
        flow_run_id=flow_run_id,
        started_at=now,
        finished_at=now,
        headline=result.headline if result else None,
        error_code=None if result else "notebook-raised",
        error_message=None if result else "Cell 4 raised KeyError: 'ward 7'",
    )


def publish_result(lake: Lake, plan: Plan, result: Result | None, *, flow_run_id: str | None = None) -> RunRecord:
    """Commit a run, as a flow does."""
    record = record_of(plan, result, flow_run_id=flow_run_id)
    publish(lake, record, result)
    return record


def release(lake: Lake, run_id: str, analysis: str, document: str) -> None:
    """Put a released document beside a run's full one."""
    with lake.transaction(f"release {run_id}", extra={"run_id": run_id}) as transaction:
        transaction.execute(
            "INSERT INTO lake.analytics.results (run_id, analysis, audience, document) VALUES (?, ?, 'released', ?)",
            [run_id, analysis, document],
        )
