"""What a fork server's fork does with one connection: read the request, fork the child, and outlast it.

The guard is the child's parent and leads a session of its own. It ends the child when the process that asked for it is
gone (a forked child has no other way to know: its ancestors are servers), ends whatever the child left behind, and
tells a client that stays how the child ended. Everything a request can do wrong happens here, never in the server.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import psutil

log = logging.getLogger("medisync.fork_server")  # with a handler of its own: the root logger is the children's

REQUEST_BYTES = 4 << 20
"""More than the arguments and environment of a process may take."""
REQUEST_SECONDS = 5.0
"""For the whole request, and for the word to go."""
GRACE_SECONDS = 5.0
"""Between asking a child whose owner is gone to end, and ending it."""
OUTPUTS = 2

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class RequestError(Exception):
    """Something that is no request, or one that cannot be fulfilled. The message holds no value of it."""


class _AskedToEnd(Exception):  # noqa: N818 - not an error
    """The guard got SIGTERM."""


@dataclass(frozen=True)
class Request:
    """What a child is to become."""

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    owner: int
    """The process whose death ends the child: the one that connected, as the system tells it."""
    outputs: tuple[int, ...] = ()
    """Descriptors that become standard output and error."""


def stand(connection: socket.socket, become: Callable[[Request], None]) -> NoReturn:
    """Be the guard of the child that ``connection`` asks for; does not return, and never ends as the server would."""
    try:
        signal.signal(signal.SIGTERM, _asked_to_end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        request = _receive(connection)
        owner = os.pidfd_open(request.owner)
        guard = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(owner)
            _run(request, connection, become, guard)
        for descriptor in request.outputs:
            os.close(descriptor)
        _watch(child, owner, connection)
    except _AskedToEnd:
        pass
    except Exception as error:  # whatever a request holds, it is answered
        log.warning("A request was not understood (%s)", type(error).__name__)
        _tell(connection, {"refused": str(error) if isinstance(error, RequestError) else type(error).__name__})
    finally:
        os._exit(0)


def _asked_to_end(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _AskedToEnd


def _receive(connection: socket.socket) -> Request:
    deadline = time.monotonic() + REQUEST_SECONDS
    connection.settimeout(REQUEST_SECONDS)
    chunk, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, OUTPUTS)
    line = bytearray(chunk)
    while chunk and not line.endswith(b"\n"):
        if len(line) > REQUEST_BYTES:
            raise RequestError("the request is too long")
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(1 << 16)
        line += chunk
    if not chunk:
        raise RequestError("the request is not complete")
    values: Any = json.loads(line)
    if not isinstance(values, dict):
        raise RequestError("the request is no object")
    arguments, environment, directory = (values.get(name) for name in ("arguments", "environment", "directory"))
    if not (isinstance(arguments, list) and all(isinstance(one, str) for one in arguments)):
        raise RequestError("arguments must be a list of text")
    if not (isinstance(environment, dict) and all(isinstance(one, str) for one in environment.values())):
        raise RequestError("environment must be an object of text")
    if not isinstance(directory, str):
        raise RequestError("directory must be text")
    owner, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Request(arguments, environment, directory, owner, tuple(descriptors))


def _watch(child: int, owner: int, connection: socket.socket) -> None:
    """Wait for the end of the child, or bring it about when its owner is gone; then clear up after it."""
    ended = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([ended, owner], [], [])
    except _AskedToEnd:
        ready = []
    if ended not in ready:
        _end_group(child, signal.SIGTERM)
        if not select.select([ended], [], [], GRACE_SECONDS)[0]:
            _end_group(child, signal.SIGKILL)
    _end_group(child, signal.SIGKILL)  # before the child is reaped: until then nobody else can get its number
    _, status = os.waitpid(child, 0)
    _end_descendants()
    _tell(connection, {"exit": os.waitstatus_to_exitcode(status)})


def _end_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, number)  # it may not lead its group yet


def _end_descendants() -> None:
    """End what left the child's group; the guard has adopted it."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def _run(request: Request, connection: socket.socket, become: Callable[[Request], None], guard: int) -> NoReturn:
    """Be the child."""
    try:
        _prepare(request, guard)
        _tell(connection, {"pid": os.getpid()})
        connection.settimeout(REQUEST_SECONDS)
        if connection.recv(1) != b"\n":  # the client gave up waiting and has started the work by itself
            os._exit(1)
        connection.close()
    except Exception as error:
        log.warning("A request could not be fulfilled (%s)", type(error).__name__)
        _tell(connection, {"refused": type(error).__name__})
        os._exit(1)
    code = 1
    try:
        code = _exit_code(become, request)
        threading._shutdown()  # type: ignore[attr-defined] # as at the end of the interpreter: flushes logs, joins
        atexit._run_exitfuncs()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        if code == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(code)


def _prepare(request: Request, guard: int) -> None:
    """Make this process what a freshly started one with the request's environment would be."""
    os.setsid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != guard:  # it ended before it could be told of
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    for target, descriptor in zip((1, 2), request.outputs, strict=False):
        os.dup2(descriptor, target)
        os.close(descriptor)
    _change_search_path(request)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    os.chdir(request.directory)
    if "numpy" in sys.modules:  # the standard library's generator sees to itself
        sys.modules["numpy"].random.seed()


def _change_search_path(request: Request) -> None:
    """Begin with the request's directory and its PYTHONPATH, as ``python -m`` does, instead of the server's."""
    own = [entry or request.directory for entry in _entries(request.environment)]
    inherited = sys.path if sys.flags.safe_path else sys.path[1:]
    servers = {os.path.abspath(entry) for entry in _entries(os.environ)}
    kept = [entry for entry in inherited if os.path.abspath(entry) not in servers]
    last = [entry for entry in inherited if os.path.abspath(entry) in servers]  # a .pth file may name them, too
    sys.path[:] = [request.directory, *own, *kept, *(entry for entry in last if entry not in own)]


def _entries(environment: Mapping[str, str]) -> list[str]:
    path = environment.get("PYTHONPATH")
    return path.split(os.pathsep) if path else []


def _exit_code(become: Callable[[Request], None], request: Request) -> int:
    """The exit code the interpreter would end with."""
    try:
        become(request)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return (leaving.code or 0) & 0xFF
        print(leaving.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        return -signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _tell(connection: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # most clients do not stay
        connection.sendall(json.dumps(answer).encode() + b"\n")
