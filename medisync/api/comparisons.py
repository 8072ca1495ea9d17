"""``/api/compare`` and ``/api/lineage``: what lies between two runs, and behind a number."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from medisync.access.gate import require
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.api.envelope import Answer, failures
from medisync.api.house import House, house_of
from medisync.errors import NoDataError, ParameterError
from medisync.lake import Lake
from medisync.runs import lineage as lines
from medisync.runs.compare import Comparison, compare
from medisync.runs.records import NoSuchRunError

router = APIRouter(prefix="/api")

Reader = Annotated[Principal, Depends(require(Permission.READ_RESULTS))]
FullReader = Annotated[Principal, Depends(require(Permission.READ_FULL))]

LONGEST = 300
MOST_CHANGES = 1_000


class ComparisonView(BaseModel):
    """Two sides, and what is not the same. Changes of numbers come ranked by size, the largest first."""

    kind: Literal["runs", "snapshots"]
    before: str
    after: str
    snapshots: tuple[int, int]
    sentence: str
    note: str | None
    tables: list[dict[str, Any]] = Field(description="rows created, updated and deleted in each input table")
    deliveries: list[dict[str, Any]] = Field(description="loaded in between")
    differences: list[dict[str, Any]] = Field(description="parameters; code and environment for who may read records")
    compared: int = Field(description="values of both results")
    changed: int = Field(description="how many of them are not the same")
    changes: list[dict[str, Any]] = Field(description="the largest of these")


class LineageView(BaseModel):
    """A graph from files to numbers; edges go from what came first to what was made of it."""

    of: str
    nodes: list[dict[str, str]]
    edges: list[tuple[str, str]]
    note: str | None


@router.get("/compare", responses=failures(400, 404), tags=["runs"])
async def comparison(
    request: Request,
    principal: Reader,
    before: Annotated[str, Query(max_length=LONGEST, description="a run, a snapshot, or name=value,name=value")],
    after: Annotated[str, Query(max_length=LONGEST, description="the same kind; default stands for no parameter")],
    analysis: Annotated[
        str | None, Query(max_length=63, description="compare its runs with two parameter sets")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_CHANGES, description="changes of numbers to list")] = 100,
) -> Answer[ComparisonView]:
    """Two runs, two snapshots or two parameter sets: inputs, code, parameters, environment, every number. Those who see
    released results compare these."""
    house = house_of(request)
    made = await house.reader.read(_compared, house.reader.lake, before, after, analysis, principal)
    house.reads.note(request, principal, "runs compared", f"{before} {after}")
    differences = [
        one.as_json() for one in made.differences if one.kind == "parameters" or principal.may(Permission.READ_RUNS)
    ]
    told = made.as_json()
    view = ComparisonView(
        **{**told, "changes": told["changes"][:limit], "differences": differences, "changed": len(made.changes)}
    )
    return Answer(message=made.sentence(), data=view)


@router.get("/lineage/{kind}", responses=failures(404), tags=["runs"])
async def lineage(
    request: Request,
    principal: FullReader,
    kind: Literal["delivery", "run", "result"],
    of: Annotated[
        str,
        Query(
            max_length=LONGEST,
            description="its id, or an analysis' name for its newest run; of a result RUN/place/row/column",
        ),
    ],
) -> Answer[LineageView]:
    """From a number to run, notebook cell, snapshot, deliveries and files; or from a delivery on to the runs."""
    house: House = house_of(request)
    found = await house.reader.read(_lineage, house.reader.lake, kind, of)
    house.reads.note(request, principal, "lineage read", of)
    return Answer(message=f"Lineage of {found.of}.", data=LineageView.model_validate(found.as_json()))


def _compared(lake: Lake, before: str, after: str, analysis: str | None, principal: Principal) -> Comparison:
    _require_data(lake)
    try:
        return compare(lake, before, after, analysis=analysis, audience=principal.audience)
    except ParameterError as error:  # whatever is no set of parameters names no runs
        raise NoSuchRunError(error.message, hint=error.hint) from error


def _lineage(lake: Lake, kind: str, of: str) -> lines.Lineage:
    _require_data(lake)
    return {"delivery": lines.of_delivery, "run": lines.of_run, "result": lines.of_result}[kind](lake, of)


def _require_data(lake: Lake) -> None:
    """A reader never makes a lake."""
    if lake.last_snapshot_id() is None:
        raise NoDataError("There is no data yet.", hint="Drop a file into data/inbox/ or run: medisync ingest FILE")
