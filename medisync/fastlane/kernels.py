"""The fork server of Jupyter kernels: ``python -m medisync.fastlane.kernels SOCKET``.

What it imports is what analysis notebooks import, so that a forked kernel answers within a tenth of a second and shares
those pages with the others.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from pathlib import Path
from typing import Any, NoReturn

from medisync.fastlane.fork_server import ForkServer, start_with
from medisync.fastlane.guard import Request
from medisync.settings import Settings, load_settings

HEAVY = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "ipykernel.debugger",
    "IPython.core.completer",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "sqlite3",
    "tornado.locks",
    "tornado.platform.asyncio",
    "tornado.queues",
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
    "medisync.dashboards.data",
    "medisync.dashboards.forecasts",
    "medisync.dashboards.live",
    "medisync.dashboards.patients",
    "medisync.dashboards.surges",
    "websockets.sync.client",
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


PANELS: dict[str, Any] = {"sharex": True, "squeeze": False}
USUAL_DRAWINGS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"nrows": 3, "ncols": 2, **PANELS},
    {"nrows": 2, "ncols": 3, "sharey": True, **PANELS},
)
"""Shapes of what an analysis draws: two drawings of one panel, or one of six conditions and another."""


def warm_up() -> None:
    """Do what nearly every analysis begins with: open a DuckDB, draw, fill the template that shows a result.

    The drawings it will begin with are made ready too.
    """
    from medisync.analyses import figures
    from medisync.analyses.contract import Finding, Result, Table
    from medisync.backend.choice import backend_of
    from medisync.lake.extensions import prepare_duckdb
    from medisync.reports.page import fragment

    prepare_duckdb(*backend_of(load_settings()).extensions)
    drawing, axes = figures.canvas()
    axes.plot([0, 1], [0, 1], label="line")
    axes.legend()
    table = Table(title="Rows", columns=("name", "number"), rows=(("one", 1),))
    drawn = figures.as_figure(drawing, name="first", title="First", alt="A line.", table="rows")
    result = Result(
        analysis="first",
        title="First",
        headline="First.",
        finding=Finding.DESCRIPTION,
        metrics={"number": 1.5},
        tables={"rows": table},
        figures=(drawn,),
    )
    fragment(result)
    result.model_dump_json()
    for shape in USUAL_DRAWINGS:
        figures.make_ready(**shape)


def become_kernel(request: Request) -> None:
    """Run an ipykernel with the command line arguments of the request until it is shut down."""
    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    del sys.path[0]  # as ipykernel_launcher does: IPython puts the directory back
    sys.argv = ["ipykernel_launcher", *request.arguments]
    application = IPKernelApp.instance()
    has_level = any(argument.startswith("--log-level") for argument in request.arguments)
    quiet = [] if has_level else ["--log-level=CRITICAL"]  # else it tells stdout how to connect
    application.initialize([*request.arguments, *quiet])
    matplotlib.rcParams["backend"] = os.environ["MPLBACKEND"]  # which ipykernel sets; it was read in the server
    application.start()


def main() -> NoReturn:
    """Serve at the path given."""
    from medisync.runs.fixed_environment import FIXED_ENVIRONMENT

    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # ipykernel's debugger, when imported, warns without it
    # JPY_PARENT_PID: ipykernel, when imported, would take it for the parent of all its kernels.
    start_with({**FIXED_ENVIRONMENT, **quiet}, without=["JPY_PARENT_PID"])
    ForkServer(Path(sys.argv[1]), modules(), become_kernel, warm_up).serve()


if __name__ == "__main__":
    main()
