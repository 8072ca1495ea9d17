"""A server that forks: it imports heavy modules once, starts no thread, and forks a never-used process per request.

A client sends one line of JSON over a Unix socket (mode 0600): ``{"arguments", "environment", "directory", "owner"}``,
and with it, if it likes, the descriptors that become the child's standard output and error. The forked child answers
``{"pid"}`` itself, once it leads a session of its own, so that a client never learns the process group of the server,
and ``{"exit"}`` to a client that is still there at its end. ``{"refused": reason}`` is the answer when the code on disk
is newer than what is imported; the server then starts itself anew.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

log = logging.getLogger("medisync.fork_server")  # with a handler of its own: the root logger is the children's
log.addHandler(logging.StreamHandler())
log.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
log.setLevel(logging.INFO)
log.propagate = False

REQUEST_BYTES = 1 << 20
REQUEST_SECONDS = 5.0
GRACE_SECONDS = 5.0
"""Between asking a child whose owner is gone to end, and ending it."""


@dataclass(frozen=True)
class Request:
    """What a child is to become."""

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    owner: int
    """The process whose death ends the child."""
    outputs: tuple[int, ...] = ()
    """Descriptors that become standard output and error."""


class ForkServer:
    """Serves one kind of child: ``become`` is called in the fork and its return ends the process."""

    def __init__(self, path: Path, modules: Sequence[str], become: Callable[[Request], None]) -> None:
        self._path = path
        self._become = become
        for name in modules:
            importlib.import_module(name)
        self._marks = _source_marks()
        if threading.active_count() > 1:
            raise RuntimeError(f"A fork server must have one thread, not {threading.enumerate()}")
        gc.collect()
        gc.freeze()  # what is imported stays in pages the children share

    def serve(self) -> NoReturn:
        """Answer requests until SIGTERM."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        listener.bind(str(self._path))
        os.umask(previous)
        listener.listen(64)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children: the system forgets them
        signal.signal(signal.SIGTERM, self._stop)
        log.info("Ready with %s modules", len(sys.modules))
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    self._answer(listener, connection)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    log.warning("A request was not understood (%s)", type(error).__name__)

    def _answer(self, listener: socket.socket, connection: socket.socket) -> None:
        request = _receive(connection)
        if _source_marks() != self._marks:
            connection.sendall(b'{"refused": "the code has changed"}\n')
            log.info("The code has changed; starting anew")
            listener.close()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
        if os.fork() == 0:
            listener.close()
            self._run_child(request, connection)
        for descriptor in request.outputs:
            os.close(descriptor)

    def _run_child(self, request: Request, connection: socket.socket) -> NoReturn:
        code = 1
        try:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for target, descriptor in zip((1, 2), request.outputs, strict=False):
                os.dup2(descriptor, target)
            _tell(connection, {"pid": os.getpid()})
            os.environ.clear()
            os.environ.update(request.environment)
            os.chdir(request.directory)
            random.seed()
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed()
            _die_with(request.owner)
            self._become(request)
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:
            log.exception("A child failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            with contextlib.suppress(OSError):  # most clients do not stay
                _tell(connection, {"exit": code})
            os._exit(code)

    def _stop(self, _number: int, _frame: FrameType | None) -> NoReturn:
        self._path.unlink(missing_ok=True)
        os._exit(0)


def _receive(connection: socket.socket) -> Request:
    connection.settimeout(REQUEST_SECONDS)
    line, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 2)
    while not line.endswith(b"\n"):
        chunk = connection.recv(REQUEST_BYTES)
        if not chunk or len(line) > REQUEST_BYTES:
            raise ValueError("no complete request")
        line += chunk
    values: dict[str, Any] = json.loads(line)
    connection.settimeout(None)
    return Request(
        values["arguments"], values["environment"], values["directory"], int(values["owner"]), tuple(descriptors)
    )


def _tell(connection: socket.socket, answer: dict[str, int]) -> None:
    connection.sendall(json.dumps(answer).encode() + b"\n")


def _die_with(owner: int) -> None:
    """End this process and its children when ``owner`` ends, however it ends. A forked child has no other way to know:
    its parent is the server."""
    descriptor = os.pidfd_open(owner)

    def watch() -> None:
        select.select([descriptor], [], [])
        os.killpg(0, signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="owner-watch").start()


def _source_marks() -> dict[str, int]:
    """When each imported source file of ours, and the folder of installed packages, was last changed."""
    package = Path(__file__).resolve().parent.parent
    files = {
        file
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None)) and Path(file).is_relative_to(package)
    }
    folders = {entry for entry in sys.path if entry.endswith("site-packages")}
    marks = {}
    for path in files | folders:
        try:
            marks[path] = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            marks[path] = -1
    return marks
