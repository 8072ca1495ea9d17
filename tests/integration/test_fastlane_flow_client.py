"""The stand-in of a flow run in a real process: what it passes on, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from medisync.fastlane import flow_client
from tests.support.fork_servers import ROOT, RunningForkServer, fork_server, wait_gone
from tests.support.pace import slowness
from tests.support.running import PATIENCE_SECONDS, wait_until

CLIENT = Path(flow_client.__file__)
NO_ENGINE = "Invalid flow run id"
"""What Prefect's engine says when PREFECT__FLOW_RUN_ID names none."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForkServer]:
    with fork_server(tmp_path_factory.mktemp("fork")) as running:
        yield running


def started(
    path: Path, code: str, *arguments: str, folder: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """The client, as the process worker starts it; the run executes ``code``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(CLIENT), str(path), *arguments],
        env={**inherited, "CODE": code, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(
    path: Path, code: str, *arguments: str, folder: Path | None = None, **environment: str
) -> tuple[int, str, str]:
    """Exit code, standard output and error of a run."""
    process = started(path, code, *arguments, folder=folder, **environment)
    output, error = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, output, error


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("raise ValueError('unhappy')", 1),
        ("import os; os._exit(9)", 9),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM),
        ("import os, signal; signal.signal(13, signal.SIG_DFL); os.kill(os.getpid(), 13)", -signal.SIGPIPE),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_the_client_ends_as_the_run_ends(server: RunningForkServer, code: str, ending: int) -> None:
    returncode, _, error = ended(server.path, code)
    assert returncode == ending
    assert ("unhappy" in error) == ("unhappy" in code)


def test_output_environment_and_directory_are_the_clients(server: RunningForkServer, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['PREFECT__FLOW_RUN_ID'], os.getcwd()); print('oh', file=sys.stderr)"
    answer = ended(server.path, code, folder=tmp_path, PREFECT__FLOW_RUN_ID="run-7")
    assert answer == (0, f"run-7 {tmp_path}\n", "oh\n")


LISTENS = """
import signal, sys, time
def heard(number, frame):
    print('heard', number, flush=True)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, heard)
print('listening', flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", flow_client.PASSED_ON)
def test_signals_are_passed_on(server: RunningForkServer, number: signal.Signals) -> None:
    process = started(server.path, LISTENS)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, output) == (0, f"heard {int(number)}\n")


def test_a_run_that_does_not_handle_the_signal_ends_by_it(server: RunningForkServer) -> None:
    process = started(server.path, "import time; print('here', flush=True); time.sleep(600)")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGTERM


def test_a_client_killed_takes_the_run_along(server: RunningForkServer) -> None:
    process = started(server.path, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    assert process.stdout is not None
    run = int(process.stdout.readline())
    process.kill()
    process.communicate()
    wait_gone(run, seconds=3)
    wait_until(lambda: not server.children(), seconds=5, what="nothing of the run is left")


def test_a_run_whose_guard_is_killed_ends_and_the_client_says_so(server: RunningForkServer) -> None:
    process = started(server.path, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    assert process.stdout is not None
    run = int(process.stdout.readline())
    psutil.Process(run).parent().kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    wait_gone(run, seconds=3)


def test_runs_at_once_do_not_mix(server: RunningForkServer) -> None:
    code = "import os, sys; print(os.environ['NUMBER']); sys.exit(int(os.environ['NUMBER']))"
    processes = [started(server.path, code, NUMBER=str(number)) for number in range(20)]
    for number, process in enumerate(processes):
        output, error = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, output, error) == (number, f"{number}\n", "")


@contextlib.contextmanager
def listening(path: Path, answer: bytes | None, read: bool = True) -> Iterator[list[bytes]]:
    """Something at ``path`` that gives every client the same answer, or none; what clients sent after it."""
    heard: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    while read and not connection.recv(1 << 20).endswith(b"\n"):
                        pass
                    if answer is not None:
                        connection.sendall(answer)
                        heard.append(connection.recv(100))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_without_a_server_the_client_becomes_the_ordinary_engine(tmp_path: Path) -> None:
    returncode, _, error = ended(tmp_path / "nobody.sock", "", PYTHONPATH=str(ROOT))
    assert returncode == 1
    assert NO_ENGINE in error
    (tmp_path / "told.py").write_text("import sys; print(sys.argv[1:]); sys.exit(4)")
    answer = ended(tmp_path / "nobody.sock", "", "told", "--all", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert answer == (4, "['--all']\n", "")


@pytest.mark.parametrize(
    "answer", [None, b"\n", b"what?\n", b"[1]\n", b"7\n", b'{"refused": "no"}\n', b'{"pid": "x"}\n', b'{"pid": 0}\n']
)
def test_with_an_answer_that_is_none_the_client_becomes_the_ordinary_engine(
    tmp_path: Path, answer: bytes | None
) -> None:
    # The engine is slow to start: an empty module of its name is enough to see that it is started.
    engine = tmp_path / "prefect" / "engine.py"
    engine.parent.mkdir()
    (engine.parent / "__init__.py").touch()
    engine.write_text("import os, sys; print('engine', os.environ['PREFECT__FLOW_RUN_ID']); sys.exit(5)")
    with listening(tmp_path / "s.sock", answer, read=answer is not None) as heard:
        returncode, output, _ = ended(
            tmp_path / "s.sock", "", PYTHONPATH=str(tmp_path), PREFECT__FLOW_RUN_ID="run-9", folder=tmp_path
        )
    assert (returncode, output) == (5, "engine run-9\n")
    assert heard in ([], [b""])  # it was never told to go


def test_the_client_is_quick(server: RunningForkServer) -> None:
    """It stands in for every run, so it must cost next to nothing: most of it is the interpreter itself."""
    begun = time.monotonic()
    for _ in range(5):
        assert ended(server.path, "")[0] == 0
    assert (time.monotonic() - begun) / 5 < slowness()


def test_the_real_server_of_flow_runs_goes_on_as_the_engine_would(tmp_path: Path) -> None:
    """With the client's settings, not the server's."""
    with fork_server(
        tmp_path,
        "-m",
        "medisync.fastlane.flow_runs",
        "SOCKET",
        PREFECT_HOME=str(tmp_path / "servers"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        OPENBLAS_NUM_THREADS="4",  # which it must make right by itself
    ) as running:
        assert len(os.listdir(f"/proc/{running.process.pid}/task")) == 1
        home = {"PREFECT_HOME": str(tmp_path / "clients"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        returncode, _, error = ended(running.path, "", **home)
        assert returncode == 1
        assert NO_ENGINE in error
        returncode, _, error = ended(
            running.path,
            "",
            **home,
            PREFECT__FLOW_RUN_ID="11111111-2222-3333-4444-555555555555",
            PREFECT_API_URL="http://127.0.0.1:9/api",
            PREFECT_CLIENT_MAX_RETRIES="0",
        )
        assert returncode == 1
        assert "11111111-2222-3333-4444-555555555555" in error
        assert "127.0.0.1:9" in error or "ConnectError" in error, error
        assert ended(running.path, "", "prefect", "--version", **home) == (0, f"{metadata.version('prefect')}\n", "")
