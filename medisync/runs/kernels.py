"""Kernels over IPC: each in a private directory, with the environment a reproducible run needs."""

from __future__ import annotations

import asyncio
import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from jupyter_core.utils import ensure_event_loop
from traitlets import Unicode
from traitlets.config import Config

FIXED_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}
"""Set in every kernel and kept in the run record: with these a rerun gives the same numbers to the last bit."""


class IpcKernelManager(AsyncKernelManager):  # type: ignore[misc]
    """Starts a kernel whose sockets are files only their owner can open; forked, where a fork server listens."""

    fork_socket = Unicode(help="Path of the fork server's socket; empty for normal kernels.").tag(config=True)

    @property
    def kernel_spec(self) -> Any:
        spec = super().kernel_spec
        if spec is not None and self.fork_socket and os.path.exists(self.fork_socket):
            provisioner = {"provisioner_name": "medisync-fork", "config": {"socket": self.fork_socket}}
            forked = copy.copy(spec)
            forked.metadata = {**spec.metadata, "kernel_provisioner": provisioner}
            if KernelProvisionerFactory.instance().is_provisioner_available(forked):
                return forked
        return spec

    async def _async_start_kernel(self, **options: Any) -> None:
        environment = dict(options.pop("env", None) or os.environ)
        environment.update(FIXED_ENVIRONMENT)
        environment["IPYTHONDIR"] = os.path.join(os.path.dirname(self.connection_file), "ipython")
        await super()._async_start_kernel(env=environment, **options)

    start_kernel = _async_start_kernel


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
def private_transport(fork_socket: Path | None = None) -> Iterator[Config]:
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
                }
            }
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
