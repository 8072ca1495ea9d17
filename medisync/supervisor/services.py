"""The programs a running workspace consists of, and how to tell that each is well."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from medisync.access import prefect_auth
from medisync.access.addresses import public_host
from medisync.api import server as api
from medisync.backend.choice import backend_of
from medisync.dashboards import server as pages
from medisync.fastlane import flow_runs, fork_server, kernels
from medisync.runs import dask_cluster
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.runs.same_code import THIS_CODE, this_code
from medisync.settings import Settings, environment, project_root

WORK_POOL = "medisync"
ANYWHERE = "anywhere"
"""The queue of flow runs that need nothing of the server's own disk; the others wait in the queue "server"."""
PREFECT_DOOR = "/prefect"
"""Below this path the API door lets administrators through to Prefect's UI and API."""


@dataclass(frozen=True)
class Service:
    """One program. ``health`` is an address that answers 200 when it is well; None: it is well while it lives."""

    name: str
    title: str
    command: tuple[str, ...]
    port: int | None = None
    port_setting: str | None = None
    address: str | None = None
    health: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 300.0


def prefect_environment(settings: Settings) -> dict[str, str]:
    """The variables under which everything of Prefect runs here: its own folder and secret, no telemetry, quick
    pick-up."""
    secret = prefect_auth.auth_string(settings)
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_PROFILES_PATH": str(settings.prefect_home / "profiles.toml"),
        "PREFECT_API_URL": settings.prefect_api_url,
        "PREFECT_API_AUTH_STRING": secret,
        "PREFECT_SERVER_API_AUTH_STRING": secret,
        "PREFECT_SERVER_UI_SERVE_BASE": PREFECT_DOOR,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(settings.prefect_home / "ui"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_HOST": settings.prefect_host,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
        **backend_of(settings).prefect_environment(),
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # for what nobody rings the bell; each look costs the server 25 ms
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # it is of the same installation
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    }


def base_environment(settings: Settings) -> dict[str, str]:
    """What every child gets: the caller's environment, these settings, this interpreter first, private files."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MEDISYNC_", "PREFECT_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
    return {
        **inherited,
        **environment(settings),
        **prefect_environment(settings),
        "PATH": path,
        "PYTHONPATH": str(project_root()),
        "FLOW_RUN_COMMAND": " ".join(flow_runs.command(settings)),
        THIS_CODE: str(this_code()),
        **dask_cluster.environment(),
        "PYTHONUNBUFFERED": "1",
    }


def services(settings: Settings, *, lab: bool = False) -> list[Service]:
    """The services in the order they are started."""
    python = sys.executable
    listed = [
        Service(
            name="prefect",
            title="Prefect",
            command=(
                python,
                "-m",
                "medisync.supervisor.prefect_server",
                "server",
                "start",
                "--host",
                settings.prefect_host,
                "--port",
                str(settings.prefect_port),
            ),
            port=settings.prefect_port,
            port_setting="MEDISYNC_PREFECT_PORT",
            address=f"{settings.api_url.rstrip('/')}{PREFECT_DOOR}/",
            health=f"{settings.prefect_origin}/api/health",
        ),
        _worker("local"),
        *_fork_servers(settings),
        *_cluster(settings),
        Service(
            name="api",
            title="API",
            command=tuple(api.command()),
            port=settings.api_port,
            port_setting="MEDISYNC_API_PORT",
            address=api.address(settings),
            health=api.health_url(settings),
        ),
        Service(name="watcher", title="Inbox watcher", command=(python, "-m", "medisync.intake.watcher")),
        Service(
            name="pages",
            title="Pages",
            command=tuple(pages.command(settings)),
            port=settings.pages_port,
            port_setting="MEDISYNC_PAGES_PORT",
            address=settings.pages_url,
            health=pages.health_url(settings),
            environment=pages.environment(settings),
        ),
        Service(name="page-reader", title="Page reader", command=tuple(pages.reader_command())),
    ]
    if lab:
        listed.append(_lab(settings))
    return listed


def worker_services(settings: Settings) -> list[Service]:
    """What another machine runs that works for the server."""
    return [*_fork_servers(settings), *_cluster(settings), _worker(platform.node() or "another", queue=ANYWHERE)]


def _worker(name: str, *, queue: str | None = None) -> Service:
    """Prefect's worker, which starts a process for each flow run; ``queue`` None: of all queues."""
    options = ("--pool", WORK_POOL, "--type", "process", "--name", name)
    chosen = () if queue is None else ("--work-queue", queue)
    command = (sys.executable, "-m", "medisync.fastlane.worker", "worker", "start", *options, *chosen)
    return Service(name="worker", title="Worker", command=command)


def _cluster(settings: Settings) -> list[Service]:
    """Dask's worker, and on the machine whose address it is the scheduler."""
    if not settings.dask_address:
        return []
    worker = Service("dask-worker", "Dask worker", dask_cluster.worker_command(settings), environment=FIXED_ENVIRONMENT)
    if not is_of_this_machine(urlsplit(settings.dask_address).hostname or ""):
        return [worker]
    scheduler = dask_cluster.scheduler_command(settings)
    port = urlsplit(settings.dask_address).port
    return [
        Service(
            name="dask",
            title="Dask scheduler",
            command=scheduler,
            port=port,
            port_setting="MEDISYNC_DASK_ADDRESS",
            address=settings.dask_address,
            environment=FIXED_ENVIRONMENT,
        ),
        worker,
    ]


def is_of_this_machine(host: str) -> bool:
    """Whether a host's name or address leads to this machine."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found & {one.address for each in psutil.net_if_addrs().values() for one in each})


def _fork_servers(settings: Settings) -> list[Service]:
    """The fast lane; without it (on other systems than Linux) kernels and flow runs start the normal way."""
    if not fork_server.is_supported():
        return []
    served = {
        "kernels": ("Kernel server", kernels.__name__, kernels.socket_path(settings)),
        "flow-runs": ("Flow run server", flow_runs.__name__, flow_runs.socket_path(settings)),
    }
    return [
        Service(
            name=name,
            title=title,
            command=(sys.executable, "-m", module, str(socket_path)),
            environment=FIXED_ENVIRONMENT,
        )
        for name, (title, module, socket_path) in served.items()
    ]


def _lab(settings: Settings) -> Service:
    """JupyterLab over the notebooks, for whoever is logged in and may."""
    site = f"http://127.0.0.1:{settings.lab_port}"
    identity = "medisync.access.jupyter"
    options = (
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={settings.lab_port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={settings.notebooks}",
        f"--ServerApp.identity_provider_class={identity}.SessionIdentity",
        f"--ServerApp.authorizer_class={identity}.LabAuthorizer",
        "--ServerApp.allow_unauthenticated_access=False",
        *(f"--ServerApp.local_hostnames={host}" for host in ("localhost", *public_host(settings.public_lab_url))),
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    )
    return Service(
        name="lab",
        title="JupyterLab",
        command=(sys.executable, "-m", "jupyterlab", *options),
        port=settings.lab_port,
        port_setting="MEDISYNC_LAB_PORT",
        address=f"{site}/lab",
        health=f"{site}/medisync/health",
    )


def deploy_command(settings: Settings) -> tuple[str, ...]:
    """Registers the deployments of ``prefect.yaml``, by a fork where there are any; repeating it changes nothing."""
    python = flow_runs.command(settings) if fork_server.is_supported() else (sys.executable, "-m")
    return (*python, "prefect", "--no-prompt", "deploy", "--all")
