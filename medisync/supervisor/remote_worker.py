"""``medisync worker``: another machine that works for the server.

It starts what runs notebooks and flow runs, and nothing that serves anybody. Before that, and every few seconds while
it runs, it makes sure that it has what the server has: secret, code, database, shared folders.
"""

from __future__ import annotations

import time
from typing import Any

import httpx

from medisync.access import prefect_auth
from medisync.errors import MediSyncError, NoDataError, UserError
from medisync.lake import Snapshot
from medisync.runs.same_code import ON_ANOTHER_MACHINE, require_same_code
from medisync.settings import Settings
from medisync.supervisor import shared
from medisync.supervisor.processes import ServiceProcess
from medisync.supervisor.services import base_environment, worker_services
from medisync.supervisor.workspace import Say, Supervisor

CHECK_SECONDS = 5.0
"""How often the server is asked whether it still runs the same code."""
DEPLOYMENT = "analyze/analyze"
"""Any of the server's deployments that other machines run."""


class WorkerRefusedError(UserError):
    """This machine cannot work for the server."""

    code = "worker-refused"
    exit_code = 96
    http_status = 409


class ServerAwayError(MediSyncError):
    """The server's Prefect API does not answer."""

    code = "server-away"
    exit_code = 97
    http_status = 503


class RemoteWorker(Supervisor):
    """Runs the worker's services in the foreground until it is told to stop, or may not go on."""

    def __init__(self, settings: Settings, *, say: Say = print) -> None:
        super().__init__(settings, listed=worker_services(settings), say=say)
        self._asked_at = 0.0

    def _prepare(self) -> None:
        check(self._settings)
        self._asked_at = time.monotonic()

    def _start(self, client: httpx.Client) -> None:
        environment = {**base_environment(self._settings), ON_ANOTHER_MACHINE: "1"}
        for service in self._services:
            self._launch(
                ServiceProcess(service, environment, self._settings.logs / f"{service.name}.log", self._settings.data)
            )
        for process in self._processes:
            self._wait(process, client)

    def _tend(self) -> None:
        """Raises OtherCodeError when the server has been started with other code."""
        super()._tend()
        if time.monotonic() - self._asked_at > CHECK_SECONDS:
            self._asked_at = time.monotonic()
            try:
                require_same_code(servers_code(self._settings))
            except ServerAwayError:  # it comes back; its worker asks for work all the time
                return


def check(settings: Settings) -> None:
    """Raises WorkerRefusedError, OtherCodeError or ServerAwayError, with the reason, unless this machine may work for
    the server; and DatabaseAwayError."""
    if not settings.is_server:
        raise WorkerRefusedError(
            "A worker needs the server profile.",
            hint="Set MEDISYNC_PROFILE and MEDISYNC_DATABASE_URL as on the server.",
        )
    if not settings.prefect_url:
        raise WorkerRefusedError(
            "A worker must know where the server is.", hint="Set MEDISYNC_PREFECT_URL: http://SERVER:4200/api."
        )
    if not (settings.keys / prefect_auth.NAME).exists():
        raise WorkerRefusedError(
            f"This machine has no secret of the workspace in {settings.keys / prefect_auth.NAME}.",
            hint="Copy it from the data/keys/ of the server, readable for the owner alone.",
        )
    require_same_code(servers_code(settings))
    if not settings.shared:
        raise WorkerRefusedError(
            "A worker needs the folders that it shares with the server.",
            hint="Set MEDISYNC_SHARED and MEDISYNC_REPORTS.",
        )
    for folder in shared.missing(settings):
        raise WorkerRefusedError(
            f"{folder} is not the folder the server has.",
            hint="Mount it, or correct MEDISYNC_SHARED or MEDISYNC_REPORTS.",
        )
    _require_lake(settings)


def servers_code(settings: Settings) -> str:
    """What the server runs. Raises ServerAwayError, and WorkerRefusedError when it does not know the secret."""
    try:
        answer = httpx.get(
            f"{settings.prefect_api_url}/deployments/name/{DEPLOYMENT}",
            headers=prefect_auth.headers(settings),
            timeout=30.0,
        )
    except httpx.HTTPError as error:
        raise ServerAwayError(
            f"The server's Prefect API at {settings.prefect_api_url} does not answer ({type(error).__name__}).",
            hint="Look whether it runs and can be reached from here: MEDISYNC_PREFECT_HOST on the server.",
        ) from None
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise WorkerRefusedError(
            f"The secret in {settings.keys / prefect_auth.NAME} is not the server's.", hint="Copy it once more."
        )
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise ServerAwayError("The server has not registered its deployments yet.", hint="Try again in a moment.")
    if answer.is_error:
        raise ServerAwayError(f"The server's Prefect API answers {answer.status_code}.", hint="Try again in a moment.")
    found: dict[str, Any] = answer.json()
    return str(found.get("version") or "")


def _require_lake(settings: Settings) -> None:
    """Read one value from the lake's files, where there are any."""
    import duckdb

    try:
        with Snapshot(settings) as snapshot:
            snapshot.query("SELECT source FROM clinical.admissions LIMIT 1")
    except NoDataError:
        return
    except duckdb.Error as error:
        raise WorkerRefusedError(
            f"The lake's files cannot be read here ({type(error).__name__}).",
            hint="MEDISYNC_LAKE_FILES must lead to the same files as on the server.",
        ) from None
