"""The shortest way for the most frequent question: a program asks for a result that is ready in memory.

It answers only what needs no decision that is not made already: a plain question, a bearer token this process has
checked a moment ago, a result that is ready for that visitor's audience, a read that is in the audit log. Everything
else goes the usual way, which answers the same bytes; a test compares the two.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.types import Scope, Send

from medisync.access.permissions import Permission

if TYPE_CHECKING:
    from medisync.api.house import House

PATH = "/api/analytics"
QUESTION = re.compile(rb"type=([a-z][a-z0-9_]{0,62})")
SCHEME = b"bearer "
UNUSUAL = frozenset({b"cache-control", b"if-match", b"range"})

Headers = list[tuple[bytes, bytes]]


class Quick:
    """Answers from memory, or leaves it to the application."""

    def __init__(self, house: House, headers: Headers) -> None:
        self._house = house
        self._headers = headers
        """What every answer carries."""

    async def answer(self, scope: Scope, send: Send) -> int | None:
        """The status of the answer that was sent; None when the usual way must be gone."""
        question = QUESTION.fullmatch(scope["query_string"])
        token, known_tag = None, None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if token is not None or value[:7].lower() != SCHEME:
                    return None
                token = value[7:].strip()
            elif name == b"if-none-match":
                known_tag = value
            elif name in UNUSUAL:
                return None
        if question is None or token is None:
            return None
        principal = self._house.access.glance(token.decode("latin-1"), None)
        state = self._house.shelf.state
        if principal is None or state is None or not principal.may(Permission.READ_RESULTS):
            return None
        analysis = question[1].decode()
        ready = state.ready.get((analysis, principal.audience, False))
        record = state.shelf[analysis].record if analysis in state.shelf else None
        if ready is None or record is None or not self._house.reads.has(principal, "result read", record.run_id):
            return None
        return await _sent(send, ready.cached, ready.cached_tag, known_tag, self._headers, scope)


async def _sent(
    send: Send, body: bytes, tag: bytes, known_tag: bytes | None, headers: Headers, scope: Scope
) -> int | None:
    request_id = (b"x-request-id", scope["medisync.request_id"].encode())
    if known_tag is not None:
        if known_tag != tag:
            return None  # a list, a weak one, an old one
        await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", tag), request_id, *headers]})
        await send({"type": "http.response.body", "body": b""})
        return 304
    length = (b"content-length", str(len(body)).encode())
    kind = (b"content-type", b"application/json")
    start = [(b"etag", tag), length, kind, request_id, *headers]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})
    return 200
