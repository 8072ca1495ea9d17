"""The kernels of open pages."""

from __future__ import annotations

from jupyter_server.services.kernels.kernelmanager import ServerKernelManager

from medisync.fastlane.kernel_manager import ForkingKernelManager


class PageKernelManager(ForkingKernelManager, ServerKernelManager):  # type: ignore[misc,unused-ignore]
    """A page's kernel starts in a tenth of a second and shares what it imports with the others."""
