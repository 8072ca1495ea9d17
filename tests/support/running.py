"""A real workspace in folders of its own: started by the command a user types, stopped the same way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from medisync.access import prefect_auth
from medisync.lake import Lake
from medisync.settings import PREFIX, Settings, environment

T = TypeVar("T")

PATIENCE_SECONDS = 300.0
"""How long a test waits at least for what must come. No test may fail because the machine is slow or busy, so this is
many times what anything takes; it only bounds how long a real fault stays unnoticed."""

LOWEST_PORT, HIGHEST_PORT = 20_000, 32_000
"""Below the range from which the system gives ports to whoever asks for any."""

_reserved: list[int] = []  # descriptors; a reservation ends with the process


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on, all different, and given to no other process of tests while this one lives."""
    folder = Path(tempfile.gettempdir()) / f"medisync-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    found: list[int] = []
    for port in random.Random(os.urandom(8)).sample(range(LOWEST_PORT, HIGHEST_PORT), 500):
        if len(found) < number and _reserve(folder / str(port), port):
            found.append(port)
    assert len(found) == number, "there are not enough free ports"
    return found


def _reserve(file: Path, port: int) -> bool:
    """Whether the port is free and now kept for this process."""
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", port))
    except OSError:
        os.close(descriptor)
        return False
    _reserved.append(descriptor)
    return True


def trial_settings(folder: Path, **changes: Any) -> Settings:
    """Settings of a workspace below ``folder`` with ports of its own."""
    prefect_port, pages_port, lab_port, api_port = free_ports(4)
    values = {
        "data": folder / "data",
        "reports": folder / "reports",
        "prefect_port": prefect_port,
        "pages_port": pages_port,
        "lab_port": lab_port,
        "api_port": api_port,
        **changes,
    }
    return Settings(**values)


def wait_until(condition: Callable[[], T | None], *, seconds: float, what: str, every: float = 0.1) -> T:
    """The first true value of ``condition``; fails, saying ``what`` did not happen, after ``seconds`` or
    PATIENCE_SECONDS, whichever is longer."""
    seconds = max(seconds, PATIENCE_SECONDS)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"Not within {seconds:g} s: {what}")


@dataclass
class RunningWorkspace:
    """A workspace that ``medisync up`` runs in a process of its own."""

    settings: Settings
    process: subprocess.Popen[str]
    output: Path
    _lake: Lake | None = None

    @property
    def environment(self) -> dict[str, str]:
        return child_environment(self.settings)

    def lake(self) -> Lake:
        """A lake of this process; one for all questions, since opening one takes half a second of a core."""
        if self._lake is None:
            self._lake = Lake(self.settings)
        return self._lake

    def close(self) -> None:
        if self._lake is not None:
            self._lake.close()

    def api(self, method: str, path: str, **options: Any) -> Any:
        """Ask the workspace's Prefect server."""
        auth = prefect_auth.auth(self.settings)
        answer = httpx.request(
            method, f"{self.settings.prefect_api_url}{path}", timeout=PATIENCE_SECONDS, auth=auth, **options
        )
        answer.raise_for_status()
        return answer.json()

    def medisync(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return medisync(self.settings, *arguments)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")


def child_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with the settings of a trial."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PREFECT_"))}
    return {**inherited, **environment(settings)}


def medisync(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "medisync.cli.main", *arguments],
        env=child_environment(settings),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@contextlib.contextmanager
def running_workspace(
    settings: Settings,
    *options: str,
    seconds: float = 600,
    meanwhile: Callable[[str], object] = lambda _said: None,
) -> Iterator[RunningWorkspace]:
    """Start a workspace, wait until it says that it runs, and stop it at the end; ``meanwhile`` is called with what it
    has said so far."""
    settings.data.mkdir(parents=True, exist_ok=True)
    output = settings.data.parent / "up.log"
    with output.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "medisync.cli.main", "up", *options],
            env=child_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    workspace = RunningWorkspace(settings, process, output)
    try:
        wait_until(
            lambda: (
                meanwhile(workspace.said()) or "MediSync is running." in workspace.said() or process.poll() is not None
            ),
            seconds=seconds,
            what=f"the workspace says it runs; it said:\n{workspace.said()}",
        )
        if process.poll() is not None:
            raise AssertionError(f"medisync up ended with {process.returncode}:\n{workspace.said()}")
        yield workspace
    finally:
        workspace.close()
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE_SECONDS)
