"""Tasks: asking for runs, and how far they are. A task is a Prefect flow run."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from medisync.api import records
from medisync.api.orchestrator import WAITING, FlowRun, Orchestrator, Step
from medisync.api.reading import LakeReader
from medisync.api.views import RunView, Sight, run_view
from medisync.lake import Lake
from medisync.runs import identity, planning, registry
from medisync.runs.planning import Plan
from medisync.runs.progress import runs_in_progress
from medisync.runs.record import RunStatus
from medisync.settings import Settings

ANALYZE = "analyze"
REFRESH = "refresh-cache"


class TaskState(StrEnum):
    PENDING = "pending"  # asked for, not begun
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"  # itself, or at least one of its analyses


class StepState(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    UNCHANGED = "unchanged"  # an earlier run had answered it


class TaskStep(BaseModel):
    """One analysis of a task, and the run it led to."""

    analysis: str
    state: StepState
    run: RunView | None = None


class Progress(BaseModel):
    """How many of the task's analyses are done, the failed ones among them."""

    done: int
    of: int


class Task(BaseModel):
    """A task. ``error_code`` is that of the first failed run, or ``task-failed`` when the task itself broke off."""

    task_id: str
    state: TaskState
    progress: Progress
    requested_at: dt.datetime | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error_code: str | None = None
    analyses: list[TaskStep]


class Asked(BaseModel):
    """What became of a request: a task, or, when nothing has changed since, the runs that have answered it."""

    task_id: str | None = Field(description="null when there is nothing to wait for")
    state: TaskState
    joined: bool = Field(default=False, description="whether this task was going on already")
    analyses: list[str]
    run_ids: list[str] = Field(default=[], description="the runs whose results are the answer, when there is no task")
    status_url: str | None = None


async def ask(
    reader: LakeReader,
    prefect: Orchestrator,
    *,
    analysis: str,
    parameters: dict[str, Any],
    force: bool,
    requested_by: str,
) -> Asked:
    """Have ``analysis`` (or all) run. Raises UnknownAnalysisError, ParameterError, NoDataError, OrchestratorAwayError,
    before anything is started."""
    names = [] if analysis == registry.FULL_ANALYSIS else [analysis]
    plans = await reader.read(planning.plan, reader.lake, names, parameters=parameters, force=force)
    chosen = [one.analysis for one in plans]
    answers = [one.answered_by.run_id for one in plans if one.answered_by is not None]
    if len(answers) == len(plans):
        return Asked(task_id=None, state=TaskState.COMPLETED, analyses=chosen, run_ids=answers)
    running = await reader.read(_running_task, reader.lake.settings, plans)
    if running is not None:
        return _asked(running, TaskState.PROCESSING, chosen, joined=True)
    flow_run, joined = await prefect.request(
        ANALYZE,
        {"analyses": names or None, "parameters": parameters, "force": force, "trigger": "api",
         "requested_by": requested_by},
        tag=_tag(plans, force=force),
    )  # fmt: skip
    return _asked(flow_run.id, state_of(flow_run), chosen, joined=joined)


async def ask_refresh(reader: LakeReader, prefect: Orchestrator) -> Asked:
    """Have everything rerun whose data or code changed."""
    notebooks = await reader.read(registry.analyses, reader.lake.settings)
    flow_run, joined = await prefect.request(REFRESH, {}, tag="medisync-refresh")
    return _asked(flow_run.id, state_of(flow_run), [one.analysis for one in notebooks], joined=joined)


async def status(reader: LakeReader, prefect: Orchestrator, task_id: str, sight: Sight) -> Task:
    """How far a task is; raises UnknownTaskError, OrchestratorAwayError."""
    flow_run = await prefect.flow_run(task_id)
    steps = [] if flow_run.state in WAITING else await prefect.steps(task_id)
    runs = await reader.read(records.runs_of_flow_run, reader.lake, sight.audience, task_id)
    views = {one.analysis: one for one in (run_view(row, sight) for row in runs)}
    wanted = flow_run.parameters.get("analyses") or [
        one.analysis for one in await reader.read(registry.analyses, reader.lake.settings)
    ]
    known = {one.name: one for one in steps if one.name in wanted}
    listed = [TaskStep(analysis=name, state=_step(flow_run, name, known, views), run=views.get(name))
              for name in wanted]  # fmt: skip
    failed = [one for one in listed if one.state is StepState.FAILED]
    state = state_of(flow_run)
    if state is TaskState.COMPLETED and failed:
        state = TaskState.FAILED
    codes = [one.run.error_code for one in failed if one.run is not None and one.run.error_code]
    done = [one for one in listed if one.state in (StepState.COMPLETED, StepState.FAILED, StepState.UNCHANGED)]
    return Task(
        task_id=task_id,
        state=state,
        progress=Progress(done=len(done), of=len(listed)),
        requested_at=flow_run.requested_at,
        started_at=flow_run.started_at,
        finished_at=flow_run.finished_at if flow_run.is_over else None,
        error_code=(codes[0] if codes else "task-failed") if state is TaskState.FAILED else None,
        analyses=listed,
    )


def state_of(flow_run: FlowRun) -> TaskState:
    """Prefect's states in four words."""
    if flow_run.state in WAITING:
        return TaskState.PENDING
    if not flow_run.is_over:
        return TaskState.PROCESSING
    return TaskState.COMPLETED if flow_run.state == "COMPLETED" else TaskState.FAILED


def _step(flow_run: FlowRun, name: str, steps: dict[str, Step], views: dict[str, RunView]) -> StepState:
    view = views.get(name)
    if view is not None:
        return StepState.FAILED if view.status is RunStatus.FAILED else StepState.COMPLETED
    state = state_of(flow_run)
    if state in (TaskState.PENDING, TaskState.FAILED):
        return StepState.PENDING
    if state is TaskState.COMPLETED:
        return StepState.UNCHANGED
    if name in steps:
        return StepState.PENDING if steps[name].state in WAITING else StepState.PROCESSING
    return StepState.UNCHANGED if steps else StepState.PENDING  # the round is planned: this one needs no kernel


def _asked(task_id: str, state: TaskState, analyses: list[str], *, joined: bool) -> Asked:
    return Asked(
        task_id=task_id,
        state=state,
        joined=joined,
        analyses=analyses,
        status_url=f"/api/analytics/status/{task_id}/",
    )


def _tag(plans: list[Plan], *, force: bool) -> str:
    """Equal for requests that would do the same: analyses, parameters, code and the state of their data."""
    return f"medisync-{identity.hash_of([sorted(one.run_key for one in plans), force])[:32]}"


def _running_task(settings: Settings, plans: list[Plan]) -> str | None:
    """The flow run in which all that is left to do is being done now, whoever asked for it."""
    tasks = {one.run_key: one.flow_run_id for one in runs_in_progress(settings)}
    found = {tasks.get(one.run_key) for one in plans if one.answered_by is None}
    return found.pop() if len(found) == 1 else None


def waiting_files(lake: Lake) -> int:
    """Files in the inbox that are not claimed yet."""
    from medisync.intake import arrival

    return sum(1 for _ in arrival.waiting(lake.settings))
