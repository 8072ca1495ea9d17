"""A server that forks: it imports heavy modules once, starts no thread, and forks a never-used process per request.

A client sends one line of JSON over a Unix socket (mode 0600): ``{"arguments", "environment", "directory"}``, and with
its first byte, if it likes, the descriptors that become the child's standard output and error. The forked child answers
``{"pid"}``, once it leads a session of its own, so that a client never learns the process group of the server. The
client says go with an empty line; a client that has stopped waiting closes instead, so that nothing is ever done twice.
``{"exit": code}`` is told to a client that is still there at the end, negative for a signal.

``{"refused": reason}`` is the answer to what is no request, and when the code on disk is newer than what is imported;
the server then starts itself anew.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from medisync.fastlane import guard
from medisync.fastlane.guard import Request
from medisync.fastlane.sources import ImportedSources

log = logging.getLogger("medisync.fork_server")
log.addHandler(logging.StreamHandler())
log.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
log.setLevel(logging.INFO)
log.propagate = False

BACKLOG = 1024
LOOK_SECONDS = 10.0
"""How often an idle server looks whether its socket can still be found."""


def is_supported() -> bool:
    """Whether this system can tell a process of another's death (Linux); elsewhere everything starts the normal way."""
    return hasattr(os, "pidfd_open") and hasattr(socket, "SO_PEERCRED")


def start_with(environment: Mapping[str, str], without: Sequence[str] = ()) -> None:
    """Start this process anew unless it was started with ``environment``; hash seed and threads are set only then."""
    wanted = {name: value for name, value in {**os.environ, **environment}.items() if name not in without}
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)  # noqa: S606 - ourselves


class ForkServer:
    """Serves one kind of child: ``become`` is called in the fork and its return ends the process.

    ``warm_up`` does once, after the imports, what every child would do alike. It must leave no thread and no open file.
    """

    def __init__(
        self,
        path: Path,
        modules: Sequence[str],
        become: Callable[[Request], None],
        warm_up: Callable[[], None] | None = None,
    ) -> None:
        if not is_supported():
            raise SystemExit("The fast lane needs Linux 5.3 or newer; without it processes start the normal way.")
        self._path = path
        self._become = become
        self._pid = os.getpid()
        begun = time.time_ns()
        for name in modules:
            importlib.import_module(name)
        if warm_up is not None:
            warm_up()
        self._sources = ImportedSources(begun)
        if "duckdb" in sys.modules:  # importing it opens a connection, whose threads would be lost in every fork
            sys.modules["duckdb"].default_connection().close()  # opened again by the first who uses it
        threads = os.listdir("/proc/self/task")  # also those Python does not know of
        if len(threads) > 1:
            raise RuntimeError(f"A fork server must have one thread, not {len(threads)}")
        gc.collect()
        gc.freeze()  # what is imported stays in pages the children share

    def serve(self) -> NoReturn:
        """Answer requests until SIGTERM."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        draft = self._path.with_name(f".{self._path.name}")
        draft.unlink(missing_ok=True)
        previous = os.umask(0o177)
        listener.bind(str(draft))
        os.umask(previous)
        listener.listen(BACKLOG)
        draft.replace(self._path)  # whoever sees it is answered
        place = _place(self._path)
        listener.settimeout(LOOK_SECONDS)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children: the system forgets them
        signal.signal(signal.SIGTERM, self._stop)
        log.info("Ready with %s modules", len(sys.modules))
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if _place(self._path) != place:
                    log.info("The socket is gone; starting anew")
                    _start_anew()
                continue
            except OSError as error:  # no descriptors left, say: that may pass
                log.warning("Could not accept a connection (%s)", error.strerror)
                time.sleep(0.1)
                continue
            with connection:
                self._answer(listener, connection)

    def _answer(self, listener: socket.socket, connection: socket.socket) -> None:
        if self._sources.have_changed():
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps({"refused": "the code has changed"}).encode() + b"\n")
            log.info("The code has changed; starting anew")
            connection.close()
            _start_anew()
        try:
            child = os.fork()
        except OSError as error:  # no memory or too many processes: the client starts the normal way
            log.warning("Could not fork (%s)", error.strerror)
            return
        if child == 0:
            listener.close()
            guard.stand(connection, self._become)

    def _stop(self, _number: int, _frame: FrameType | None) -> NoReturn:
        if os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)
        os._exit(0)


def _place(path: Path) -> int:
    """Which file the path leads to; -1 for none."""
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _start_anew() -> NoReturn:
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
