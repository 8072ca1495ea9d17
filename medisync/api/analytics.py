"""``/api/analytics``: the latest results, tasks, history, everything for a dashboard, and the stream."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from medisync.access.gate import require, where
from medisync.access.permissions import Permission
from medisync.access.principal import Audience, Principal
from medisync.api import records, shelf, tasks
from medisync.api.envelope import JSON_TYPE, Answer, failures
from medisync.api.house import House, house_of
from medisync.api.hub import started_data
from medisync.api.results import AnyResult, ReleasedResult
from medisync.api.results.illness_prediction import IllnessPredictionResult
from medisync.api.results.illness_surge_prediction import IllnessSurgePredictionResult
from medisync.api.results.medication_analysis import MedicationAnalysisResult
from medisync.api.results.patient_demographics import PatientDemographicsResult
from medisync.api.results.patient_health_trends import PatientHealthTrendsResult
from medisync.api.results.patient_volume_prediction import PatientVolumePredictionResult
from medisync.api.results.readmissions import ReadmissionsResult
from medisync.api.shelf import Ready, State
from medisync.api.stream import EventStream
from medisync.api.tasks import Asked, Task
from medisync.api.traffic import VARY
from medisync.api.views import DeliveryView, RunView, Sight, delivery_view, run_view
from medisync.runs.published import Freshness

router = APIRouter(prefix="/api/analytics", tags=["analytics"])

Reader = Annotated[Principal, Depends(require(Permission.READ_RESULTS))]
Asker = Annotated[Principal, Depends(require(Permission.TRIGGER))]

NAME = r"^[a-z][a-z0-9_]{0,62}$"
RUN_ID = r"^r[0-9]{8}T[0-9]{6}-[0-9a-f]{6}$"
MOST_RUNS = 200

AnalysisType = Annotated[str, Query(alias="type", pattern=NAME, description="name of an analysis")]


AnyOfResults = (
    IllnessPredictionResult
    | IllnessSurgePredictionResult
    | MedicationAnalysisResult
    | PatientDemographicsResult
    | PatientHealthTrendsResult
    | PatientVolumePredictionResult
    | ReadmissionsResult
    | ReleasedResult
    | AnyResult
)
"""A result of any analysis, in either form."""


class Latest(BaseModel):
    """One analysis and its latest good result."""

    type: str
    title: str
    freshness: Freshness
    reason: str | None = Field(description="why the result is not current, in words")
    audience: Audience = Field(description="full, or released: after disclosure control")
    run_id: str | None
    snapshot: int | None = Field(description="the snapshot of the lake it was made from")
    parameters: dict[str, Any] | None
    finished_at: dt.datetime | None
    schema_: str | None = Field(alias="schema", description="shape of the full result and its version")
    is_withheld: bool = Field(description="there is a result, but it has not been released")
    result: AnyOfResults | None


class LatestAnswer(Answer[Latest]):
    """``cached`` is true when the answer came from memory, false when the lake was read for it."""

    cached: bool


class Started(BaseModel):
    """A run that is going on."""

    run_id: str
    analysis: str
    title: str
    started_at: dt.datetime
    task_id: str | None


class DataSpan(BaseModel):
    """What the data are. Only for roles that see full results."""

    delivered_at: dt.datetime | None
    admissions: int
    admitted_from: dt.date | None
    admitted_until: dt.date | None
    deliveries: int


class Dashboard(BaseModel):
    """Everything a dashboard shows, of one moment."""

    snapshot: int
    data: DataSpan | None
    analyses: list[Latest]
    running: list[Started]
    deliveries: list[DeliveryView]


class DashboardAnswer(Answer[Dashboard]):
    cached: bool


class History(BaseModel):
    """Runs, newest first. ``next_before`` asks for the following ones; null at the end."""

    runs: list[RunView]
    next_before: str | None


class RunRequest(BaseModel):
    """What shall run."""

    model_config = ConfigDict(extra="forbid")

    analysis_type: str = Field(pattern=NAME, description="name of an analysis, or full_analysis for all")
    force_refresh: bool = Field(default=False, description="run also when nothing has changed since")
    parameters: dict[str, Any] = Field(default={}, description="parameters of the analysis; its own where left out")


class Refreshed(Asked):
    """``waiting_files`` lie in the inbox and are not complete yet; ``claimed`` are the deliveries made of those that
    were."""

    waiting_files: int
    claimed: list[str]


@router.get("", responses=failures(404), response_model=LatestAnswer)
async def latest(
    request: Request,
    principal: Reader,
    analysis: AnalysisType,
    figures: Annotated[bool, Query(description="with the drawings as SVG")] = False,
) -> Response:
    """The latest good result of one analysis.

    Served from memory, at most a second behind the lake; with `Cache-Control: no-cache` the lake is asked first. The
    strong ETag, sent back as `If-None-Match`, saves the transfer of what has not changed (304).
    """
    house = house_of(request)
    state, is_cached = await _state(house, request)
    ready = shelf.latest(state, analysis, principal.audience, figures=figures)
    if ready is None:
        is_cached = False
        ready = await house.reader.read(shelf.make_latest, state, analysis, principal.audience, figures=figures)
    record = state.shelf[analysis].record
    if record is not None:
        house.reads.note(request, principal, "result read", record.run_id)
    return _send(request, ready, is_cached=is_cached)


@router.get("/realtime", responses=failures(), response_model=DashboardAnswer)
async def realtime(request: Request, principal: Reader) -> Response:
    """All analyses' latest results and states, the data, running runs and the newest deliveries in one answer."""
    house = house_of(request)
    state, is_cached = await _state(house, request)
    sight = Sight(principal)
    running = house.hub.running
    key = ("realtime", sight.key, tuple(one.run_id for one in running))
    ready = state.ready.get(key)
    if ready is None:
        is_cached = False
        ready = await house.reader.read(_dashboard, state, sight, [started_data(one) for one in running])
        for old in [one for one in state.ready if isinstance(one, tuple) and one[:2] == key[:2]]:
            state.ready.pop(old, None)
        state.ready[key] = ready
    house.reads.note(request, principal, "dashboard read", f"snapshot {state.snapshot_id}")
    return _send(request, ready, is_cached=is_cached)


