"""What happens to every request, whatever it asks for: an id, limits, headers, a line in the log, figures."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medisync.api import logs, metrics, quick
from medisync.api.envelope import failure
from medisync.api.errors import TooLargeError, TooSlowError
from medisync.api.quick import Quick
from medisync.errors import MediSyncError

if TYPE_CHECKING:
    from medisync.api.house import House

log = logging.getLogger("medisync.api")

LARGEST_BODY_BYTES = 262_144
ANSWER_SECONDS = 30.0
DISCARD_SECONDS = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client gets to read why."""

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
QUIET_PATHS = frozenset({"/api/health", "/metrics"})
"""Asked every few seconds by machines; not worth a line."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Set unless the answer brings its own."""


VARY = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
"""Of an answer that a visitor's program may keep, if it asks each time whether it still holds."""

QUICK_ANSWERS = {status: metrics.REQUESTS.labels("GET", quick.PATH, status) for status in (200, 304)}
QUICK_SECONDS = metrics.SECONDS.labels(quick.PATH)


class Traffic:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, house: House | None = None) -> None:
        self.app = app
        always = [(name.lower().encode(), value.encode()) for name, value in {**SECURITY_HEADERS, **VARY}.items()]
        self._house = house
        self._quick = Quick(house, always) if house is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        _without_trailing_slash(scope)
        request = _Request(scope, receive, send)
        if self._house is not None and scope["path"] not in QUIET_PATHS:
            self._house.hub.asked()
        if self._quick is not None and scope["path"] == quick.PATH and scope["method"] == "GET":
            started = time.perf_counter()
            status = await self._quick.answer(scope, send)
            if status is not None:
                QUICK_ANSWERS[status].inc()
                QUICK_SECONDS.observe(time.perf_counter() - started)
                return
        token = logs.request_id.set(request.id)
        try:
            await request.answered_by(self.app)
        finally:
            logs.request_id.reset(token)


class _Request:
    """One request on its way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._status: int | None = None
        self._body_bytes = 0
        self._timeout: asyncio.Timeout | None = None
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        self.id = given.decode() if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        length = headers.get(b"content-length", b"0")
        self._announced_bytes = int(length) if length.isdigit() else 0
        scope["medisync.request_id"] = self.id
        scope["medisync.send"] = send

    async def answered_by(self, app: ASGIApp) -> None:
        try:
            if self._announced_bytes > LARGEST_BODY_BYTES:
                await self._refuse(TooLargeError(_too_large()))
                return
            async with asyncio.timeout(ANSWER_SECONDS) as self._timeout:
                await app(self._scope, self.receive, self.send)
        except TimeoutError:
            if self._status is None:
                await self._refuse(TooSlowError(f"The answer was not ready within {ANSWER_SECONDS:g} seconds."))
        except Exception as error:
            if self._status is not None:
                raise
            log.error("Not foreseen: %s", type(error).__name__, exc_info=error)
            await self._refuse(MediSyncError(f"MediSync could not answer ({type(error).__name__})."))
        finally:
            self._note()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body_bytes += len(message.get("body", b""))
            if self._body_bytes > LARGEST_BODY_BYTES:
                raise HTTPException(413, _too_large())
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._seconds = time.perf_counter() - self._started
            if self._timeout is not None and self._timeout.when() is not None:
                self._timeout.reschedule(None)  # an answer that began may take its time: streams do
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def _refuse(self, error: MediSyncError) -> None:
        self._timeout = None  # over
        if isinstance(error, TooLargeError):
            await self._discard_body()
        answer = failure(error, request_id=self.id, headers={"Connection": "close"})
        await answer(self._scope, self._receive, self.send)

    async def _discard_body(self) -> None:
        """Nothing is kept. A client that would get its answer while it still sends may never read it."""
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while (await self._receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass

    def _note(self) -> None:
        route = getattr(self._scope.get("route"), "path", "unmatched")
        status, method, path = self._status or 0, self._scope["method"], self._scope["path"]
        metrics.REQUESTS.labels(method if method in METHODS else "OTHER", route, status).inc()
        metrics.SECONDS.labels(route).observe(self._seconds)
        if (path in QUIET_PATHS or self._scope.get("medisync.quiet")) and status < 500:
            return  # counted; who read which result is in the audit log
        fields: dict[str, Any] = {
            "method": method,
            "path": route if route != "unmatched" else None,  # an unknown address may hold anything
            "status": status,
            "milliseconds": round(1000 * (time.perf_counter() - self._started), 1),
            "user": self._scope.get("medisync.user"),
            "request_id": self.id,
        }
        log.info("Answered", extra=fields)


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _too_large() -> str:
    return f"The body is larger than {LARGEST_BODY_BYTES:,} bytes."


def _without_trailing_slash(scope: Scope) -> None:
    """Every address of ours is served with and without one; Prefect's below /prefect/ are its own."""
    path = scope["path"]
    if path.startswith("/prefect/"):
        return
    if len(path) > 1 and path.endswith("/") and not path.endswith("//"):
        scope["path"] = path[:-1]
        scope["raw_path"] = scope.get("raw_path", b"").removesuffix(b"/")
