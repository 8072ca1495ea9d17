"""A load generator that stops by itself: keep-alive HTTP/1.1 over plain sockets, to 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
ANSWER_SECONDS = 30.0


@dataclass
class Tally:
    """What came of the requests: seconds of each that was answered with 200, and the others."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection:
    """One keep-alive connection; a request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body; raises OSError, TimeoutError or ValueError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port)
        reader, writer = self._streams
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n{lines}\r\n".encode())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                fields = head.lower().split(b"\r\n")
                length = next((int(one[15:]) for one in fields if one.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
        except (OSError, EOFError, TimeoutError):
            await self.close()
            raise
        return int(head.split(b" ", 2)[1]), body

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed_loop(port: int, path: str, headers: dict[str, str], *, connections: int, seconds: float) -> Tally:
    """As many requests as get answered: each connection asks again at once."""
    tally, until = Tally(), time.perf_counter() + seconds

    async def one() -> None:
        connection = Connection(port)
        while (started := time.perf_counter()) < until:
            await _ask(connection, path, headers, tally, started)
        await connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return tally


async def steady(
    port: int, paths: Sequence[str], headers: dict[str, str], *, rate: float, seconds: float, connections: int = 32
) -> Tally:
    """``rate`` requests a second, each timed from the moment it was due: a server that stalls cannot hide it."""
    tally = Tally()
    waiting: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()

    async def one() -> None:
        connection = Connection(port)
        while (due := await waiting.get()) is not None:
            await _ask(connection, due[1], headers, tally, due[0])
        await connection.close()

    workers = [asyncio.create_task(one()) for _ in range(connections)]
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        waiting.put_nowait((due, paths[number % len(paths)]))
    for _ in workers:
        waiting.put_nowait(None)
    await asyncio.gather(*workers)
    return tally


async def _ask(connection: Connection, path: str, headers: dict[str, str], tally: Tally, since: float) -> None:
    try:
        status, _ = await connection.get(path, headers)
    except (OSError, EOFError, TimeoutError, ValueError) as error:
        tally.errors.append(type(error).__name__)
        return
    if status == 200:
        tally.seconds.append(time.perf_counter() - since)
    else:
        tally.errors.append(f"{path}: {status}")
