"""Prefect's server without two ways in which it stands still on SQLite.

**For a minute**: its garbage is collected beside the event loop instead of in it. A statement that failed ("database
is locked") leaves its cursor in a reference cycle. When the collector later runs in the event loop's thread and
finalises such a cursor, SQLite asks for the mutex of the cursor's connection; if that connection is just then waiting
for the write lock, the event loop waits with it, the transaction that holds the lock waits for the event loop, and all
three wait until the busy timeout of 60 s is over. A thread of its own may wait there without harm, so the collector
runs in one.

**For ever**: the stock server answers a hundred requests at a time, and counts a web socket as a request for as long as
it is open. A flow run has four of them open while it runs. So with 25 flow runs at once all hundred are taken, by flow
runs that wait for an answer none of them will get. Web sockets are not counted here.

``python -m medisync.supervisor.prefect_server ARGUMENT...`` is ``prefect ARGUMENT...`` with both.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

YOUNG_SECONDS = 1.0
"""Time between two collections of what is young; the collector's own thresholds lead to about the same."""
FULL_EVERY = 60
"""Every so many-th collection takes everything."""
FREEZE_AFTER = 30
"""After so many collections whatever is there stays for good: modules and routes need not be looked at again."""


def collect_beside(young_seconds: float = YOUNG_SECONDS) -> threading.Thread:
    """Switch the automatic collector of this process off and collect in a thread instead; returns the thread, which
    runs as long as the process does."""
    gc.disable()
    thread = threading.Thread(target=_collect, args=(young_seconds,), name="garbage collector", daemon=True)
    thread.start()
    return thread


def _collect(young_seconds: float) -> None:
    pause = threading.Event()
    done = 0
    while not pause.wait(young_seconds):
        done += 1
        gc.collect(2 if done % FULL_EVERY == 0 or done == FREEZE_AFTER else 1)
        if done == FREEZE_AFTER:
            gc.freeze()


def let_sockets_pass() -> None:
    """Have Prefect's limit of requests at a time, which is there for the database's sake, count requests alone."""
    from prefect.server.api.server import RequestLimitMiddleware

    limited = RequestLimitMiddleware.__call__

    async def call(self: RequestLimitMiddleware, scope: Any, receive: Any, send: Any) -> None:
        answer = self.app if scope["type"] == "websocket" else limited.__get__(self)
        await answer(scope, receive, send)

    RequestLimitMiddleware.__call__ = call  # type: ignore[method-assign]


if __name__ == "__main__":
    from prefect.cli import app

    collect_beside()
    let_sockets_pass()
    app()
