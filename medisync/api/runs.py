"""``/api/runs`` and ``/api/deliveries``."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from medisync.access.gate import require
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.api import records
from medisync.api.analytics import RUN_ID, AnyOfResults
from medisync.api.envelope import JSON_TYPE, Answer, dumped, failures
from medisync.api.errors import NoReportError, UnknownRunError, WithheldError
from medisync.api.house import house_of
from medisync.api.results import as_data
from medisync.api.views import DeliveryView, RunView, Sight, delivery_view, run_view
from medisync.lake import Lake
from medisync.runs.published import DeliveryLine, recent_deliveries

router = APIRouter(prefix="/api")

Reader = Annotated[Principal, Depends(require(Permission.READ_RESULTS))]
PageReader = Annotated[Principal, Depends(require(Permission.OPEN_PAGES))]
RunId = Annotated[str, Path(pattern=RUN_ID, description="a run's id, such as r20240507T101500-1f3a9c")]

MOST_DELIVERIES = 200
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; "
    "sandbox allow-popups allow-downloads"
)
"""A report is one file that needs nothing from anywhere, and runs no script."""


class RunDetail(RunView):
    """A run with its result, in the form the role may see."""

    result: AnyOfResults | None = Field(default=None, description="null for failed runs, and when withheld")
    is_withheld: bool = Field(description="there is a result, but it has not been released")


class Deliveries(BaseModel):
    deliveries: list[DeliveryView]


@router.get("/runs/{run_id}", responses=failures(404), tags=["runs"], response_model=Answer[RunDetail])
async def run(request: Request, principal: Reader, run_id: RunId) -> Response:
    """One run: its record, as far as the role goes, and its result."""
    house, sight = house_of(request), Sight(principal)
    row = await house.reader.read(records.run, house.reader.lake, principal.audience, run_id)
    if row is None:
        raise UnknownRunError("There is no run of this id.")
    view = run_view(row, sight, whole=True)
    text = await house.reader.read(records.document, house.reader.lake, run_id, sight.audience)
    house.reads.note(request, principal, "run read", run_id)
    result = None if text is None else as_data(json.loads(text), figures=False)
    is_withheld = text is None and view.status == "completed"
    shown = {**view.model_dump(mode="json"), "result": result, "is_withheld": is_withheld}
    body = {"success": True, "message": f"{view.title}: {view.status.value}.", "data": shown}
    return Response(dumped(body), media_type=JSON_TYPE)


@router.get(
    "/runs/{run_id}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "The report, one self-contained page"},
               **failures(404)},
    tags=["runs"],
)  # fmt: skip
async def report(request: Request, principal: PageReader, run_id: RunId) -> Response:
    """The report of a run as one HTML file, in the form the role may see."""
    house = house_of(request)
    row = await house.reader.read(records.run, house.reader.lake, principal.audience, run_id)
    if row is None:
        raise UnknownRunError("There is no run of this id.")
    if principal.audience == "released":  # the kept page is that of the full result
        raise WithheldError("The report of this run has not been released.", hint="Its released result may be there.")
    path = house.settings.reports / "runs" / run_id / "report.html"
    if not path.is_file():
        raise NoReportError("The report of this run is not kept.")
    house.reads.note(request, principal, "report read", run_id)
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/deliveries", responses=failures(), tags=["deliveries"])
async def deliveries(
    request: Request, principal: Reader, limit: Annotated[int, Query(ge=1, le=MOST_DELIVERIES)] = 20
) -> Answer[Deliveries]:
    """What arrived, newest first, and what became of it."""
    house, sight = house_of(request), Sight(principal)
    lines = await house.reader.read(_deliveries, house.reader.lake, limit)
    views = [delivery_view(line, sight) for line in lines]
    return Answer(message=f"{len(views)} deliveries.", data=Deliveries(deliveries=views))


def _deliveries(lake: Lake, limit: int) -> list[DeliveryLine]:
    return [] if lake.last_snapshot_id() is None else recent_deliveries(lake, limit)
