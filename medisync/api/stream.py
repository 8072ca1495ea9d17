"""``/api/analytics/stream``: server-sent events."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from medisync.access.gate import credentials
from medisync.access.principal import Principal
from medisync.api.doorkeeper import Doorkeeper, Guest
from medisync.api.hub import Client, Hub

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
RETRY_MILLISECONDS = 2_000
HEARTBEAT = b": alive\n\n"


class EventStream(Response):
    """Sends what the hub gives a client, until the client goes, is too slow, or the doorkeeper ends it."""

    def __init__(
        self, hub: Hub, doorkeeper: Doorkeeper, client: Client, request: Request, principal: Principal
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = "text/event-stream"
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._hub, self._client, self._doorkeeper = hub, client, doorkeeper
        self._guest = Guest(client, *credentials(request), principal)
        self._until = hub.position  # from here on, events come through the hub
        self._last_id = request.headers.get("last-event-id")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(send))
        self._client.on_drop = sending.cancel
        try:
            with self._doorkeeper.watching(self._guest):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await _until_gone(receive, sending)
        finally:
            self._hub.leave(self._client)
            sending.cancel()
        if self._client.is_slow:
            log.info("A stream was ended: its client reads too slowly.")
            await _cut(scope)

    async def _send_all(self, send: Send) -> None:
        first = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        first += await self._hub.missed(self._last_id, self._client, self._until)
        await _piece(send, first)
        while (lines := await self._client.take(HEARTBEAT_SECONDS)) is not None:
            await _piece(send, lines or HEARTBEAT)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _cut(scope: Scope) -> None:
    """Close the connection of a client that does not read, without waiting until it has read what is under way.

    uvicorn has no word for that: its request cycle, whose method ``send`` is, knows the transport.
    """
    cycle = getattr(scope.get("medisync.send"), "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is not None:
        transport.abort()
        await asyncio.sleep(0)  # the loop tells the cycle that its client is gone
        await asyncio.sleep(0)


async def _piece(send: Send, lines: bytes) -> None:
    await send({"type": "http.response.body", "body": lines, "more_body": True})


async def _until_gone(receive: Receive, sending: asyncio.Task[None]) -> None:
    """Return when the client is gone or everything is sent."""
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((leaving, sending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
    if sending.done() and not sending.cancelled() and sending.exception() is not None:
        log.info("A stream ended (%s).", type(sending.exception()).__name__)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
