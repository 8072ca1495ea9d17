"""How the API is started: ``python -m medisync.api.server``. Importing this costs nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import sys

from medisync.errors import MediSyncError
from medisync.settings import Settings, load_settings

HEALTH_PATH = "/api/health"

STOP_SECONDS = 5
"""Answers that are under way when the server is told to stop may take so long."""

KEEP_ALIVE_SECONDS = 15
LONGEST_HEAD_BYTES = 32_768
STUCK_SECONDS = 30
"""A connection whose other side takes nothing for so long is closed by the system."""

TRUSTED_PROXY = "127.0.0.1"
"""From where forwarded addresses are believed: a reverse proxy on this machine."""


def command() -> list[str]:
    """The program; the settings travel through their environment variables."""
    return [sys.executable, "-m", "medisync.api.server"]


def address(settings: Settings) -> str:
    """Where the API is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.api_host, settings.api_host)  # noqa: S104
    return f"http://{host}:{settings.api_port}/"


def health_url(settings: Settings) -> str:
    """Answers 200 as soon as results can be served."""
    return f"{address(settings).rstrip('/')}{HEALTH_PATH}"


def listening(settings: Settings) -> socket.socket:
    """The socket all workers accept from."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    # With the protocol's number: without it asyncio leaves Nagle's algorithm on, and every answer waits for 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_SECONDS * 1000)
    made.bind((settings.api_host, settings.api_port))
    made.set_inheritable(True)
    return made


def _raise_open_files() -> None:
    """Every stream is an open file; the usual limit of 1,024 is meant for programs that use select."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    settings = load_settings()
    settings.make_folders()
    os.umask(0o077)
    _raise_open_files()
    if settings.api_workers > 1:
        shared = settings.run_state / "metrics"
        shutil.rmtree(shared, ignore_errors=True)
        shared.mkdir(mode=0o700)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
    config = uvicorn.Config(
        "medisync.api.application:served",
        factory=True,
        workers=settings.api_workers,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        proxy_headers=True,
        forwarded_allow_ips=TRUSTED_PROXY,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=LONGEST_HEAD_BYTES,
        backlog=2048,
    )
    listener = listening(settings)
    if settings.api_workers > 1:
        Multiprocess(config, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    try:
        main()
    except MediSyncError as error:
        sys.stderr.write(f"Error [{error.code}]: {error}\n")
        sys.exit(error.exit_code)
