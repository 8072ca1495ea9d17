"""Kernels over IPC: each in a private directory, with the environment a reproducible run needs."""

from __future__ import annotations

import asyncio
import math
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import DeadKernelError
from traitlets import Dict, Int, Type
from traitlets.config import Config

from medisync.fastlane.kernel_manager import ForkingKernelManager
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT

QUIET = "--log-level=CRITICAL"
"""The kernel's argument that keeps it from telling the terminal about connections and shutdowns."""

END_POLL_SECONDS = 0.01


class QuickClient(AsyncKernelClient):  # type: ignore[misc]
    """Ready as soon as the kernel has answered on both channels; the stock client then waits 0.2 s for silence."""

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until requests are answered and outputs arrive; raises DeadKernelError, a RuntimeError, when the kernel
        dies, and RuntimeError when it takes longer than ``timeout`` seconds."""
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while not await self._has_answered():
            if not await self._async_is_alive():
                raise DeadKernelError("Kernel died before replying to kernel_info")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Kernel didn't respond in {timeout:g} seconds")

    wait_for_ready = _async_wait_for_ready

    async def _has_answered(self) -> bool:
        """Ask the kernel who it is. What it outputs meanwhile is heard to the end: the subscription works, and nothing
        of before is left in the channel."""
        asked = self.kernel_info()
        try:
            while True:
                reply = await self.get_shell_msg(timeout=1)
                if reply["parent_header"].get("msg_id") == asked:
                    break
            while True:
                output = await self.get_iopub_msg(timeout=0.2)
                if (
                    output["parent_header"].get("msg_id") == asked
                    and output["content"].get("execution_state") == "idle"
                ):
                    break
        except Empty:
            return False
        self._handle_kernel_info_reply(reply)
        return True


class IpcKernelManager(ForkingKernelManager, AsyncKernelManager):  # type: ignore[misc]
    """Starts a kernel whose sockets are files only their owner can open."""

    client_factory = Type(QuickClient, klass=AsyncKernelClient)
    environment = Dict(help="Variables for this kernel, on top of the fixed ones.").tag(config=True)
    memory_bytes = Int(0, help="Data the kernel and each of its children may allocate; 0: no limit.").tag(config=True)

    async def _async_start_kernel(self, **options: Any) -> None:
        environment = dict(options.pop("env", None) or os.environ)
        environment.update({**FIXED_ENVIRONMENT, **self.environment})
        environment["IPYTHONDIR"] = os.path.join(os.path.dirname(self.connection_file), "ipython")
        given = options.get("extra_arguments", ())
        if self.ipykernel and QUIET not in given:  # a restart has it already
            options["extra_arguments"] = [*given, QUIET]
        await super()._async_start_kernel(env=environment, **options)
        if self.memory_bytes and hasattr(resource, "prlimit"):  # Linux
            with suppress(OSError, ValueError):  # it has died already, or may not have so much anyway
                limits = (self.memory_bytes, self.memory_bytes)
                resource.prlimit(self.provisioner.pid, resource.RLIMIT_DATA, limits)

    start_kernel = _async_start_kernel

    async def _async_wait(self, pollinterval: float = 0.1) -> None:
        """Wait for the kernel's end, a few hundredths of a second; the stock manager would sleep for 0.1."""
        await super()._async_wait(pollinterval=min(pollinterval, END_POLL_SECONDS))


@contextmanager
def closed_event_loop() -> Iterator[None]:
    """Close the event loop that nbclient makes for this thread, which it would leave open for ever."""
    loop = ensure_event_loop()
    try:
        yield
    finally:
        if not loop.is_running():  # it is another's, who called us from inside of it
            loop.close()
            asyncio.set_event_loop(None)


@contextmanager
def private_transport(
    fork_socket: Path | None = None, environment: dict[str, str] | None = None, memory_bytes: int = 0
) -> Iterator[Config]:
    """The kernel manager's configuration for one kernel; its directory is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="medisync-kernel-")  # 0700; short, since a socket's path holds 107 bytes
    try:
        yield Config(
            {
                "IpcKernelManager": {
                    "transport": "ipc",
                    "ip": os.path.join(folder, "socket"),
                    "connection_file": os.path.join(folder, "connection.json"),
                    "fork_socket": str(fork_socket or ""),
                    "environment": environment or {},
                    "memory_bytes": memory_bytes,
                }
            }
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
