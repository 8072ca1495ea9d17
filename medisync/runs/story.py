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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tenacity

from medisync.analyses.contract import Result
from medisync.errors import LakeBusyError, UserError
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.reports.page import write_report
from medisync.runs import identity, notices, planning, printed_keys, recall, versions
from medisync.runs.earlier import EarlierRuns
from medisync.runs.execution import Execution, NotebookFailedError, execute
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.runs.planning import Plan, plan
from medisync.runs.progress import in_progress
from medisync.runs.publishing import publish
from medisync.runs.record import Outcome, RunRecord, RunStatus, new_run_id

__all__ = ["Plan", "Request", "perform", "plan", "run"]

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 60.0

SETTLING_TRIES = 5
"""How often a notebook may be saved between planning and running before the run is called off."""


@dataclass(frozen=True)
class Request:
    """Who asked for a round and how."""

    trigger: str
    requested_by: str = "local"
    flow_run_id: str | None = None


def perform(lake: Lake, chosen: Plan, request: Request, earlier: EarlierRuns | None = None) -> Outcome:
    """Run one planned analysis, record and publish it. Never raises for a notebook's fault: see the outcome.

    ``earlier`` are the runs before, when the round has asked for them. Raises what the lake raises when the run cannot
    be recorded.
    """
    if chosen.answered_by is not None:
        return Outcome(record=chosen.answered_by, skipped=True)
    run_id, started = new_run_id(), _now()
    with in_progress(
        lake.settings,
        run_id=run_id,
        analysis=chosen.analysis,
        title=chosen.notebook.title,
        run_key=chosen.run_key,
        trigger=request.trigger,
        flow_run_id=request.flow_run_id,
        started_at=started,
    ):
        return _performed(lake, chosen, request, run_id, started, earlier)


def _performed(
    lake: Lake, chosen: Plan, request: Request, run_id: str, started: dt.datetime, earlier: EarlierRuns | None
) -> Outcome:
    settings = lake.settings
    folder = settings.reports / "runs" / run_id
    attempts = 0
    source = chosen.notebook.path

    def once() -> Execution:
        nonlocal attempts
        attempts += 1
        return execute(
            chosen.notebook,
            chosen.parameters,
            chosen.snapshot_id,
            folder / "notebook.ipynb",
            source=source,
            budget_seconds=settings.notebook_seconds,
            budget_mb=settings.notebook_memory_mb,
            fork_socket=kernels.socket_path(settings),
            known_on=chosen.known_on,
        )

    result: Result | None = None
    failure: NotebookFailedError | None = None
    try:
        chosen, source = _kept(lake, chosen)
        result = _retrying(settings.retries, settings.retry_seconds)(once).result
    except NotebookFailedError as error:
        failure = error
        log.warning("%s failed after %s tries: %s", chosen.analysis, attempts, error.code)
    except Exception as error:  # whatever it is, the other notebooks of the round go on
        failure = _unforeseen("run", chosen, error)
    try:
        failure = _without_keys(lake, folder / "notebook.ipynb", chosen, result) or failure
    except Exception as error:
        failure = _unforeseen("look through", chosen, error)
        (folder / "notebook.ipynb").unlink(missing_ok=True)
    result = None if failure else result
    record = _record(run_id, chosen, request, started, attempts, result, failure)
    if result is not None and chosen.is_default:
        record, result = _with_notices(lake, chosen, record, result, earlier)
    try:
        _keep_files(folder, record, result)
    except Exception as error:  # a full disk, say: what cannot be shown is not published
        result, failure = None, failure or _unforeseen("keep the files of", chosen, error)
        record = _record(run_id, chosen, request, started, attempts, result, failure)
    published = publish(lake, record, result)
    if published.run_id != run_id:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(record=published, skipped=True)
    if result is not None and chosen.is_default:
        _show_as_latest(folder, record)
    return Outcome(record=record, skipped=False, result=result)


def _kept(lake: Lake, chosen: Plan) -> tuple[Plan, Path]:
    """The version that will run, in the archive: a notebook saved since it was planned is planned with again."""
    for _ in range(SETTLING_TRIES):
        with suppress(versions.ChangedMeanwhileError):
            return chosen, versions.keep(lake.settings, chosen.notebook, chosen.code)
        try:
            chosen = planning.again(lake, chosen)
        except UserError as error:
            raise NotebookFailedError(str(error), code="bad-notebook", is_passing=False) from None
    raise NotebookFailedError(
        f"{chosen.notebook.path.name} or its code is being changed all the time.", code="bad-notebook", is_passing=False
    )


