"""Many stream clients in a process of their own, at little cost: ``python -m bench.listeners PORT``.

The first line of standard input is a JSON list of access tokens, a client for each. ``ready`` is printed when every
client has its ``stream.ready``; after a further line of input, one JSON object: run id -> when each client heard of it,
on the clock that all processes of a machine share (``time.monotonic``).
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import defaultdict

HOST = "127.0.0.1"
STREAM = "/api/analytics/stream/"
RUN_ID = re.compile(rb'"run_id":"(r[^"]+)"')
TAIL_BYTES = 64
"""What of a piece is kept for the next one: an id may be cut in two."""


class Listeners:
    """A plain socket for each of ``tokens`` and one ``epoll``; a client costs no more than looking for run ids."""

    def __init__(self, port: int, tokens: list[str]) -> None:
        self.heard: defaultdict[str, list[float]] = defaultdict(list)
        self.lost = 0
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._greeted: set[int] = set()
        for token in tokens:
            client = socket.create_connection((HOST, port))
            client.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            client.setblocking(False)
            self._sockets[client.fileno()], self._tails[client.fileno()] = client, b""
            self._epoll.register(client.fileno(), select.EPOLLIN)
            self.read(0)
        while len(self._greeted) < len(tokens) and not self.lost:
            self.read(1)

    def read(self, seconds: float, *, until: int | None = None) -> bool:
        """Take what has come within ``seconds``; True when the descriptor ``until`` has something."""
        is_told = False
        for number, _ in self._epoll.poll(seconds):
            if number == until:
                is_told = True
                continue
            piece, now = self._sockets[number].recv(65_536), time.monotonic()
            if not piece:
                self.lost += 1
                self._epoll.unregister(number)
                continue
            text = self._tails[number] + piece
            if b"stream.ready" in text:
                self._greeted.add(number)
            end = 0
            for found in RUN_ID.finditer(text):
                self.heard[found[1].decode()].append(now)
                end = found.end()
            self._tails[number] = text[end:][-TAIL_BYTES:]
        return is_told

    def listen_until_told(self) -> None:
        """Until standard input has a line."""
        told = sys.stdin.fileno()
        self._epoll.register(told, select.EPOLLIN)
        while not self.read(1, until=told):
            pass


def main() -> None:
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as told:  # nothing is read ahead
        tokens = json.loads(told.readline())
    listeners = Listeners(int(sys.argv[1]), tokens)
    print("ready" if not listeners.lost else "lost", flush=True)
    listeners.listen_until_told()
    print(json.dumps({"heard": listeners.heard, "lost": listeners.lost}), flush=True)


if __name__ == "__main__":
    main()
