"""Kernels forked by the real kernel server, driven as notebooks drive them; and what happens without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from medisync.fastlane import guard, provisioner
from medisync.fastlane.provisioner import ForkedProcess
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.runs.kernels import IpcKernelManager, private_transport
from tests.support.fork_servers import ROOT, RunningForkServer, kernel_server, wait_gone
from tests.support.running import PATIENCE_SECONDS, wait_until

KEEPS_HISTORY = "print(get_ipython().history_manager.enabled)"
"""Whether IPython writes what was run to a file, parameters included."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForkServer]:
    with kernel_server(tmp_path_factory.mktemp("kernels")) as running:
        yield running


class RunningKernel:
    """A kernel and a client that speaks to it."""

    def __init__(self, manager: IpcKernelManager) -> None:
        self.manager = manager
        self.client = manager.client()

    @property
    def process(self) -> Any:
        return self.manager.provisioner.process

    @property
    def is_forked(self) -> bool:
        return isinstance(self.process, ForkedProcess)

    async def connect(self) -> None:
        self.client.stop_channels()
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=PATIENCE_SECONDS)

    async def run(self, code: str) -> str:
        """What ``code`` prints; an exception's name when it raises."""
        said: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            said.append(message["content"].get("text") or message["content"].get("ename") or "")

        await self.client.execute_interactive(code, timeout=PATIENCE_SECONDS, output_hook=hear)
        return "".join(said)

    async def told(self, expression: str) -> Any:
        return json.loads(await self.run(f"import json, os, sys, random\nprint(json.dumps({expression}))"))


@contextlib.asynccontextmanager
async def kernel(path: Path, **options: Any) -> AsyncIterator[RunningKernel]:
    """A running kernel; shut down politely at the end."""
    with private_transport(path) as config:
        manager = IpcKernelManager(config=config)
        await manager.start_kernel(**options)
        running = RunningKernel(manager)
        try:
            await running.connect()
            yield running
        finally:
            running.client.stop_channels()
            await manager.shutdown_kernel()


def test_a_forked_kernel_has_the_requests_environment_and_directory(server: RunningForkServer, tmp_path: Path) -> None:
    async def trial() -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ODD": "ü"}
        async with kernel(server.path, env=environment, cwd=str(tmp_path)) as running:
            assert running.is_forked
            told = await running.told("[dict(os.environ), os.getcwd(), os.getpid(), os.getsid(0), os.getpgrp()]")
            assert {name: told[0].get(name) for name in environment} == environment
            assert {name: told[0].get(name) for name in FIXED_ENVIRONMENT} == FIXED_ENVIRONMENT
            assert set(os.environ) - set(told[0])
            assert "MEDISYNC_PROBE" not in told[0]
            assert told[1] == str(tmp_path)
            assert told[2] == told[3] == told[4] == running.process.pid
            assert await running.run(KEEPS_HISTORY) == "False\n"

    asyncio.run(trial())


def test_a_forked_kernel_finds_modules_and_says_itself_what_a_normal_one_does(
    server: RunningForkServer, tmp_path: Path
) -> None:
    """Search path, arguments, hash seed, plotting backend, no leftover of the server."""
    expression = (
        "[[one for one in sys.path if 'ipython' not in one], sys.argv[0].split('/')[-1].removesuffix('.py'), "
        "hash('x'), __import__('matplotlib').get_backend(), sys.flags.hash_randomization, __name__, "
        "sorted(name for name in globals() if not name.startswith('_'))]"
    )

    async def trial(path: Path) -> Any:
        async with kernel(path, cwd=str(tmp_path)) as running:
            return running.is_forked, await running.told(expression)

    forked, ours = asyncio.run(trial(server.path))
    normal, theirs = asyncio.run(trial(tmp_path / "nobody.sock"))
    assert (forked, normal) == (True, False)
    added = {str(ROOT)}  # from the server's own PYTHONPATH
    assert [one for one in ours[0] if one not in added] == [one for one in theirs[0] if one not in added]
    assert ours[1:] == theirs[1:]


def test_the_plotting_backend_is_the_requests(server: RunningForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FIXED_ENVIRONMENT, "MPLBACKEND", "svg")

    async def trial() -> None:
        async with kernel(server.path) as running:
            assert await running.run("import matplotlib.pyplot as plt; print(plt.get_backend())") == "svg\n"

    asyncio.run(trial())


def test_random_numbers_differ_between_forked_kernels(server: RunningForkServer) -> None:
    async def trial() -> list[float]:
        async with kernel(server.path) as running:
            numbers: list[float] = await running.told(
                "[random.random(), (np := __import__('numpy')).random.rand(), np.random.default_rng().random()]"
            )
            return numbers

    assert len({*asyncio.run(trial()), *asyncio.run(trial())}) == 6


def test_the_end_of_a_kernel_is_seen(server: RunningForkServer) -> None:
    async def trial() -> None:
        async with kernel(server.path) as running:
            process = running.process
            assert process.poll() is None
            assert await running.manager.is_alive()
            with pytest.raises(TimeoutError):
                process.wait(0.05)
            running.client.execute("import os; os._exit(3)")
            assert await asyncio.to_thread(process.wait, 10) == 0
            assert process.poll() == 0
            assert not await running.manager.is_alive()
            process.terminate()  # too late, and nobody else is hit

    asyncio.run(trial())


