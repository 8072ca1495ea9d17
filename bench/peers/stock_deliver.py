"""The peer of ``bench.arrival``: the same file and notebooks with Prefect and papermill as they come.

A process worker with default settings, one flow that loads the file and calls ``papermill.execute_notebook`` for one
notebook after another with papermill's own kernels.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import papermill
from prefect import flow

from medisync import intake
from medisync.analyses.contract import Result
from medisync.lake import Lake
from medisync.runs import identity, story
from medisync.runs.publishing import publish
from medisync.runs.record import RESULT_MIME, RunRecord, RunStatus, new_run_id
from medisync.settings import load_settings


@flow(name="stock-deliver")
def stock_deliver(delivery_id: str) -> int:
    """Load the delivery, run every notebook, commit every result; the number of results."""
    lake = Lake(load_settings())
    intake.deliver(lake, delivery_id)
    plans = story.plan(lake)
    with tempfile.TemporaryDirectory() as folder:
        for one in plans:
            started = dt.datetime.now(dt.UTC)
            executed = papermill.execute_notebook(
                one.notebook.path,
                Path(folder) / one.notebook.path.name,
                parameters={"snapshot_id": one.snapshot_id, **one.parameters},
                progress_bar=False,
            )
            document = next(
                output["data"][RESULT_MIME]
                for cell in executed.cells
                for output in cell.get("outputs", [])
                if RESULT_MIME in output.get("data", {})
            )
            result = Result.model_validate(document)
            record = RunRecord(
                run_id=new_run_id(),
                analysis=one.analysis,
                title=one.notebook.title,
                status=RunStatus.COMPLETED,
                parameters=one.parameters,
                parameters_hash=identity.hash_of(one.parameters),
                snapshot_id=one.snapshot_id,
                inputs=one.inputs,
                run_key=one.run_key,
                notebook=one.notebook.path.name,
                notebook_hash=one.notebook.notebook_hash,
                code_hash=one.code_hash,
                environment={},
                fixed_environment={},
                trigger="stock",
                requested_by="bench",
                started_at=started,
                finished_at=dt.datetime.now(dt.UTC),
                headline=result.headline,
            )
            publish(lake, record, result)
    return len(plans)
