"""Forked kernels for everything that speaks Jupyter: a kernel provisioner (entry point ``medisync-fork``).

When the fork server is away, busy with its own restart, or does not answer, the kernel is started the normal way.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0


class ForkedProcess:
    """A process that is nobody's child here, followed through a descriptor that stays true when its id is reused.

    Speaks the part of :class:`subprocess.Popen` a provisioner uses; the exit code of a stranger is not told, so a
    process that is gone has ``returncode`` 0.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor: int | None = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """0 when the process is gone, else None."""
        if self._descriptor is not None and select.select([self._descriptor], [], [], 0)[0]:
            self._gone()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process is gone; raises TimeoutError."""
        if self._descriptor is not None:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                raise TimeoutError(f"Process {self.pid} is still there.")
            self._gone()
        return self.returncode or 0

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

    def _gone(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self.returncode = None, 0


class ForkProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Asks the fork server for the kernel."""

    socket = Unicode(help="Path of the fork server's socket.").tag(config=True)

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Start the kernel ``cmd`` describes (``python -m ipykernel_launcher ARGUMENTS``)."""
        pid = self._ask(cmd[3:], options)
        if pid is None:
            return await super().launch_kernel(cmd, **options)
        self.process = ForkedProcess(pid)
        self.pid = self.pgid = pid  # it led its own session before it answered
        return self.connection_info

    def _ask(self, arguments: list[str], options: dict[str, Any]) -> int | None:
        environment = dict(options.get("env") or os.environ)
        environment.pop("JPY_PARENT_PID", None)  # it would look for a parent that is not this process
        request = {
            "arguments": arguments,
            "environment": environment,
            "directory": str(options.get("cwd") or os.getcwd()),
            "owner": os.getpid(),
        }
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(self.socket)
                connection.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(connection.makefile().readline() or "{}")
        except (OSError, ValueError) as error:
            log.info("No forked kernel (%s); starting a normal one", type(error).__name__)
            return None
        if "pid" not in answer:
            log.info("No forked kernel (%s); starting a normal one", answer.get("refused", "no answer"))
            return None
        return int(answer["pid"])
