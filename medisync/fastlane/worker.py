"""Prefect's process worker, which also looks for flow runs when its bell is rung.

``python -m medisync.fastlane.worker ARGUMENT...`` is ``prefect ARGUMENT...`` with that worker for the type ``process``.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import anyio
import httpx
from prefect.workers.process import ProcessWorker

from medisync.fastlane import bell, certificates
from medisync.settings import load_settings

log = logging.getLogger("medisync.worker")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it takes the place of the stock worker of its type is what it is for

    class PromptWorker(ProcessWorker):
        """A stock process worker that need not wait for its next look."""

        type = "process"

        async def start(self, *arguments: Any, **options: Any) -> None:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._heed_bell)
                try:
                    await super().start(*arguments, **options)
                finally:
                    beside.cancel_scope.cancel()

        async def _heed_bell(self) -> None:
            try:
                with bell.hung(load_settings()) as rung:
                    while True:
                        await anyio.wait_readable(rung)
                        bell.silence(rung)
                        await self._look()
            except OSError as error:  # no bell: it looks regularly all the same
                log.warning("The worker has no bell (%s)", error.strerror)

        async def _look(self) -> None:
            if not self.is_setup:
                return
            try:
                await self.get_and_submit_flow_runs()
            except httpx.HTTPError as error:  # the next regular look meets it, and knows what to do about it
                log.info("The bell was rung in vain (%s)", type(error).__name__)


if __name__ == "__main__":
    from prefect.cli import app

    certificates.read_once()
    app()
