"""Forked kernels for everything that speaks Jupyter: a kernel provisioner (entry point ``medisync-fork``).

When the fork server is away, busy with its own restart, or does not answer, and for kernels that are not this Python's
own, the kernel is started the normal way.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import select
import signal
import sys
import time
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
BIND_SECONDS = 1.0
PROVISIONER = "medisync-fork"
"""Its name among the entry points."""

LAUNCHER = ["-m", "ipykernel_launcher"]


class ForkedProcess:
    """A process that is nobody's child here, followed through a descriptor that stays true when its id is reused.

    Speaks the part of :class:`subprocess.Popen` a provisioner uses; the exit code of a stranger is not told, so a
    process that is gone has ``returncode`` 0.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self._descriptor: int | None = None
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """0 when the process is gone, else None."""
        self._wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process is gone; raises TimeoutError."""
        self._wait(None if timeout is None else timeout * 1000)
        if self.returncode is None:
            raise TimeoutError(f"Process {self.pid} is still there.")
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self._descriptor is not None:
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                self._gone()

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, milliseconds: float | None) -> None:
        if self._descriptor is not None:
            waiting = select.poll()  # select() takes no descriptor above 1023, which a server of pages may well reach
            waiting.register(self._descriptor, select.POLLIN)
            if waiting.poll(milliseconds):
                self._gone()

    def _gone(self) -> None:
        self._close()
        self.returncode = 0

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def __del__(self) -> None:
        self._close()


def forked_spec(spec: Any, socket: str) -> Any:
    """``spec`` for a kernel forked by the server at ``socket``; as it is where no server listens there."""
    if spec is None or not socket or not os.path.exists(socket):
        return spec
    forked = copy.copy(spec)
    provisioner = {"provisioner_name": PROVISIONER, "config": {"socket": socket}}
    forked.metadata = {**spec.metadata, "kernel_provisioner": provisioner}
    is_there = KernelProvisionerFactory.instance().is_provisioner_available(forked)
    return forked if is_there else spec


class ForkProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Asks the fork server for the kernel."""

    socket = Unicode(help="Path of the fork server's socket.").tag(config=True)

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Start the kernel ``cmd`` describes (``python -m ipykernel_launcher ARGUMENTS``)."""
        self.process = None
        if cmd[:1] == [sys.executable] and cmd[1:3] == LAUNCHER and hasattr(os, "pidfd_open"):
            self.process = await self._forked(cmd[3:], options)
        if self.process is None:
            return await super().launch_kernel(cmd, **options)
        self.pid = self.pgid = self.process.pid  # it led its own session before it answered
        self.cwd = options.get("cwd") or os.getcwd()
        await self._bound(self.process)
        return self.connection_info

    async def _bound(self, process: ForkedProcess) -> None:
        """Wait, not for long, until the kernel listens: a client that is refused tries again after 0.1 s only."""
        if self.connection_info.get("transport") != "ipc":
            return
        ports = [port for name, port in self.connection_info.items() if name.endswith("_port")]
        missing = [f"{self.connection_info['ip']}-{port}" for port in ports]
        deadline = time.monotonic() + BIND_SECONDS
        while missing and time.monotonic() < deadline and process.poll() is None:
            await asyncio.sleep(0.002)
            missing = [path for path in missing if not os.path.exists(path)]

    async def _forked(self, arguments: list[str], options: dict[str, Any]) -> ForkedProcess | None:
        """The forked kernel; None for a reason that does not keep a normal one from starting."""
        try:
            environment = dict(options.get("env") or os.environ)
            environment.pop("JPY_PARENT_PID", None)  # it would look for a parent that is not this process
            directory = str(options.get("cwd") or os.getcwd())
            request = {"arguments": arguments, "environment": environment, "directory": directory}
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._ask(json.dumps(request).encode() + b"\n")
        except (OSError, ValueError, TypeError) as error:  # TimeoutError is an OSError
            log.info("No forked kernel (%s); starting a normal one", type(error).__name__)
            return None

    async def _ask(self, request: bytes) -> ForkedProcess | None:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        try:
            writer.write(request)
            answer = json.loads(await reader.readline() or b"{}")
            pid = answer.get("pid") if isinstance(answer, dict) else None
            if not isinstance(pid, int) or pid <= 1 or os.getsid(pid) != pid:
                reason = answer.get("refused", "no answer") if isinstance(answer, dict) else "no answer"
                log.info("No forked kernel (%s); starting a normal one", reason)
                return None
            process = ForkedProcess(pid)  # before it may go on, so that it is that very process
            writer.write(b"\n")  # and nothing to wait for after it: a time-out now would start a second kernel
            return process
        finally:
            writer.close()
