"""Several machines in one: network namespaces with addresses of their own, joined by a bridge.

They share the disk, as machines with a shared mount do, and nothing else: what listens on 127.0.0.1 of one cannot be
reached from another.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Machine:
    """One of them. ``address`` is reached from all."""

    name: str
    space: str
    address: str

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and every process it starts, is on the machine."""
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.space}", os.O_RDONLY)
        try:
            assert libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(there)
            os.close(before)

    def named(self, *command: str) -> list[str]:
        """``command`` as it must be started to see the machine's own name."""
        return ["unshare", "--uts", "sh", "-c", f'hostname {self.name}; exec "$@"', "sh", *command]

    def cut_off(self, is_cut: bool = True) -> None:
        """Pull its cable, or plug it in again."""
        _ip("-n", self.space, "link", "set", "eth0", "down" if is_cut else "up")


@contextlib.contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """Machines of these names; on CI they can be made, elsewhere the test is skipped where they cannot."""
    mark = secrets.token_hex(3)
    found = [Machine(name, f"ms-{mark}-{name}", f"10.77.0.{number}") for number, name in enumerate(names, 1)]
    spaces = [f"ms-{mark}-net", *(machine.space for machine in found)]
    try:
        try:
            for space in spaces:
                _ip("netns", "add", space)
                _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", spaces[0], "link", "add", "bridge", "type", "bridge")
            _ip("-n", spaces[0], "link", "set", "bridge", "up")
            for machine in found:
                _ip(
                    "-n",
                    machine.space,
                    "link",
                    "add",
                    "eth0",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    machine.name,
                    "netns",
                    spaces[0],
                )
                _ip("-n", spaces[0], "link", "set", "dev", machine.name, "master", "bridge", "up")
                _ip("-n", machine.space, "address", "add", f"{machine.address}/24", "dev", "eth0")
                _ip("-n", machine.space, "link", "set", "eth0", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            if os.environ.get("CI") and os.getuid() == 0:
                raise
            pytest.skip(f"no network namespaces can be made here: {getattr(error, 'stderr', error)}")
        yield found
    finally:
        for space in spaces:
            if Path(f"/run/netns/{space}").exists():
                subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
