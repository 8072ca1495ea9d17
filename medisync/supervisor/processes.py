"""Child processes that never outlive us, restarted when they die."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from medisync.supervisor.services import Service

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

STOP_SECONDS = 10.0
"""How long a service may take to stop before it is killed."""

FIRST_RESTART_SECONDS, LONGEST_RESTART_SECONDS = 0.5, 30.0
STEADY_SECONDS = 60.0
"""A service that lived this long starts again at the first delay."""

LOG_BYTES = 5_000_000


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose parent dies, so that none escapes ``stop``. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _die_with_parent() -> None:
    """In the child, before exec: get SIGTERM when the supervisor dies, however it dies. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def is_well(pid: int | None, health: str | None, client: httpx.Client) -> bool:
    """Whether the process is there and, where it has an address to ask, answers."""
    if pid is None or not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
        return False
    if health is None:
        return True
    try:
        return client.get(health).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


class ServiceProcess:
    """One service's process with its log file and its restarts."""

    def __init__(self, service: Service, environment: Mapping[str, str], log: Path, directory: Path) -> None:
        self.service = service
        self.restarts = 0
        self._environment = {**environment, **service.environment}
        self._log = log
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._restart_at: float | None = None
        self._delay = FIRST_RESTART_SECONDS

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; its output is appended to the log, which is rolled over when large."""
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(f".log.{int(time.time())}"))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self.service.command,
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._started_at = time.monotonic()
        self._restart_at = None

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_well(self, client: httpx.Client) -> bool:
        """Alive, and answering where it has an address to ask."""
        return self.is_alive() and is_well(self.pid, self.service.health, client)

    def tend(self) -> str | None:
        """Restart the process when it died, with a growing delay; a sentence when there is something to tell."""
        if self.is_alive():
            return None
        now = time.monotonic()
        if self._restart_at is None:
            if now - self._started_at > STEADY_SECONDS:
                self._delay = FIRST_RESTART_SECONDS
            self._restart_at = now + self._delay
            self._delay = min(self._delay * 2, LONGEST_RESTART_SECONDS)
            code = self._process.returncode if self._process else None
            return f"{self.service.title} stopped (exit code {code}); starting it again. Its log: {self._log}"
        if now >= self._restart_at:
            self.restarts += 1
            self.start()
        return None

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def reap_orphans(services: Sequence[ServiceProcess]) -> int:
    """Let go of adopted processes that have ended, which would else stay in the process table; returns how many.

    A service's own end is left to be told by :meth:`ServiceProcess.tend`.
    """
    ours = {service.pid for service in services}
    reaped = 0
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.pid not in ours and child.status() == psutil.STATUS_ZOMBIE:
                reaped += os.waitpid(child.pid, os.WNOHANG)[0] == child.pid
    return reaped


def stop_all(services: list[ServiceProcess]) -> None:
    """Stop the services, the last one first, then whatever they left behind."""
    for service in reversed(services):
        if service.pid is not None and service.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(service.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for service in services:
        if service._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                service._process.wait(max(0.1, deadline - time.monotonic()))
    _stop_descendants()


def _stop_descendants() -> None:
    """End every process below this one: flow runs and kernels whose own parents are gone are ours by adoption."""
    for end in (signal.SIGTERM, signal.SIGKILL):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(end)
        psutil.wait_procs(left, timeout=3)
