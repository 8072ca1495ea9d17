"""The envelope of every answer: ``{success, message, data, ...}``, for errors, too."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any, Generic, Literal, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from medisync.api.errors import BadRequestError, MethodNotAllowedError, NoSuchAddressError, TooLargeError
from medisync.errors import MediSyncError

log = logging.getLogger(__name__)

T = TypeVar("T")

JSON_TYPE = "application/json"


class Answer(BaseModel, Generic[T]):
    """What a request that could be answered gets."""

    success: Literal[True] = True
    message: str = Field(description="one sentence for people")
    data: T


class Problem(BaseModel):
    """Why there is no answer. ``code`` is stable and has a section in docs/errors.md."""

    code: str
    hint: str | None = Field(default=None, description="what to do")
    request_id: str | None = Field(default=None, description="under which the log knows this request")


class Failure(BaseModel):
    """What a request that could not be answered gets."""

    success: Literal[False] = False
    message: str
    data: None = None
    error: Problem


REASONS = {
    400: "The request cannot be understood",
    401: "No valid token or session",
    403: "The role does not grant it",
    404: "There is no such thing, or not for this role",
    405: "The address takes other methods",
    409: "The state of things does not allow it",
    413: "The body is too large",
    422: "A part of the request is of the wrong form",
    429: "Too many requests",
    500: "A fault of MediSync",
    503: "A part this needs is away",
    504: "Not ready in time",
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that can fail with these, for its documentation."""
    always = (401, 403, 405, 413, 422, 503, 504)
    return {status: {"model": Failure, "description": REASONS[status]} for status in sorted({*always, *statuses})}


def failure(error: MediSyncError, *, request_id: str | None = None, headers: dict[str, str] | None = None) -> Response:
    """``error`` as an answer."""
    problem = Problem(code=error.code, hint=error.hint, request_id=request_id)
    body = Failure(message=error.message, error=problem).model_dump_json()
    sent = dict(headers or {})
    wait = getattr(error, "retry_after_seconds", None)
    if wait is not None:
        sent["Retry-After"] = str(wait)
    if error.http_status == 401:
        sent.setdefault("WWW-Authenticate", 'Bearer realm="medisync"')
    return Response(body, status_code=error.http_status, media_type=JSON_TYPE, headers=sent)


def install_handlers(app: FastAPI) -> None:
    """Make every error of ``app`` an envelope."""
    app.add_exception_handler(MediSyncError, _of_ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_http)


def request_id_of(request: Request) -> str | None:
    found = request.scope.get("medisync.request_id")
    return str(found) if found is not None else None


async def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, MediSyncError)  # noqa: S101 - for the type checker
    if error.http_status >= 500:
        log.warning("%s [%s]", error.message, error.code)
    return failure(error, request_id=request_id_of(request))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
    return failure(BadRequestError(_wrong_parts(error.errors())), request_id=request_id_of(request))


def _wrong_parts(errors: Iterable[dict[str, Any]]) -> str:
    """What is wrong, part by part, without a value: names of parts that are not ours are values, too."""
    parts = dict.fromkeys(f"{_place(one)}: {_says(one)}" for one in errors)
    return f"The request does not fit: {'; '.join(list(parts)[:5])}."


PLAIN_WORDS = {"json_invalid": "not JSON", "uuid_parsing": "not a UUID", "value_error": "not of this form"}
"""For faults whose usual words repeat a part of what was sent."""


def _says(one: dict[str, Any]) -> str:
    return PLAIN_WORDS.get(one["type"], str(one["msg"]))


def _place(one: dict[str, Any]) -> str:
    kind, *names = one["loc"]
    if one["type"] in ("extra_forbidden", "json_invalid"):
        return f"{kind}: an unknown name" if one["type"] == "extra_forbidden" else str(kind)
    return " ".join(str(part) for part in (kind, *names[:1]))


async def _of_http(request: Request, error: Exception) -> Response:
    """Starlette's own: no such address, no such method, a body that cannot be read."""
    assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker
    request_id = request_id_of(request)
    if error.status_code == 404:
        return failure(NoSuchAddressError("Nothing is served at this address."), request_id=request_id)
    if error.status_code == 405:
        methods = allowed_methods(request)
        return failure(
            MethodNotAllowedError(f"This address takes {', '.join(methods)}."),
            request_id=request_id,
            headers={"Allow": ", ".join(methods)},
        )
    if error.status_code == 413:
        return failure(TooLargeError(str(error.detail)), request_id=request_id, headers={"Connection": "close"})
    known = BadRequestError("The request cannot be understood.")
    answer = failure(known, request_id=request_id)
    answer.status_code = error.status_code
    return answer


def allowed_methods(request: Request) -> list[str]:
    """The methods of all routes at this address."""
    found: set[str] = set()
    for route in leaves(request.app.routes):
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def leaves(routes: Iterable[BaseRoute]) -> Iterable[BaseRoute]:
    """The routes themselves: FastAPI keeps included routers whole."""
    for route in routes:
        inner = getattr(getattr(route, "original_router", route), "routes", None)
        if inner:
            yield from leaves(inner)
        else:
            yield route


def dumped(value: Any) -> bytes:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str).encode()