def _without_keys(lake: Lake, executed: Path, chosen: Plan, result: Result | None) -> NotebookFailedError | None:
    """A failure when notebook or result show a person's key; they are struck out of what is kept."""
    document = json.loads(executed.read_text(encoding="utf-8")) if executed.exists() else {}
    shown = printed_keys.outputs_of(document)
    texts = [text for _, text in shown] + ([result.model_dump_json()] if result else [])
    if not printed_keys.found_in(lake, texts):
        return None
    _write_json(executed, printed_keys.struck_out(document))
    where = sorted({number for number, text in shown if printed_keys.SHAPE.search(text)})
    cells = f"Cell {', '.join(map(str, where))}" if where else "The result"
    return NotebookFailedError(
        f"{cells} of {chosen.notebook.path.name} shows the key of a patient, an admission or a practitioner.",
        code="shows-a-key",
        is_passing=False,
    )


def _with_notices(
    lake: Lake, chosen: Plan, record: RunRecord, result: Result, earlier: EarlierRuns | None
) -> tuple[RunRecord, Result]:
    """Both with what moved since the run before; pages show it where they show the result's cautions."""
    try:
        known = earlier or EarlierRuns.of(lake, [chosen])
        before = known.record(record.analysis, record.parameters_hash)
        told = notices.notices(lake, result, record.snapshot_id, before, known.result(lake, before)) if before else ()
    except Exception as error:  # a result is not withheld for want of a remark about it
        log.error("Could not compare %s with the run before", record.analysis, exc_info=error)
        return record, result
    warnings = (*result.warnings, *told)
    return record.model_copy(update={"notices": told}), result.model_copy(update={"warnings": warnings})


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
        parameters_hash=planning.parameters_hash(chosen),
        snapshot_id=chosen.snapshot_id,
        inputs=chosen.inputs,
        run_key=chosen.run_key,
        notebook=chosen.notebook.path.name,
        notebook_hash=chosen.notebook.notebook_hash,
        code_hash=chosen.code_hash,
        environment=identity.environment_record(),
        packages=identity.packages_of(chosen.code),
        settings=chosen.settings,
        fixed_environment=FIXED_ENVIRONMENT,
        as_of=chosen.as_of,
        known_on=chosen.known_on,
        trigger=request.trigger,
        requested_by=request.requested_by,
        flow_run_id=request.flow_run_id,
        attempts=attempts,
        started_at=started,
        finished_at=_now(),
        headline=result.headline if result else None,
        error_code=failure.code if failure else None,
        error_message=printed_keys.struck_out(failure.message) if failure else None,
    )


def run(
    lake: Lake,
    names: list[str] | None = None,
    *,
    parameters: dict[str, Any] | None = None,
    force: bool = False,
    as_of: dt.datetime | None = None,
    request: Request,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """A whole round in this process, several notebooks at once; ``on_outcome`` hears of each as it ends."""
    plans = plan(lake, names, parameters=parameters, force=force, as_of=as_of)
    earlier = EarlierRuns.of(lake, plans)
    outcomes: dict[str, Outcome] = {}
    with ThreadPoolExecutor(max_workers=lake.settings.kernels) as pool:
        for outcome in _as_they_end(lake, earlier, plans, request, pool):
            outcomes[outcome.record.analysis] = outcome
            if on_outcome is not None:
                on_outcome(outcome)
    recall.note(lake)
    return [outcomes[one.analysis] for one in plans]


def _as_they_end(
    lake: Lake, earlier: EarlierRuns, plans: list[Plan], request: Request, pool: ThreadPoolExecutor
) -> Iterator[Outcome]:
    waiting = [pool.submit(perform, lake, one, request, earlier) for one in earlier.longest_first(plans)]
    for future in as_completed(waiting):
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


def _keep_files(folder: Path, record: RunRecord, result: Result | None) -> None:
    """Beside the executed notebook, which gets the record in its metadata: the report."""
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / "notebook.ipynb"
    if executed.exists():
        document = json.loads(executed.read_text(encoding="utf-8"))
        document["metadata"].setdefault("medisync", {})["run"] = record.model_dump(mode="json")
        for path in ("input_path", "output_path"):
            document["metadata"].get("papermill", {}).pop(path, None)
        _write_json(executed, document)
    write_report(folder / "report.html", record, result)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)


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
