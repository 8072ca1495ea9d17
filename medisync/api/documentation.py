"""The API's documentation: one OpenAPI document, and a page that shows it without any address but ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import swagger_ui_bundle
from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from medisync import __version__
from medisync.access.errors import NotAuthenticatedError
from medisync.access.gate import authenticate, csrf_cookie, require
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.api.envelope import REASONS, Failure
from medisync.api.errors import NoSuchAddressError
from medisync.api.house import house_of

OPENAPI_VERSION = "3.0.3"
"""What the page's library understands; the models use nothing that needs more."""

OUR_ASSETS = Path(__file__).parent / "assets"
PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
    "docs.js": "text/javascript",
}
DESCRIPTION = """Results, history, runs and events of a MediSync workspace.

Every answer is an envelope `{success, message, data}`; a failure has `error` with a stable `code` instead of data.
Every address works with and without a slash at its end. Programs send `Authorization: Bearer <access token>` from
`POST /api/auth/token`; pages send the login cookie, and with writes the header `X-CSRF-Token`."""

router = APIRouter(include_in_schema=False)


async def reader(request: Request) -> Principal | None:
    """Who is logged in; None otherwise: a page then leads to the login."""
    try:
        return await authenticate(request)
    except NotAuthenticatedError:
        return None


reader.permission = Permission.READ_RESULTS  # type: ignore[attr-defined]


@router.get("/api/docs")
async def page(request: Request, principal: Annotated[Principal | None, Depends(reader)]) -> Response:
    """The documentation as a page."""
    if principal is None or not principal.may(Permission.READ_RESULTS):
        return RedirectResponse("/login?next=/api/docs", status_code=303)
    html = (OUR_ASSETS / "docs.html").read_text(encoding="utf-8")
    html = html.replace("{csrf}", csrf_cookie(house_of(request).settings)).replace("{version}", __version__)
    return HTMLResponse(html, headers={"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"})


@router.get("/api/openapi.json", dependencies=[Depends(require(Permission.READ_RESULTS))])
async def openapi(request: Request) -> Response:
    """The documentation for programs."""
    return Response(_document(request.app), media_type="application/json", headers={"Cache-Control": "no-cache"})


@router.get("/api/docs/assets/{name}", dependencies=[Depends(require(Permission.READ_RESULTS))])
async def asset(name: str) -> Response:
    """A file of the page."""
    if name not in ASSETS:
        raise NoSuchAddressError("Nothing is served at this address.")
    return Response(_asset(name), media_type=ASSETS[name], headers={"Cache-Control": "private, max-age=3600"})


def install(app: FastAPI) -> None:
    """Give ``app`` its documentation."""
    app.include_router(router)
    app.openapi = lambda: openapi_of(app)  # type: ignore[method-assign]


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of every documented route."""
    if app.openapi_schema is None:
        made = get_openapi(
            title="MediSync", version=__version__, description=DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
        )
        app.openapi_schema = _completed(_as_3_0(made))
    return app.openapi_schema


@cache
def _asset(name: str) -> bytes:
    ours = OUR_ASSETS / name
    vendor = Path(swagger_ui_bundle.swagger_ui_path)
    return (ours if ours.exists() else vendor / name).read_bytes()


@cache
def _document(app: FastAPI) -> bytes:
    return json.dumps(app.openapi(), separators=(",", ":")).encode()


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """Security, and what every operation can answer, said once for all of them."""
    document["openapi"] = OPENAPI_VERSION
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    failure = _as_3_0(Failure.model_json_schema(ref_template="#/components/schemas/{model}"))
    schemas.update(failure.pop("$defs", {}))
    schemas["Failure"] = failure
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_login = path in ("/api/auth/token", "/api/auth/refresh")
            is_open = is_login or path == "/api/health"
            operation["security"] = [] if is_open else [{"bearer": []}]
            statuses = {400, 401, 403, 405, 413, 422, 503, 504} | (
                {409, 429} if path.startswith("/api/auth") else set()
            )
            for status in sorted(statuses):
                known = operation["responses"].get(str(status))
                if known is None or _is_validation_error(known):
                    operation["responses"][str(status)] = _refusal(status)
    return document


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Failure"}
    return {"description": REASONS[status], "content": {"application/json": {"schema": schema}}}


def _is_validation_error(response: dict[str, Any]) -> bool:
    return "HTTPValidationError" in json.dumps(response)


def _as_3_0(value: Any) -> Any:
    """JSON Schema of OpenAPI 3.1 in the words of 3.0: null, const, exclusive bounds and examples are said otherwise."""
    if isinstance(value, list):
        return [_as_3_0(one) for one in value]
    if not isinstance(value, dict):
        return value
    made = {name: _as_3_0(one) for name, one in value.items()}
    for rewrite in REWRITES:
        made = rewrite(made)
    return made


def _null(schema: dict[str, Any]) -> dict[str, Any]:
    options = schema.get("anyOf")
    if schema.get("type") == "null":
        return {**{name: one for name, one in schema.items() if name != "type"}, "nullable": True, "enum": [None]}
    if not isinstance(options, list):
        return schema
    others = [one for one in options if not _is_null(one)]
    if len(others) == len(options):
        return schema
    rest = {name: one for name, one in schema.items() if name != "anyOf"}
    if len(others) == 1 and "$ref" not in others[0]:
        return {**others[0], **rest, "nullable": True}
    if len(others) == 1:
        return {**rest, "allOf": others, "nullable": True}
    return {**rest, "anyOf": [*others, {"nullable": True, "enum": [None]}]}


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("enum") == [None]


def _const(schema: dict[str, Any]) -> dict[str, Any]:
    if "const" not in schema or isinstance(schema["const"], dict):
        return schema
    rest = {name: one for name, one in schema.items() if name != "const"}
    return {**rest, "enum": [schema["const"]]}


def _bounds(schema: dict[str, Any]) -> dict[str, Any]:
    for name, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        bound = schema.get(name)
        if isinstance(bound, (int, float)) and not isinstance(bound, bool):
            schema = {**schema, plain: bound, name: True}
    return schema


REWRITES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_null, _const, _bounds)
