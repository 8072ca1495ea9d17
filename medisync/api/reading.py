"""Reading the lake off the event loop, and what becomes of faults while reading."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import duckdb

from medisync.api import metrics
from medisync.api.errors import LakeUnreadableError
from medisync.errors import MediSyncError
from medisync.lake import Lake
from medisync.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

THREADS = 4


class LakeReader:
    """One process's lake, read by a few threads. Knows whether it can be read, and since when that is so."""

    def __init__(self, settings: Settings) -> None:
        self.lake = Lake(settings)
        self.trouble: str | None = None
        self.since = _now()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lake")

    async def read(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """``function`` in a thread; raises LakeUnreadableError for whatever the lake or the disk says."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, lambda: function(*arguments, **named))
        except MediSyncError:
            raise
        except (duckdb.Error, OSError) as error:
            self._note(type(error).__name__)
            raise LakeUnreadableError(
                f"The lake cannot be read ({type(error).__name__}).", hint="medisync doctor says why."
            ) from error
        self._note(None)
        return found

    def newest(self) -> int:
        """The newest snapshot's number; 0 before the lake exists. Blocks for microseconds, milliseconds after a
        commit."""
        return self.lake.last_snapshot_id() or 0

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.lake.close()

    def _note(self, trouble: str | None) -> None:
        metrics.LAKE_READABLE.set(0 if trouble else 1)
        if (trouble is None) != (self.trouble is None):
            self.since = _now()
            if trouble is None:
                log.info("The lake can be read again.")
            else:
                log.error("The lake cannot be read (%s).", trouble)
        self.trouble = trouble


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
