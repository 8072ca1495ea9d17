"""An application served by uvicorn in a thread of this process: real sockets, and its objects within reach."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

from tests.support.running import PATIENCE_SECONDS, wait_until

T = TypeVar("T")


@dataclass
class Serving:
    """A server that is up."""

    app: FastAPI
    port: int
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """``coroutine`` in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_SECONDS)


@contextlib.contextmanager
def serving(app: FastAPI, port: int) -> Iterator[Serving]:
    """Serve ``app`` on 127.0.0.1 at ``port`` until the block ends."""
    config = uvicorn.Config(
        app, port=port, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), seconds=60, what="the server is up", every=0.01)
        assert thread.is_alive()
        yield Serving(app, port, loops[0])
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
