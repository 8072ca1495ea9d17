"""A round of analyses: choose, execute, publish. Flows and the command line call the same two functions.

``plan`` pins one snapshot for the whole round and answers what needs no kernel; ``perform`` runs one notebook and
commits what came of it. A failure is an outcome, too: it is recorded and the others go on.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tenacity

from medisync.analyses.contract import Result
from medisync.errors import LakeBusyError, NoDataError
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.reports.page import write_report
from medisync.runs import identity, registry
from medisync.runs.execution import Execution, NotebookFailedError, execute
from medisync.runs.kernels import FIXED_ENVIRONMENT
from medisync.runs.publishing import publish
from medisync.runs.record import Outcome, RunRecord, RunStatus, new_run_id
from medisync.runs.registry import AnalysisNotebook, NotebookError

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """One analysis of a round: what it would read and compute with, and the run that has answered that before."""

    notebook: AnalysisNotebook
    parameters: dict[str, Any]
    snapshot_id: int
    inputs: dict[str, int]
    code_hash: str
    run_key: str
    answered_by: RunRecord | None

    @property
    def analysis(self) -> str:
        return self.notebook.analysis

    @property
    def is_default(self) -> bool:
        """Whether it runs with the analysis' own parameters, so that its result is the one served."""
        return self.parameters == self.notebook.parameters({})


@dataclass(frozen=True)
class Request:
    """Who asked for a round and how."""

    trigger: str
    requested_by: str = "local"
    flow_run_id: str | None = None


def plan(
    lake: Lake, names: list[str] | None = None, *, parameters: dict[str, Any] | None = None, force: bool = False
) -> list[Plan]:
    """The round for the analyses ``names`` (all for none); nothing is executed.

    ``parameters`` must suit every analysis named. With ``force`` earlier answers do not count. Raises
    UnknownAnalysisError, ParameterError, and NoDataError before the first delivery.
    """
    notebooks = registry.chosen(lake.settings, names or [])
    chosen = []
    for notebook in notebooks:
        try:
            chosen.append((notebook, notebook.parameters(parameters or {})))
        except NotebookError as error:
            if notebook.analysis in (names or []):
                raise
            log.warning("%s is left out: %s", notebook.analysis, error)
    versions = {
        row["table_name"]: int(row["version"])
        for row in lake.query("SELECT table_name, version FROM clinical.table_versions")
    }
    snapshot_id = lake.last_snapshot_id()
    if not versions or snapshot_id is None:
        raise NoDataError("There is no data yet.", hint="Drop a file into data/inbox/ or run: medisync ingest FILE")
    plans = []
    for notebook, values in chosen:
        inputs = {table: versions.get(table, 0) for table in notebook.reads}
        code = identity.code_hash(notebook)
        key = identity.run_key(
            analysis=notebook.analysis,
            parameters=values,
            notebook_hash=notebook.notebook_hash,
            code=code,
            inputs=inputs,
        )
        answer = None if force else _answer(lake, key)
        plans.append(Plan(notebook, values, snapshot_id, inputs, code, key, answer))
    return plans


def perform(lake: Lake, chosen: Plan, request: Request) -> Outcome:
    """Run one planned analysis, record and publish it. Never raises for a notebook's fault: see the outcome.

    Raises what the lake raises when the run cannot be recorded.
    """
    if chosen.answered_by is not None:
        return Outcome(record=chosen.answered_by, skipped=True)
    settings = lake.settings
    run_id, started = new_run_id(), _now()
    folder = settings.reports / "runs" / run_id
    attempts = 0

    def once() -> Execution:
        nonlocal attempts
        attempts += 1
        return execute(
            chosen.notebook,
            chosen.parameters,
            chosen.snapshot_id,
            folder / "notebook.ipynb",
            budget_seconds=settings.notebook_seconds,
            fork_socket=kernels.socket_path(settings),
        )

    result: Result | None = None
    failure: NotebookFailedError | None = None
    try:
        result = _retrying(settings.retries, settings.retry_seconds)(once).result
    except NotebookFailedError as error:
        failure = error
        log.warning("%s failed after %s tries: %s", chosen.analysis, attempts, error.code)
    except Exception as error:  # whatever it is, the other notebooks of the round go on
        failure = _unforeseen("run", chosen, error)
    record = _record(run_id, chosen, request, started, attempts, result, failure)
    try:
        _keep_files(folder, record, result)
    except Exception as error:  # a full disk, say: what cannot be shown is not published
        result, failure = None, failure or _unforeseen("keep the files of", chosen, error)
        record = _record(run_id, chosen, request, started, attempts, result, failure)
    publish(lake, record, result)
    if result is not None and chosen.is_default:
        _show_as_latest(folder, record)
    return Outcome(record=record, skipped=False, result=result)


