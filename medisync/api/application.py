"""The application uvicorn serves."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from types import FrameType

from fastapi import FastAPI

from medisync import __version__
from medisync.access import gate
from medisync.access.service import Access
from medisync.api import analytics, comparisons, documentation, packs, runs, service
from medisync.api.envelope import install_handlers
from medisync.api.house import House
from medisync.api.logs import start_logging
from medisync.api.traffic import Traffic
from medisync.settings import Settings, load_settings

log = logging.getLogger("medisync.api")

PR_SET_PDEATHSIG = 1
SWITCH_SECONDS = 0.001
"""How long a thread may keep the interpreter while another waits for it: reading the lake must not hold up answers."""


def create(settings: Settings | None = None) -> FastAPI:
    """The API over one workspace; without ``settings``, those of the environment."""
    settings = settings or load_settings()
    house = House(settings, Access.open(settings))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sys.setswitchinterval(SWITCH_SECONDS)
        with _told_of_the_end(house):
            await house.open()
            log.info("The API is up, snapshot %s", house.hub.position)
            yield
            await house.close()
            log.info("The API has stopped")

    app = FastAPI(
        title="MediSync",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.house = house
    for router in (analytics.router, packs.router, runs.router, comparisons.router, service.router):
        app.include_router(router)
    gate.install(app, house.access)
    documentation.install(app)
    install_handlers(app)
    app.add_middleware(Traffic, house=house)
    return app


def served() -> FastAPI:
    """What each process of the server calls."""
    settings = load_settings()
    start_logging(as_json=settings.log_json)
    if multiprocessing.parent_process() is not None:
        _die_with_parent()
    app = create(settings)
    # What is imported stays; looking through it with each full collection held up events by up to 0.3 s.
    gc.collect()
    gc.freeze()
    return app


@contextlib.contextmanager
def _told_of_the_end(house: House) -> Iterator[None]:
    """End the streams as soon as the server is told to stop: it waits until all answers are complete."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        house.hub.say_goodbye()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """A worker whose server is killed would keep the port. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
