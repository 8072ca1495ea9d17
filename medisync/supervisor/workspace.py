"""The running workspace: start all of it, watch it, stop all of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import httpx
import psutil

from medisync.backend.choice import backend_of
from medisync.errors import AlreadyRunningError, MediSyncError, NotRunningError, PortTakenError
from medisync.fastlane.kernels import socket_path
from medisync.lake import Lake
from medisync.settings import Settings, project_root
from medisync.supervisor import crashes, shared
from medisync.supervisor.prefect_requests import ask, while_too_busy
from medisync.supervisor.processes import ServiceProcess, adopt_orphans, reap_orphans, stop_all
from medisync.supervisor.services import WORK_POOL, Service, base_environment, deploy_command, services

TEND_SECONDS = 0.25
REAP_SECONDS = 10.0
DOWN_SECONDS = 30.0
DATABASE_SECONDS = 120.0
"""How long a database that is away is waited for at start."""
FORKS_SECONDS = 30.0
"""How long the pages wait at start for the server that forks their kernels; after that they do without."""

Say = Callable[[str], None]


class ServiceFailedError(MediSyncError):
    """A service did not come up."""

    code = "service-failed"
    exit_code = 17


class _Doubts:
    """When to ask flow runs for a sign of life: after each start of the server, and again, since the first question
    may come before it listens to events."""

    AGAIN_SECONDS = 10.0

    def __init__(self) -> None:
        self.restarts = 0
        self._times: list[float] = []

    def due(self, *, first_in: float) -> None:
        now = time.monotonic()
        self._times = [now + first_in, now + first_in + self.AGAIN_SECONDS]

    def are_due(self) -> bool:
        return bool(self._times) and time.monotonic() >= self._times[0]

    def done(self) -> None:
        self._times = self._times[1:]


class Supervisor:
    """Runs one workspace in the foreground until it is told to stop."""

    def __init__(
        self, settings: Settings, *, lab: bool = False, listed: Sequence[Service] | None = None, say: Say = print
    ) -> None:
        self._settings = settings
        self._services = services(settings, lab=lab) if listed is None else listed
        self._say = say
        self._stop = False
        self._processes: list[ServiceProcess] = []
        self._doubts = _Doubts()
        self._reaped_at = time.monotonic()
        self._state_file = settings.run_state / "supervisor.json"

    def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Start everything, call ``on_ready``, then watch until SIGINT, SIGTERM or ``medisync down``.

        Raises AlreadyRunningError, PortTakenError, DatabaseAwayError, LakeVersionError or ServiceFailedError before
        anything is served.
        """
        self._settings.make_folders()
        os.umask(0o077)
        with _only_supervisor(self._settings):
            for service in self._services:
                require_free_port(service)
            backend_of(self._settings).wait(self._say, seconds=DATABASE_SECONDS)
            self._prepare()
            adopt_orphans()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            try:
                with httpx.Client(timeout=2.0) as client:
                    self._start(client)
                    if not self._stop and on_ready is not None:
                        on_ready()
                    while not self._stop:
                        self._tend()
                        self._doubt(client)
                        time.sleep(TEND_SECONDS)
            finally:
                self._say("Stopping.")
                stop_all(self._processes)
                self._state_file.unlink(missing_ok=True)

    def _prepare(self) -> None:
        """What must be before the first service starts."""
        Lake(self._settings).connection().close()  # makes or migrates the lake before anybody asks it
        shared.mark(self._settings)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    def _start(self, client: httpx.Client) -> None:
        environment = base_environment(self._settings)
        root = project_root()
        first, *others = [
            ServiceProcess(service, environment, self._settings.logs / f"{service.name}.log", root)
            for service in self._services
        ]
        self._launch(first)  # the Prefect server: worker and deployments need it
        early = [other for other in others if other.service.name in ("kernels", "flow-runs", "api", "pages", "lab")]
        for other in sorted(early, key=lambda one: one.service.name == "pages"):  # they do not: they start meanwhile
            if other.service.name == "pages":  # it starts a kernel ahead at once, which should be a forked one
                self._wait_for_forks()
            self._launch(other)
        self._wait(first, client)
        self._make_work_pool(client)
        self._deploy(environment)
        self._watch_for_crashes(client)
        for other in others:
            if other not in early:
                self._launch(other)
        for other in others:
            self._wait(other, client)

    def _wait_for_forks(self) -> None:
        """Until kernels can be forked, if anybody is to fork them."""
        forking = next((one for one in self._processes if one.service.name == "kernels"), None)
        deadline = time.monotonic() + FORKS_SECONDS
        while forking is not None and forking.is_alive() and not self._stop and time.monotonic() < deadline:
            if socket_path(self._settings).exists():
                return
            time.sleep(0.05)

    def _launch(self, process: ServiceProcess) -> None:
        if self._stop:
            return
        process.start()
        self._processes.append(process)
        self._write_state()

    def _wait(self, process: ServiceProcess, client: httpx.Client) -> None:
        service = process.service
        started = time.monotonic()
        while not self._stop and not process.is_well(client):
            if not process.is_alive() or time.monotonic() - started > service.start_seconds:
                raise ServiceFailedError(
                    f"{service.title} did not start.", hint=f"The end of its log:\n{process.log_tail()}"
                )
            time.sleep(0.1)
        if not self._stop:
            self._say(f"{service.title} is up{f' at {service.address}' if service.address else ''}.")

    def _make_work_pool(self, client: httpx.Client) -> None:
        if self._stop:
            return
        pool = {"name": WORK_POOL, "type": "process"}
        try:
            while_too_busy(ask)(client, self._settings, "POST", "/work_pools/", pool)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status != httpx.codes.CONFLICT:  # conflict: it is there already
                raise ServiceFailedError(f"The work pool was not accepted ({status}).") from None

    def _deploy(self, environment: dict[str, str]) -> None:
        if self._stop:
            return
        log = self._settings.logs / "deploy.log"
        with log.open("ab") as output:
            done = subprocess.run(  # noqa: S603 - our own command
                deploy_command(self._settings),
                env=environment,
                cwd=project_root(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode and not self._stop:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise ServiceFailedError(
                "The deployments of prefect.yaml were not accepted.", hint=f"The log says:\n{tail}"
            )
        self._say("Deployments are registered.")

    def _watch_for_crashes(self, client: httpx.Client) -> None:
        if self._stop:
            return
        try:
            crashes.register(self._settings, client)
        except httpx.HTTPError as error:
            raise ServiceFailedError(f"The automations were not accepted ({type(error).__name__}).") from None
        self._doubts.due(first_in=0.0)

    def _doubt(self, client: httpx.Client) -> None:
        """After the server was started again, ask unfinished flow runs for a sign of life."""
        server = self._processes[0]
        if server.restarts != self._doubts.restarts:
            self._doubts.restarts = server.restarts
            self._doubts.due(first_in=1.0)
        if self._doubts.are_due() and server.is_well(client):
            with contextlib.suppress(httpx.HTTPError):  # it went away again, and will come back
                crashes.put_in_doubt(self._settings, client)
                self._doubts.done()

    def _tend(self) -> None:
        restarts = [process.restarts for process in self._processes]
        for process in self._processes:
            if self._stop:
                return
            told = process.tend()
            if told:
                self._say(told)
        if restarts != [process.restarts for process in self._processes]:
            self._write_state()
        if time.monotonic() - self._reaped_at >= REAP_SECONDS:
            reap_orphans(self._processes)
            self._reaped_at = time.monotonic()

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "started_at": _started_at(os.getpid()),
            "services": {
                process.service.name: {
                    "title": process.service.title,
                    "pid": process.pid,
                    "restarts": process.restarts,
                    "address": process.service.address,
                    "health": process.service.health,
                }
                for process in self._processes
            },
        }
        draft = self._state_file.with_suffix(".draft")
        draft.write_text(json.dumps(state, indent=1), encoding="utf-8")
        draft.replace(self._state_file)


def running(settings: Settings) -> dict[str, Any] | None:
    """What the supervisor of this workspace wrote, if it lives."""
    try:
        state: dict[str, Any] = json.loads((settings.run_state / "supervisor.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # A pid alone may belong to another program by now.
    return state if _started_at(state["pid"]) == state["started_at"] else None


def down(settings: Settings) -> None:
    """Stop the running workspace and wait until all of it is gone; raises NotRunningError."""
    state = running(settings)
    if state is None:
        raise NotRunningError("This workspace is not running.")
    os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while _started_at(state["pid"]) == state["started_at"]:
        if time.monotonic() > deadline:
            raise MediSyncError(
                "The workspace did not stop in time.", hint=f"Its supervisor is process {state['pid']}."
            )
        time.sleep(0.1)


def require_free_port(service: Service) -> None:
    """Raises PortTakenError, naming who listens where the system tells, when the service's port is in use."""
    if service.port is None:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", service.port))
        except OSError:
            raise PortTakenError(
                f"Port {service.port}, which {service.title} needs, is taken{_by_whom(service.port)}.",
                hint=f"Stop that program or set {service.port_setting} to another port.",
            ) from None


def _by_whom(port: int) -> str:
    with contextlib.suppress(psutil.Error, PermissionError):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def _started_at(pid: int) -> str | None:
    """When the process started, to the second; None when there is none."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return dt.datetime.fromtimestamp(process.create_time(), dt.UTC).isoformat(timespec="seconds")
    except psutil.NoSuchProcess:
        return None


@contextlib.contextmanager
def _only_supervisor(settings: Settings) -> Any:
    descriptor = os.open(settings.run_state / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(
                "This workspace is running already.", hint="medisync status shows it, medisync down stops it."
            ) from None
        yield
    finally:
        os.close(descriptor)