def _unforeseen(what: str, chosen: Plan, error: Exception) -> NotebookFailedError:
    """A failure of ours; its text stays in the log, since it might hold anything."""
    log.error("Could not %s %s", what, chosen.analysis, exc_info=error)
    return NotebookFailedError(
        f"MediSync could not {what} {chosen.notebook.path.name} ({type(error).__name__}).",
        code="internal",
        is_passing=False,
    )


def _record(
    run_id: str,
    chosen: Plan,
    request: Request,
    started: dt.datetime,
    attempts: int,
    result: Result | None,
    failure: NotebookFailedError | None,
) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        analysis=chosen.analysis,
        title=chosen.notebook.title,
        status=RunStatus.FAILED if failure else RunStatus.COMPLETED,
        parameters=chosen.parameters,
        parameters_hash=identity.hash_of(chosen.parameters),
        snapshot_id=chosen.snapshot_id,
        inputs=chosen.inputs,
        run_key=chosen.run_key,
        notebook=chosen.notebook.path.name,
        notebook_hash=chosen.notebook.notebook_hash,
        code_hash=chosen.code_hash,
        environment=identity.environment_record(),
        fixed_environment=FIXED_ENVIRONMENT,
        trigger=request.trigger,
        requested_by=request.requested_by,
        flow_run_id=request.flow_run_id,
        attempts=attempts,
        started_at=started,
        finished_at=_now(),
        headline=result.headline if result else None,
        error_code=failure.code if failure else None,
        error_message=failure.message if failure else None,
    )


def run(
    lake: Lake,
    names: list[str] | None = None,
    *,
    parameters: dict[str, Any] | None = None,
    force: bool = False,
    request: Request,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """A whole round in this process, several notebooks at once; ``on_outcome`` hears of each as it ends."""
    plans = plan(lake, names, parameters=parameters, force=force)
    outcomes: dict[str, Outcome] = {}
    with ThreadPoolExecutor(max_workers=lake.settings.kernels) as pool:
        for outcome in _as_they_end(lake, plans, request, pool):
            outcomes[outcome.record.analysis] = outcome
            if on_outcome is not None:
                on_outcome(outcome)
    return [outcomes[one.analysis] for one in plans]


def _as_they_end(lake: Lake, plans: list[Plan], request: Request, pool: ThreadPoolExecutor) -> Iterator[Outcome]:
    for future in as_completed([pool.submit(perform, lake, one, request) for one in plans]):
        yield future.result()


def _retrying(retries: int, seconds: float) -> tenacity.Retrying:
    """Exponential backoff with jitter for faults that may pass."""

    def may_pass(error: BaseException) -> bool:
        return isinstance(error, (LakeBusyError, OSError)) or (
            isinstance(error, NotebookFailedError) and error.is_passing
        )

    return tenacity.Retrying(
        reraise=True,
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(retries + 1),
        wait=tenacity.wait_exponential_jitter(multiplier=seconds, max=LONGEST_WAIT_SECONDS, jitter=seconds / 2),
    )


def _answer(lake: Lake, run_key: str) -> RunRecord | None:
    rows = lake.query(
        "SELECT record FROM analytics.runs WHERE run_key = ? AND status = ? ORDER BY finished_at DESC LIMIT 1",
        [run_key, RunStatus.COMPLETED],
    )
    return RunRecord.model_validate_json(rows[0]["record"]) if rows else None


def _keep_files(folder: Path, record: RunRecord, result: Result | None) -> None:
    """Beside the executed notebook, which gets the record in its metadata: the report."""
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / "notebook.ipynb"
    if executed.exists():
        document = json.loads(executed.read_text(encoding="utf-8"))
        document["metadata"].setdefault("medisync", {})["run"] = record.model_dump(mode="json")
        for path in ("input_path", "output_path"):
            document["metadata"].get("papermill", {}).pop(path, None)
        draft = executed.with_suffix(".draft")
        draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(executed)
    write_report(folder / "report.html", record, result)


def _show_as_latest(folder: Path, record: RunRecord) -> None:
    """The report of a run with default parameters under its analysis' name, after the run is committed."""
    latest = folder.parent.parent / "latest"
    draft = latest / f".{record.run_id}.html"
    try:
        latest.mkdir(exist_ok=True)
        shutil.copyfile(folder / "report.html", draft)
        draft.replace(latest / f"{record.analysis}.html")
    except OSError as error:
        log.warning("The latest report of %s is an older one: %s", record.analysis, error.strerror)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