def test_an_interrupt_ends_the_cell_and_not_the_kernel(server: RunningForkServer) -> None:
    async def trial() -> None:
        async with kernel(server.path) as running:
            slow = asyncio.create_task(running.run("import time; print('in', flush=True); time.sleep(60)"))
            await asyncio.sleep(1)
            await running.manager.interrupt_kernel()
            assert "KeyboardInterrupt" in await asyncio.wait_for(slow, 10)
            assert await running.run("print(1 + 1)") == "2\n"

    asyncio.run(trial())


def test_a_restart_gives_a_new_forked_kernel(server: RunningForkServer) -> None:
    async def trial() -> None:
        async with kernel(server.path) as running:
            await running.run("remembered = 1")
            first = running.process.pid
            await running.manager.restart_kernel()
            await running.connect()
            assert running.is_forked
            assert running.process.pid != first
            wait_gone(first, 5)
            assert "NameError" in await running.run("remembered")
            await running.manager.restart_kernel(now=True)
            await running.connect()
            assert await running.run("print('again')") == "again\n"

    asyncio.run(trial())


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "import time, threading; threading.Thread(target=time.sleep, args=(600,)).start()",
        "import atexit, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); atexit.register(time.sleep, 600)",
    ],
    ids=["ordinary", "thread left running", "does not want to end"],
)
def test_a_shutdown_ends_the_kernel_and_all_it_started(server: RunningForkServer, code: str) -> None:
    async def trial() -> list[int]:
        async with kernel(server.path) as running:
            await running.run(code)
            started: list[int] = await running.told(
                "[__import__('subprocess').Popen(['sleep', '600'], start_new_session=new).pid for new in (True, False)]"
            )
            return [running.process.pid, *started]

    for pid in asyncio.run(trial()):
        wait_gone(pid, 3)
    wait_until(lambda: not server.children(), seconds=5, what="nothing is left below the server")


def test_descriptors_do_not_leak_in_the_asking_process(server: RunningForkServer) -> None:
    async def once() -> None:
        with private_transport(server.path) as config:
            manager = IpcKernelManager(config=config)
            await manager.start_kernel()
            await manager.shutdown_kernel(now=True)
            assert manager.provisioner.process is None or manager.provisioner.process.poll() == 0

    asyncio.run(once())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        asyncio.run(once())
    assert len(os.listdir("/proc/self/fd")) <= before


OWNER = """
import asyncio, sys
from pathlib import Path
from medisync.runs.kernels import IpcKernelManager, private_transport

async def main():
    with private_transport(Path(sys.argv[1])) as config:
        manager = IpcKernelManager(config=config)
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=600)
        await client.execute_interactive(
            "import os, subprocess; print(os.getpid(), *(subprocess.Popen(['sleep', '600'], start_new_session=away).pid"
            " for away in (True, False)))",
            timeout=600,
            output_hook=lambda message: print(message["content"].get("text", ""), end="", flush=True),
        )
        client.execute("while True: pass")
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_no_orphan_is_left_when_the_owner_is_killed(server: RunningForkServer) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(server.path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        family = [int(word) for word in owner.stdout.readline().split()]
        assert len(family) == 3
        time.sleep(0.5)
    finally:
        owner.kill()
        owner.communicate()
    for pid in family:
        wait_gone(pid, guard.GRACE_SECONDS + 3)


def test_without_a_server_the_kernel_is_a_normal_one(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    no_socket = tmp_path / "file"
    no_socket.write_text("no socket")

    async def trial(path: Path) -> None:
        async with kernel(path) as running:
            assert not running.is_forked
            assert await running.run("print(6 * 7)") == "42\n"
            assert await running.run(KEEPS_HISTORY) == "False\n"

    for path in (tmp_path / "nobody.sock", stale, no_socket):
        asyncio.run(trial(path))


def test_a_system_that_cannot_watch_processes_gets_normal_kernels(
    server: RunningForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    async def trial() -> None:
        async with kernel(server.path) as running:
            assert not running.is_forked

    asyncio.run(trial())


def test_a_package_that_is_not_installed_gets_normal_kernels(
    server: RunningForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provisioner is found by its entry point, which a checkout merely on the path does not have."""
    from jupyter_client.provisioning import KernelProvisionerFactory

    factory = KernelProvisionerFactory.instance()
    known = {name: entry for name, entry in factory.provisioners.items() if name != "medisync-fork"}
    monkeypatch.setattr(factory, "provisioners", known)
    monkeypatch.setattr(factory, "_get_provisioner", lambda name: known[name])

    async def trial() -> None:
        async with kernel(server.path) as running:
            assert not running.is_forked

    asyncio.run(trial())


