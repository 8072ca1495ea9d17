"""The kernels of open pages: forked, where the workspace's fork server listens."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from traitlets import Unicode

from medisync.fastlane.provisioner import forked_spec
from medisync.runs.kernels import NO_HISTORY


class PageKernelManager(ServerKernelManager):  # type: ignore[misc,unused-ignore]
    """A page's kernel starts in a tenth of a second and shares what it imports with the others."""

    fork_socket = Unicode(help="Path of the fork server's socket; empty for normal kernels.").tag(config=True)

    @property
    def kernel_spec(self) -> Any:
        return forked_spec(super().kernel_spec, self.fork_socket)

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """The command that starts the kernel."""
        of_ours = [NO_HISTORY] if self.ipykernel else []
        command: list[str] = super().format_kernel_cmd([*(extra_arguments or ()), *of_ours])
        return command
