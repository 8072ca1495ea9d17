"""``/api/packs``: the report packs that are kept."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from medisync.access.gate import require
from medisync.access.permissions import Permission
from medisync.access.principal import Audience, Principal
from medisync.api.envelope import Answer, failures
from medisync.api.errors import NoReportError
from medisync.api.house import house_of
from medisync.api.runs import REPORT_POLICY
from medisync.reports.pack import kept_packs

router = APIRouter(prefix="/api")

PageReader = Annotated[Principal, Depends(require(Permission.OPEN_PAGES))]
Form = Literal["html", "pdf"]

MOST_PACKS = 200
MEDIA: dict[Form, str] = {"html": "text/html", "pdf": "application/pdf"}


class PackView(BaseModel):
    """One pack; the addresses are below the API's."""

    name: str
    made_at: dt.datetime = Field(description="UTC")
    audience: Audience = Field(description="whose results it holds: whole ones, or what was released")
    html: str
    pdf: str


class Packs(BaseModel):
    packs: list[PackView]


@router.get("/packs", responses=failures(), tags=["reports"])
async def packs(
    request: Request, principal: PageReader, limit: Annotated[int, Query(ge=1, le=MOST_PACKS)] = 20
) -> Answer[Packs]:
    """The report packs, newest first, of whole or of released results as the role may see."""
    house = house_of(request)
    kept = await asyncio.to_thread(kept_packs, house.settings, principal.audience)
    views = [
        PackView(
            name=one.name,
            made_at=one.made_at.replace(tzinfo=dt.UTC),
            audience=one.audience,
            html=f"/api/packs/{one.name}/html",
            pdf=f"/api/packs/{one.name}/pdf",
        )
        for one in kept[:limit]
    ]
    return Answer(message=f"{len(views)} packs.", data=Packs(packs=views))


@router.get(
    "/packs/{pack}/{form}",
    response_class=Response,
    responses={200: {"content": {"text/html": {}, "application/pdf": {}}, "description": "The pack"}, **failures(404)},
    tags=["reports"],
)
async def pack(
    request: Request,
    principal: PageReader,
    pack: Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$", description="a pack's name")],
    form: Form,
) -> Response:
    """One pack as a page or as PDF. One of whole results does not exist for who sees released ones."""
    house = house_of(request)
    kept = await asyncio.to_thread(kept_packs, house.settings)
    found = next((one for one in kept if one.name == pack), None)
    if found is None or found.audience not in (principal.audience, "released"):
        raise NoReportError("There is no such pack.", hint="GET /api/packs lists those there are.")
    house.reads.note(request, principal, "pack read", found.name)
    path = found.html if form == "html" else found.pdf
    headers = {"Content-Security-Policy": REPORT_POLICY} if form == "html" else None
    return FileResponse(path, media_type=MEDIA[form], headers=headers)