@contextlib.contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[None]:
    """Something at ``path`` that takes each request and gives this answer; None: it says nothing."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    kept = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                if answer is not None:
                    while not connection.recv(1 << 20).endswith(b"\n"):
                        pass
                    connection.sendall(answer)
                    connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"?\n",
        b"\xff\n",
        b"[]\n",
        b"3\n",
        b'{"pid": "9"}\n',
        b'{"pid": 0}\n',
        b'{"pid": -1}\n',
        b'{"pid": true}\n',
        b'{"pid": 4194305}\n',
        b'{"pid": %d}\n',
        b"x" * 200_000 + b"\n",
        b'{"refused": "the code has changed"}\n',
    ],
    ids=lambda answer: repr(answer)[:40],
)
def test_an_answer_that_is_none_starts_nothing_and_harms_nobody(
    tmp_path: Path, answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioner, "ANSWER_SECONDS", 0.5)
    stranger = subprocess.Popen(["sleep", "60"])  # in our own session: no forked kernel could be
    path = tmp_path / "s.sock"
    asked = provisioner.ForkProvisioner(socket=str(path))

    async def trial() -> None:
        assert await asked._forked(["-f", "connection.json"], {}) is None

    try:
        with answering(path, answer % stranger.pid if answer and b"%d" in answer else answer):
            asyncio.run(trial())
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_killed_while_kernels_run_leaves_them_running(tmp_path: Path) -> None:
    async def trial(running_server: RunningForkServer) -> None:
        async with kernel(running_server.path) as first:
            assert first.is_forked
            running_server.process.send_signal(signal.SIGKILL)
            running_server.process.wait()
            assert await first.run("print('still here')") == "still here\n"
            async with kernel(running_server.path) as second:
                assert not second.is_forked
                assert await second.run("print('normal')") == "normal\n"
            pid = first.process.pid
        wait_gone(pid, 5)

    with kernel_server(tmp_path) as running_server:
        asyncio.run(trial(running_server))


def test_a_server_that_hangs_costs_some_seconds_and_no_other_work(
    server: RunningForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop goes on meanwhile, and when the server wakes up it does not start a second kernel."""
    monkeypatch.setattr(provisioner, "ANSWER_SECONDS", 1.0)

    async def trial() -> None:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.05)
                beats += 1

        server.process.send_signal(signal.SIGSTOP)
        heart = asyncio.create_task(beat())
        try:
            async with kernel(server.path) as running:
                assert not running.is_forked
                assert beats > 10
                server.process.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.5)
                assert await running.run("print('one')") == "one\n"
        finally:
            server.process.send_signal(signal.SIGCONT)
            heart.cancel()
        wait_until(lambda: not server.children(), seconds=5, what="the late kernel has given up")

    asyncio.run(trial())


def test_a_ready_client_hears_the_first_cell_from_its_beginning(server: RunningForkServer) -> None:
    """Readiness is told by an answer on each channel; an output lost to a late subscription would be missing here."""

    async def trial(path: Path) -> None:
        with private_transport(path) as config:
            manager = IpcKernelManager(config=config)
            await manager.start_kernel()
            client = manager.client()
            client.start_channels()
            try:
                await client.wait_for_ready(timeout=PATIENCE_SECONDS)
                asked = client.execute("print('first')")
                heard = [await client.get_iopub_msg(timeout=PATIENCE_SECONDS) for _ in range(4)]
                assert [one["msg_type"] for one in heard] == ["status", "execute_input", "stream", "status"]
                assert {one["parent_header"]["msg_id"] for one in heard} == {asked}
            finally:
                client.stop_channels()
                await manager.shutdown_kernel(now=True)

    for _ in range(8):
        asyncio.run(trial(server.path))
    asyncio.run(trial(server.path.with_name("nobody.sock")))


def test_a_client_is_told_of_a_kernel_that_dies_or_does_not_answer(server: RunningForkServer) -> None:
    async def trial(number: int, message: str, seconds: float) -> None:
        with private_transport(server.path) as config:
            manager = IpcKernelManager(config=config)
            await manager.start_kernel()
            manager.provisioner.process.send_signal(number)
            client = manager.client()
            client.start_channels()
            try:
                with pytest.raises(RuntimeError, match=message):
                    await client.wait_for_ready(timeout=seconds)
            finally:
                client.stop_channels()
                await manager.shutdown_kernel(now=True)

    asyncio.run(trial(signal.SIGKILL, "died", PATIENCE_SECONDS))
    asyncio.run(trial(signal.SIGSTOP, "2 seconds", 2))


def test_the_server_makes_its_own_environment_right(tmp_path: Path) -> None:
    """However it is started: kernels get hash seed and thread counts of a reproducible run, and no false parent."""
    wrong = {"PYTHONHASHSEED": "random", "OPENBLAS_NUM_THREADS": "4", "MPLBACKEND": "svg", "JPY_PARENT_PID": "1"}
    with kernel_server(tmp_path, **wrong) as running:
        environment = psutil.Process(running.process.pid).environ()
        assert {name: environment.get(name) for name in FIXED_ENVIRONMENT} == FIXED_ENVIRONMENT
        assert "JPY_PARENT_PID" not in environment
        assert len(os.listdir(f"/proc/{running.process.pid}/task")) == 1
        assert running.said().count("\n") == 1, running.said()  # ready, and no warning of what it imports
