"""How the kernels of pages are started."""

from __future__ import annotations

from medisync.dashboards.kernels import PageKernelManager
from medisync.fastlane.kernel_manager import NO_HISTORY


def test_what_a_page_runs_is_written_to_no_history() -> None:
    assert NO_HISTORY in PageKernelManager().format_kernel_cmd(["--other"])
