"""The fork server of flow runs: ``python -m medisync.fastlane.flow_runs SOCKET``.

It has imported Prefect's engine and what our flows import. A forked run rebuilds Prefect's settings from its own
environment, which names the flow run, and goes on as ``python -m prefect.engine`` would. The deployments are registered
by a fork of it, too: ``python -m prefect deploy`` alone would import all of that once more.
"""

from __future__ import annotations

import contextlib
import pkgutil
import runpy
import sys
import threading
from pathlib import Path
from typing import NoReturn

from medisync.fastlane import certificates
from medisync.fastlane.fork_server import ForkServer, start_with
from medisync.fastlane.guard import Request
from medisync.settings import Settings, load_settings

HEAVY = (
    "prefect",
    "prefect.artifacts",
    "prefect.client.orchestration",
    "prefect.deployments.steps",
    "prefect.deployments.steps.core",
    "prefect.deployments.steps.pull",
    "prefect.engine",
    "prefect.events",
    "prefect.flow_engine",
    "prefect.runner",
    "prefect.task_engine",
    "prefect.task_runners",
    "prefect.utilities.visualization",
    "anyio._backends._asyncio",
    "duckdb",
    "pandas",
    "pytz",
    "scipy.optimize",
    "sqlite3",
    "sqlalchemy.dialects.sqlite",
    "nbclient",
    "nbformat",
    "papermill",
    "IPython.display",
    "ipykernel.kernelspec",
    "jupyter_client.manager",
    "medisync.fastlane.kernel_manager",
    "medisync.ledger",
    "medisync.reports.quality",
    "medisync.runs.engine",
    "medisync.runs.kernels",
    "medisync.runs.same_code",
    "medisync.runs.upkeep",
    "flows.deliver",
    "flows.analyze",
    "flows.refresh_cache",
    "flows.clean_up",
)


def socket_path(settings: Settings) -> Path:
    """Where the workspace's flow run server listens."""
    return settings.run_state / "flow-runs.sock"


def command(settings: Settings) -> tuple[str, ...]:
    """What the process worker starts for a flow run; with ``prefect ARGUMENT...`` behind it, that command."""
    client = Path(__file__).with_name("flow_client.py")
    return (sys.executable, "-I", "-S", str(client), str(socket_path(settings)))


def modules() -> list[str]:
    """Everything a forked flow run has imported already."""
    import medisync.analyses
    import medisync.disclosure

    ours = [
        module.name
        for package in (medisync.analyses, medisync.disclosure)
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    return [*HEAVY, *ours]


def warm_up() -> None:
    """Do what nearly every flow run begins with: open a DuckDB, find out which code the analyses use, read a notebook.

    What is found is kept with the marks of the files it was found in, and not used when one of them has moved. Reading
    a notebook the first time compiles the schema by which nbformat checks it, a tenth of a second.
    """
    import nbformat
    from jupyter_client.provisioning import KernelProvisionerFactory

    from medisync.backend.choice import backend_of
    from medisync.errors import UserError
    from medisync.lake.extensions import prepare_duckdb
    from medisync.runs import identity, registry

    settings = load_settings()
    prepare_duckdb(*backend_of(settings).extensions)
    certificates.read_once()
    nbformat.validate(nbformat.v4.new_notebook())
    KernelProvisionerFactory.instance()  # looks through everything that is installed
    for notebook in registry.analyses(settings):
        with contextlib.suppress(UserError):  # a broken one is told of by the round that meets it
            notebook.params_model()
            identity.packages_of(identity.code_of(notebook))


def become_flow_run(request: Request) -> None:
    """Execute the flow run that ``PREFECT__FLOW_RUN_ID`` names, or the module's program that the arguments are."""
    sys.argv = request.arguments or ["prefect.engine"]
    if not request.arguments:
        _open_lake()
    if sys.argv[0].startswith("prefect"):
        _renew_settings()
        sys.modules.pop("prefect.engine")
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _renew_settings() -> None:
    """Prefect's settings were made when it was imported, from the server's environment."""
    import prefect.context
    from prefect.logging.configuration import setup_logging
    from prefect.settings import Settings as PrefectSettings

    imported = prefect.context.SettingsContext.get()
    if imported is not None:
        prefect.context.SettingsContext(profile=imported.profile, settings=PrefectSettings()).__enter__()
        setup_logging()


def _open_lake() -> None:
    """In a thread, while Prefect's engine asks its server about the flow run: it takes a quarter of a second."""
    from flows.rounds import lake

    def connect() -> None:
        with contextlib.suppress(Exception):  # whoever needs the lake meets it again, and says so
            if lake().exists:
                lake().connection()

    with contextlib.suppress(Exception):
        lake()  # once, before two threads ask for it
        threading.Thread(target=connect, name="lake", daemon=True).start()


def main() -> NoReturn:
    """Serve at the path given."""
    from medisync.runs.fixed_environment import FIXED_ENVIRONMENT

    start_with(FIXED_ENVIRONMENT)
    ForkServer(Path(sys.argv[1]), modules(), become_flow_run, warm_up).serve()


if __name__ == "__main__":
    main()
