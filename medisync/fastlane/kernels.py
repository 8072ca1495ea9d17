"""The fork server of Jupyter kernels: ``python -m medisync.fastlane.kernels SOCKET``.

What it imports is what analysis notebooks import, so that a forked kernel answers within a tenth of a second and shares
those pages with the others.
"""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

from medisync.fastlane.fork_server import ForkServer, Request
from medisync.settings import Settings

HEAVY = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "IPython.core.completer",
    "duckdb",
    "numpy",
    "pandas",
    "pytz",
    "scipy.optimize",
    "scipy.special",
    "scipy.stats",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "matplotlib_inline.backend_inline",
    "medisync.notebook",
    "medisync.reports.page",
)


def socket_path(settings: Settings) -> Path:
    """Where the workspace's kernel server listens."""
    return settings.run_state / "kernels.sock"


def modules() -> list[str]:
    """Everything a forked kernel has imported already."""
    import medisync.analyses
    import medisync.stats

    ours = [
        module.name
        for package in (medisync.analyses, medisync.stats)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [*HEAVY, *ours]


def become_kernel(request: Request) -> None:
    """Run an ipykernel with the command line arguments of the request until it is shut down."""
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = ["ipykernel_launcher", *request.arguments]
    application = IPKernelApp.instance()
    application.initialize([*request.arguments, "--log-level=CRITICAL"])  # else it tells stdout how to connect
    application.start()


def main() -> None:
    """Serve at the path given."""
    ForkServer(Path(sys.argv[1]), modules(), become_kernel).serve()


if __name__ == "__main__":
    main()
