"""Real fork servers in processes of their own, and a client that speaks their protocol by hand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from tests.support.running import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).parents[2]

RUNS_CODE = """
import sys
from pathlib import Path
from medisync.fastlane.fork_server import ForkServer

def become(request):
    exec(request.arguments[0] if request.arguments else request.environment["CODE"], {"__name__": "__main__"})

if __name__ == "__main__":
    ForkServer(Path(sys.argv[1]), sys.argv[2:], become).serve()
"""
"""A fork server whose children execute the code of the request."""


@dataclass
class RunningForkServer:
    """A server and its log."""

    path: Path
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait_ready(self, times: int = 1) -> None:
        """Until the server has said ``times`` times that it is ready."""
        wait_until(
            lambda: self.said().count("Ready with") >= times or self.process.poll() is not None,
            seconds=600,
            what=f"the fork server is ready; it said:\n{self.said()}",
            every=0.02,
        )
        assert self.process.poll() is None, self.said()


@contextlib.contextmanager
def fork_server(folder: Path, *command: str, **environment: str) -> Iterator[RunningForkServer]:
    """Start ``python COMMAND`` with SOCKET for the socket's path, and stop it; by default one that executes code."""
    path, log = folder / "fork.sock", folder / "fork.log"
    if not command:
        script = folder / "runs_code.py"
        script.write_text(RUNS_CODE, encoding="utf-8")
        command = (str(script), "SOCKET")
    python_path = os.pathsep.join(filter(None, [str(ROOT), environment.pop("PYTHONPATH", "")]))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(str(path) if word == "SOCKET" else word for word in command)],
            env={**os.environ, **FIXED_ENVIRONMENT, "PYTHONPATH": python_path, **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = RunningForkServer(path, process, log)
    try:
        server.wait_ready()
        yield server
    finally:
        left = []
        with contextlib.suppress(psutil.NoSuchProcess):
            left = server.children()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for one in left:  # only what this very server has started
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@contextlib.contextmanager
def kernel_server(folder: Path, **environment: str) -> Iterator[RunningForkServer]:
    """The workspace's fork server of kernels, listening in ``folder``."""
    with fork_server(folder, "-m", "medisync.fastlane.kernels", "SOCKET", **environment) as server:
        yield server


class Connection:
    """One client, step by step."""

    def __init__(self, path: Path, seconds: float = PATIENCE_SECONDS) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(seconds)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.answers = self.socket.makefile()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.answers.close()
        self.socket.close()

    def ask(self, code: str, *, outputs: list[int] | None = None, **changes: Any) -> dict[str, Any]:
        """Send a request and read the first answer."""
        request = {"arguments": [code], "environment": dict(os.environ), "directory": os.getcwd(), **changes}
        line = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self.socket, [line], outputs) if outputs else 0
        with contextlib.suppress(BrokenPipeError):  # refused before it was read: the answer is there all the same
            self.socket.sendall(line[sent:])
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer; empty when the other side has closed."""
        try:
            answer: dict[str, Any] = json.loads(self.answers.readline() or "{}")
        except ConnectionResetError:
            return {}
        return answer

    def go(self) -> None:
        self.socket.sendall(b"\n")


def run_code(path: Path, code: str, **changes: Any) -> dict[str, Any]:
    """Run ``code`` in a forked child to its end; the last answer."""
    with Connection(path) as connection:
        first = connection.ask(code, **changes)
        if "pid" not in first:
            return first
        connection.go()
        return connection.answer()


def is_gone(pid: int) -> bool:
    """Whether no process has this id, or only a dead one not yet reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(pid: int, seconds: float) -> None:
    wait_until(lambda: is_gone(pid), seconds=seconds, what=f"process {pid} ends", every=0.02)


def kill_owner(process: subprocess.Popen[Any]) -> None:
    """Kill -9, and reap."""
    process.send_signal(signal.SIGKILL)
    process.wait(10)
