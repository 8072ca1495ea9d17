"""A kernel's start and memory: ``python -m bench.kernels [--json]``.

Start: from asking for a kernel until it has answered an execute request that imports what an analysis imports. Memory:
what is private to the kernel (and, for a forked one, to its guard) after the imports of an analysis and a small piece
of work with each. Medians of five. The peer: a stock ipykernel, started the way papermill starts it. Both on one
machine in one call, in turn, so that the load of other programs meets both.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.report import Metric, main
from medisync.runs.kernels import IpcKernelManager, private_transport
from medisync.settings import project_root

REPEATS = 5
READY_SECONDS = 120.0
IMPORTS = "import pandas, numpy, duckdb, scipy.stats, matplotlib.figure"
WORK = """
import medisync as ms
from medisync.analyses import patient_volume_prediction
frame = duckdb.sql("SELECT range AS day, range % 7 AS weekday, random() AS value FROM range(2000)").df()
fitted = scipy.stats.linregress(frame["day"], frame["value"])
figure = matplotlib.figure.Figure()
figure.subplots().plot(frame["day"], frame.groupby("weekday")["value"].transform("mean"))
import io
figure.savefig(io.BytesIO(), format="svg")
"""


@dataclass(frozen=True)
class KernelCost:
    """One kernel: seconds to its first answer, and private megabytes (10^6 bytes) after some work."""

    start_seconds: float
    private_mb: float


def measure() -> dict[str, Metric]:
    """Start and private memory of forked and of stock kernels."""
    with tempfile.TemporaryDirectory(prefix="medisync-bench-") as folder, _kernel_server(Path(folder)) as path:
        asyncio.run(_cost(path))  # the page cache is warm for both
        asyncio.run(_cost(None))
        pairs = [(asyncio.run(_cost(path)), asyncio.run(_cost(None))) for _ in range(REPEATS)]
    forked, stock = zip(*pairs, strict=True)
    peer = "stock ipykernel"
    stock_start = round(median(one.start_seconds for one in stock), 3)
    start = round(median(one.start_seconds for one in forked), 3)
    stock_mb = round(median(one.private_mb for one in stock), 1)
    return {
        "fork_start_seconds": Metric(start, "s", "<= 0.15", peer, stock_start),
        "stock_start_seconds": Metric(stock_start, "s", "shown"),
        "start_ratio_to_stock": Metric(round(stock_start / start, 1), "x", "shown", peer, 1.0),
        "private_mb_per_kernel": Metric(
            round(median(one.private_mb for one in forked), 1), "MB", "<= 70", peer, stock_mb
        ),
    }


async def _cost(fork_socket: Path | None) -> KernelCost:
    """Start a kernel, have it work, and shut it down. Raises RuntimeError when it fails or is not of the kind asked."""
    with private_transport(fork_socket) as config:
        manager = IpcKernelManager(config=config)
        begun = time.perf_counter()
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        try:
            client.execute(IMPORTS)
            answer = await client.get_shell_msg(timeout=READY_SECONDS)
            seconds = time.perf_counter() - begun
            _check(answer)
            client.execute(WORK)
            _check(await client.get_shell_msg(timeout=READY_SECONDS))
            process = psutil.Process(manager.provisioner.pid)
            is_forked = process.ppid() != psutil.Process().pid
            if is_forked != (fork_socket is not None):
                raise RuntimeError("The kernel was not started the way that is to be measured.")
            private = process.memory_full_info().uss
            if is_forked:
                private += psutil.Process(process.ppid()).memory_full_info().uss
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
    return KernelCost(seconds, private / 1e6)


def _check(answer: dict[str, dict[str, str]]) -> None:
    if answer["content"]["status"] != "ok":
        raise RuntimeError(f"The kernel raised {answer['content']['ename']}.")


@contextlib.contextmanager
def _kernel_server(folder: Path) -> Iterator[Path]:
    """The workspace's kernel server, listening in ``folder``."""
    path = folder / "kernels.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "medisync.fastlane.kernels", str(path)],
        cwd=project_root(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The kernel server did not start.")
            time.sleep(0.05)
        yield path
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main(measure)
