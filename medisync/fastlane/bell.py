"""A bell at the worker's door: whoever has had a flow run made rings it, and the worker looks at once.

A datagram over a Unix socket that only its owner can use. Nobody hears it when no worker is there, or another one on
another machine: the run is then found when the worker looks the next time.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from medisync.settings import Settings


def path(settings: Settings) -> Path:
    """Where the workspace's worker listens."""
    return settings.run_state / "worker.bell"


def ring(settings: Settings) -> None:
    """Have the worker look for flow runs now."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ringing:
        ringing.setblocking(False)
        ringing.sendto(b"!", str(path(settings)))


@contextlib.contextmanager
def hung(settings: Settings) -> Iterator[socket.socket]:
    """The bell itself, readable when it was rung. A second worker of the same machine takes it over."""
    place = path(settings)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        draft.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            listening.bind(str(draft))
        finally:
            os.umask(previous)
        listening.setblocking(False)
        draft.replace(place)
        yield listening


def silence(rung: socket.socket) -> None:
    """Take what was rung so far: one look answers all of it."""
    with contextlib.suppress(BlockingIOError):
        while True:
            rung.recv(1)