@router.get("/history", responses=failures())
async def history(
    request: Request,
    principal: Reader,
    analysis: Annotated[str | None, Query(alias="type", pattern=NAME, description="only this analysis")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 20,
    before: Annotated[str | None, Query(pattern=RUN_ID, description="only runs older than this one")] = None,
) -> Answer[History]:
    """Runs, failed ones too, newest first."""
    house, sight = house_of(request), Sight(principal)
    rows = await house.reader.read(
        records.history, house.reader.lake, sight.audience, analysis=analysis, limit=limit + 1, before=before
    )
    views = [run_view(row, sight) for row in rows[:limit]]
    more = views[-1].run_id if len(rows) > limit else None
    return Answer(message=f"{len(views)} runs.", data=History(runs=views, next_before=more))


@router.post("", status_code=202, responses={200: {"model": Answer[Asked]}, **failures(404, 409)})
async def ask(
    request: Request, response: Response, principal: Asker, body: Annotated[RunRequest, Body()]
) -> Answer[Asked]:
    """Ask for a run: 202 with a task to follow, or 200 when nothing has changed and the answer is there already.

    Whoever asks for what is going on already joins it. Parameters are checked before anything starts.
    """
    house = house_of(request)
    asked = await tasks.ask(
        house.reader,
        house.prefect,
        analysis=body.analysis_type,
        parameters=body.parameters,
        force=body.force_refresh,
        requested_by=principal.name,
    )
    await _record(house, request, principal, "run asked for", f"{body.analysis_type} {asked.task_id or ''}".strip())
    if asked.task_id is None:
        response.status_code = 200
        return Answer(message="Nothing has changed since; the latest result is the answer.", data=asked)
    says = "This is going on already; you have joined it." if asked.joined else "It will run."
    return Answer(message=says, data=asked)


@router.post("/refresh", status_code=202, responses=failures())
async def refresh(request: Request, principal: Asker) -> Answer[Refreshed]:
    """Look into the inbox, and rerun every analysis that is missing, stale or older than its data."""
    house = house_of(request)
    claimed = await house.reader.read(house.rescan)
    waiting = await house.reader.read(tasks.waiting_files, house.reader.lake)
    asked = await tasks.ask_refresh(house.reader, house.prefect)
    await _record(house, request, principal, "refresh asked for", asked.task_id or "")
    data = Refreshed(**asked.model_dump(), waiting_files=waiting, claimed=claimed)
    return Answer(message="What changed is run again.", data=data)


@router.get("/status/{task_id}", responses=failures(404))
async def status(request: Request, principal: Reader, task_id: UUID) -> Answer[Task]:
    """How far a task is: analyses done, times, and why it failed."""
    house = house_of(request)
    task = await tasks.status(house.reader, house.prefect, str(task_id), Sight(principal))
    if task.state is tasks.TaskState.COMPLETED:  # whoever reads that finds the result there
        await house.reader.read(house.shelf.refresh)
    return Answer(message=f"{task.state.value}: {task.progress.done} of {task.progress.of} analyses.", data=task)


@router.get(
    "/stream",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events, see docs/api.md"}, **failures()},
)
async def stream(request: Request, principal: Reader) -> EventStream:
    """Server-sent events: runs started, completed and failed, deliveries loaded and refused, surges raised.

    Ids are the lake's: send the last one back as `Last-Event-ID`, to whichever process, and nothing is missed.
    """
    house = house_of(request)
    client = house.hub.join(Sight(principal))
    return EventStream(house.hub, house.doorkeeper, client, request, principal)


async def _state(house: House, request: Request) -> tuple[State, bool]:
    """The published state, and whether it came from memory."""
    state = house.shelf.state
    if state is not None and "no-cache" not in request.headers.get("cache-control", ""):
        return state, True
    return (now := await house.reader.read(house.shelf.refresh)), now is state


def _send(request: Request, ready: Ready, *, is_cached: bool) -> Response:
    request.scope["medisync.quiet"] = is_cached
    etag = ready.etag(is_cached=is_cached)
    headers = {"ETag": etag, **VARY}
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(ready.cached if is_cached else ready.read, media_type=JSON_TYPE, headers=headers)


def _matches(given: str | None, etag: str) -> bool:
    if given is None:
        return False
    return given.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in given.split(","))


def _dashboard(state: State, sight: Sight, running: list[dict[str, Any]]) -> Ready:
    data = state.data
    span = None
    if data is not None and sight.audience == "full":
        span = {
            "delivered_at": data.delivered_at.replace(tzinfo=dt.UTC).isoformat() if data.delivered_at else None,
            "admissions": data.admissions,
            "admitted_from": data.admitted_from,
            "admitted_until": data.admitted_until,
            "deliveries": data.deliveries,
        }
    shown = {
        "snapshot": state.snapshot_id,
        "data": span,
        "analyses": [shelf.latest_data(state, name, sight.audience) for name in state.shelf],
        "running": running,
        "deliveries": [delivery_view(line, sight).model_dump(mode="json") for line in state.deliveries],
    }
    return Ready.of(f"Snapshot {state.snapshot_id}.", shown)


async def _record(house: House, request: Request, principal: Principal, what: str, on: str) -> None:
    """A request that starts something is recorded before it is answered."""
    await house.reader.read(house.access.record, principal.name, what, on, where(request))
