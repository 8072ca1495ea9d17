"""What the kernel managers of runs and of pages have in common."""

from __future__ import annotations

from typing import Any

from jupyter_client.manager import KernelManager
from traitlets import Unicode

from medisync.fastlane.provisioner import forked_spec

NO_HISTORY = "--HistoryManager.enabled=False"
"""The kernel's argument that keeps it from writing what it ran, parameters included, to a file of its own."""


class ForkingKernelManager(KernelManager):  # type: ignore[misc]
    """Has its kernels forked where the workspace's fork server listens, and keeps none of what they run."""

    fork_socket = Unicode(help="Path of the fork server's socket; empty for normal kernels.").tag(config=True)

    @property
    def kernel_spec(self) -> Any:
        return forked_spec(super().kernel_spec, self.fork_socket)

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """The command that starts the kernel."""
        of_ours = [NO_HISTORY] if self.ipykernel else []
        command: list[str] = super().format_kernel_cmd([*(extra_arguments or ()), *of_ours])
        return command
