"""The way to Prefect's UI and API for administrators, below ``/prefect`` of the API door.

Prefect knows one shared secret and no users; it listens on this machine only. Here a visitor is asked for a session
like everywhere else, and the secret is added on the way. The Content-Security-Policy lets the UI talk to this door
alone, so that nothing of it reaches its maker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import httpx
import websockets
from fastapi import APIRouter, Depends, WebSocket
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from medisync.access import gate, prefect_auth
from medisync.access.errors import NotAuthenticatedError
from medisync.access.permissions import Permission
from medisync.access.principal import Principal
from medisync.errors import MediSyncError, NotRunningError
from medisync.settings import Settings

DOOR = "/prefect"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
LOOK_SECONDS = 1.0
"""How often an open stream is looked at: it ends with its session."""

PASSED_ON = frozenset({"accept", "content-type", "if-none-match", "if-modified-since", "range", "prefect-csrf-token",
                       "prefect-csrf-client", "x-prefect-ui"})  # fmt: skip
"""Headers of the request that Prefect gets; cookies and our own tokens are none of its business."""

KEPT_BACK = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "set-cookie", "server", "date",
                       "content-security-policy", "access-control-allow-origin",
                       "access-control-allow-credentials"})  # fmt: skip

prefect_router = APIRouter(prefix=DOOR, include_in_schema=False)


async def administrator(request: Request) -> Principal | None:
    """Whoever may open Prefect; None for a browser that must log in first. Writes must come from a page of this door:
    Prefect's own script cannot know our token, so the browser's word on where they come from decides."""
    try:
        principal = await gate.authenticate(request)
    except NotAuthenticatedError:
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return None
        raise
    if principal.method == "cookie" and request.method not in gate.SAFE_METHODS:
        gate.require_same_origin(request)
    await gate.require_permission(request, principal, Permission.OPEN_PREFECT)
    return principal


administrator.permission = Permission.OPEN_PREFECT  # type: ignore[attr-defined]


@prefect_router.api_route("", methods=METHODS)
@prefect_router.api_route("/{path:path}", methods=METHODS)
async def pass_on(request: Request, path: str = "", principal: Principal | None = Depends(administrator)) -> Response:  # noqa: B008
    """Hand the request to Prefect and its answer back, piece by piece."""
    if principal is None:
        return RedirectResponse(f"/login?next={DOOR}/", status_code=303)
    settings = gate.access_of(request).settings
    if path == "ui-settings":
        return await _ui_settings(request, settings)
    client = _client(request, settings)
    headers = {name: value for name, value in request.headers.items() if name in PASSED_ON}
    # What a script is told is compressed by whoever stands before us, or not: here it is handed on as it comes.
    headers["accept-encoding"] = request.headers.get("accept-encoding", "identity")
    asked = client.build_request(
        request.method,
        httpx.URL(path=_of_prefect(path), query=request.url.query.encode()),
        headers=headers,
        content=None if request.method in ("GET", "HEAD") else await request.body(),
    )
    try:
        answer = await client.send(asked, stream=True)
    except httpx.TransportError as error:
        raise _away() from error
    kept = {name: value for name, value in answer.headers.items() if name not in KEPT_BACK}
    if "location" in kept:
        kept["location"] = httpx.URL(kept["location"]).raw_path.decode()
    kept["content-security-policy"] = _policy(request)
    kept["x-content-type-options"] = "nosniff"
    return StreamingResponse(answer.aiter_raw(), answer.status_code, kept, background=BackgroundTask(answer.aclose))


@prefect_router.websocket("/api/{path:path}")
async def pass_on_stream(visitor: WebSocket, path: str) -> None:
    """Hand an open stream (events, logs) through; it ends with the visitor's session."""
    try:
        gate.require_same_origin(visitor)
        principal = await gate.authenticate(visitor)
        may = principal.may(Permission.OPEN_PREFECT) and path in ("events/out", "logs/out")
    except MediSyncError:
        may = False
    if not may:
        await visitor.close(1008)
        return
    settings = gate.access_of(visitor).settings
    address = f"{settings.prefect_origin.replace('http', 'ws', 1)}/api/{path}"
    try:
        secret = prefect_auth.headers(settings)
        protocols = [websockets.Subprotocol("prefect")]
        connecting = websockets.connect(address, subprotocols=protocols, additional_headers=secret, proxy=None)
        async with connecting as server:
            await visitor.accept(subprotocol="prefect")
            ways = [_up(visitor, server, settings), _down(server, visitor), _until_ended(visitor)]
            tasks = [asyncio.ensure_future(one) for one in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    except (OSError, websockets.WebSocketException):
        pass
    if visitor.application_state is not WebSocketState.DISCONNECTED:
        with contextlib.suppress(RuntimeError):  # it is gone already
            await visitor.close(1000)


async def _up(visitor: WebSocket, server: websockets.ClientConnection, settings: Settings) -> None:
    """What the UI says. Its first message would carry a password it does not have: ours is put in."""
    with contextlib.suppress(WebSocketDisconnect, websockets.ConnectionClosed):
        while True:
            text = await visitor.receive_text()
            with contextlib.suppress(ValueError, AttributeError):
                message = json.loads(text)
                if message.get("type") == "auth":
                    text = json.dumps({**message, "token": prefect_auth.auth_string(settings)})
            await server.send(text)


async def _down(server: websockets.ClientConnection, visitor: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        async for message in server:
            await visitor.send_text(message if isinstance(message, str) else message.decode())


async def _until_ended(visitor: WebSocket) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            principal = await gate.authenticate(visitor)
        except NotAuthenticatedError:
            return
        except MediSyncError:  # the ledger is away: that ends nobody's session
            continue
        if not principal.may(Permission.OPEN_PREFECT):
            return


async def _ui_settings(request: Request, settings: Settings) -> Response:
    """Where the UI finds the API: behind this door, which asks for no password of Prefect's."""
    try:
        answer = await _client(request, settings).get(f"{DOOR}/ui-settings")
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _away() from error
    told.update(api_url=f"{_origin(request)}{DOOR}/api", auth=None)
    return JSONResponse(told, headers={"Cache-Control": "no-store"})


def _of_prefect(path: str) -> str:
    """The path at Prefect: its API lies at the root, its UI below the same name as ours."""
    return f"/{path}" if path == "api" or path.startswith("api/") else f"{DOOR}/{path}"


def _client(request: Request, settings: Settings) -> httpx.AsyncClient:
    """One client an application: connections are kept."""
    state = request.app.state
    if not hasattr(state, "prefect_client"):
        state.prefect_client = httpx.AsyncClient(
            base_url=settings.prefect_origin,
            headers=prefect_auth.headers(settings),
            timeout=httpx.Timeout(60.0, connect=2.0),
            trust_env=False,
        )
    client: httpx.AsyncClient = state.prefect_client
    return client


def _origin(request: Request) -> str:
    public = gate.access_of(request).settings.public_url.rstrip("/")
    return public or f"http://{request.headers.get('host', '')}"


def _policy(request: Request) -> str:
    origin = _origin(request)
    sockets = origin.replace("http", "ws", 1)
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self' 'unsafe-inline'",  # its page switches light and dark in a script of its own
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "manifest-src 'self'",
            f"connect-src 'self' {sockets}",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


def _away() -> NotRunningError:
    return NotRunningError("Prefect does not answer.", hint="medisync status says what runs; try again.")
