"""A real fork server: its protocol, what it survives, what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from medisync.fastlane import guard
from tests.support.fork_servers import (
    ROOT,
    RUNS_CODE,
    Connection,
    RunningForkServer,
    fork_server,
    is_gone,
    run_code,
    wait_gone,
)
from tests.support.pace import slowness
from tests.support.running import PATIENCE_SECONDS, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForkServer]:
    with fork_server(tmp_path_factory.mktemp("fork")) as running:
        yield running


def writes(expression: str, path: Path) -> str:
    """Code that writes the JSON of ``expression``."""
    return f"import json, os, sys, random, time\nopen({str(path)!r}, 'w').write(json.dumps({expression}))"


def told(server: RunningForkServer, expression: str, tmp_path: Path, **changes: Any) -> Any:
    """The value of ``expression`` in a child."""
    path = tmp_path / "told.json"
    assert run_code(server.path, writes(expression, path), **changes) == {"exit": 0}
    return json.loads(path.read_text())


def test_the_socket_is_for_its_owner_alone_and_the_server_has_one_thread(server: RunningForkServer) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) == 1


def test_a_child_leads_a_session_and_group_of_its_own(server: RunningForkServer, tmp_path: Path) -> None:
    pid, session, group = told(server, "[os.getpid(), os.getsid(0), os.getpgrp()]", tmp_path)
    assert pid == session == group
    assert pid != server.process.pid


def test_a_child_has_the_environment_directory_and_search_path_of_the_request(
    server: RunningForkServer, tmp_path: Path
) -> None:
    own = {"HOME": "/nowhere", "TZ": "Asia/Tokyo", "PYTHONPATH": "/a/b::/c", "ODD": "\udcff=ü\n"}
    expression = "[dict(os.environ), os.getcwd(), sys.path[:3], time.tzname[0], os.read(0, 1).decode()]"
    environment, directory, path, zone, typed = told(
        server, expression, tmp_path, environment=own, directory=str(tmp_path)
    )
    assert (environment, directory, path) == (own, str(tmp_path), [str(tmp_path), "/a/b", str(tmp_path)])
    assert zone == "JST"
    assert typed == ""


def test_random_numbers_differ_between_children(tmp_path: Path) -> None:
    with fork_server(tmp_path, str(script_in(tmp_path)), "SOCKET", "numpy.random") as running:
        expression = (
            "[random.random(), __import__('numpy').random.rand(), __import__('numpy').random.default_rng().random()]"
        )
        first, second = (told(running, expression, tmp_path) for _ in range(2))
    assert len({*first, *second}) == 6


def script_in(folder: Path) -> Path:
    script = folder / "server_script.py"
    script.write_text(RUNS_CODE, encoding="utf-8")
    return script


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("", 0),
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit(-1)", 255),
        ("import sys; sys.exit('a reason')", 1),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
    ],
)
def test_the_end_of_a_child_is_told_as_it_was(server: RunningForkServer, code: str, ending: int) -> None:
    assert run_code(server.path, code) == {"exit": ending}


def test_a_child_ends_as_an_interpreter_does(server: RunningForkServer, tmp_path: Path) -> None:
    """Exit handlers run and threads are waited for: Prefect flushes its logs there."""
    mark = tmp_path / "mark"
    code = f"""
import atexit, threading, time
def note(what):
    with open({str(mark)!r}, 'a') as file: file.write(what)
atexit.register(note, 'c')
threading._register_atexit(note, 'a')
threading.Thread(target=lambda: (time.sleep(0.3), note('b'))).start()
"""
    assert run_code(server.path, code) == {"exit": 0}
    assert mark.read_text() == "abc"


def test_outputs_are_those_sent_along_and_errors_are_shown_there(server: RunningForkServer) -> None:
    reading, writing = os.pipe()
    with Connection(server.path) as connection:
        assert "pid" in connection.ask(
            "import sys; print('out'); print('err', file=sys.stderr); 1 / 0", outputs=[writing, writing]
        )
        os.close(writing)
        connection.go()
        assert connection.answer() == {"exit": 1}
    with os.fdopen(reading) as output:
        text = output.read()  # ends only when nobody holds the other end any more
    assert "out\n" in text
    assert "err\n" in text
    assert "ZeroDivisionError" in text


def test_a_request_longer_than_one_packet_is_read_with_its_descriptors(server: RunningForkServer) -> None:
    reading, writing = os.pipe()
    with Connection(server.path) as connection:
        environment = {"LONG": "x" * 3_000_000, "PATH": "/bin"}
        code = "import os; print(len(os.environ['LONG']))"
        assert "pid" in connection.ask(code, outputs=[writing, writing], environment=environment)
        os.close(writing)
        connection.go()
        assert connection.answer() == {"exit": 0}
    with os.fdopen(reading) as output:
        assert output.read() == "3000000\n"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"no json\n",
        b"[]\n",
        b"7\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"arguments": "x", "environment": {}, "directory": "/"}\n',
        b'{"arguments": [1], "environment": {}, "directory": "/"}\n',
        b'{"arguments": [], "environment": {"A": 1}, "directory": "/"}\n',
        b'{"arguments": [], "environment": {"A=B": "x\\u0000"}, "directory": "/"}\n',
        b'{"arguments": [], "environment": {}, "directory": "/nowhere/at/all"}\n',
        b'{"arguments": [], "environment": {}, "directory": null}\n',
    ],
    ids=lambda line: line[:60].decode(errors="replace"),
)
def test_what_is_no_request_is_refused_and_the_server_goes_on(server: RunningForkServer, line: bytes) -> None:
    with Connection(server.path) as connection:
        connection.socket.sendall(line)
        assert list(connection.answer()) == ["refused"]
    assert run_code(server.path, "") == {"exit": 0}


def test_an_oversized_request_is_cut_off_and_the_server_goes_on(server: RunningForkServer) -> None:
    taken = 0
    with Connection(server.path) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while taken < 4 * guard.REQUEST_BYTES:
            taken += connection.socket.send(b"x" * 65536)
    assert guard.REQUEST_BYTES < taken < 2 * guard.REQUEST_BYTES
    assert run_code(server.path, "") == {"exit": 0}


def test_half_a_request_is_answered_and_the_server_goes_on(server: RunningForkServer) -> None:
    with Connection(server.path) as connection:
        connection.socket.sendall(b'{"arguments": [')
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer() == {"refused": "the request is not complete"}
    with Connection(server.path):
        pass
    assert run_code(server.path, "") == {"exit": 0}


def test_a_client_that_says_nothing_holds_nobody_up(server: RunningForkServer) -> None:
    with Connection(server.path) as silent, Connection(server.path) as slow:
        slow.socket.sendall(b'{"arguments"')
        begun = time.monotonic()
        assert run_code(server.path, "") == {"exit": 0}
        assert time.monotonic() - begun < (guard.REQUEST_SECONDS - 1) * slowness()
        assert silent.answer() == {"refused": "TimeoutError"}
        assert "refused" in slow.answer()
    wait_until(lambda: not server.children(), seconds=5, what="the silent clients' guards end")


def test_a_client_that_stopped_waiting_gets_nothing_done(server: RunningForkServer, tmp_path: Path) -> None:
    """Else the work would be done twice: by the child, and by the client's own fallback."""
    done = tmp_path / "done"
    with Connection(server.path) as connection:
        pid = connection.ask(writes("1", done))["pid"]
    wait_gone(pid, seconds=5)
    assert not done.exists()


def test_fifty_requests_at_once_are_all_answered(server: RunningForkServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: run_code(server.path, writes("1", tmp_path / str(number))), range(50)))
    assert answers == [{"exit": 0}] * 50
    assert len(list(tmp_path.iterdir())) == 50


def test_two_hundred_requests_leave_no_descriptor_no_zombie_and_no_memory(server: RunningForkServer) -> None:
    reading, writing = os.pipe()
    process = psutil.Process(server.process.pid)
    run_code(server.path, "")
    before, resident = server.descriptors(), process.memory_info().rss
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: one_of_many(server, writing), range(200)))
    os.close(writing)
    os.close(reading)
    wait_until(lambda: not server.children(), seconds=10, what="all children are gone, zombies included")
    assert server.descriptors() == before
    assert process.memory_info().rss < resident + 2_000_000


def one_of_many(server: RunningForkServer, output: int) -> None:
    with Connection(server.path) as connection:
        connection.ask("pass", outputs=[output, output])
        connection.go()
        assert connection.answer() == {"exit": 0}


OWNER = """
import json, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.support.fork_servers import Connection
connection = Connection(Path({path!r}))
print(connection.ask({code!r})["pid"], flush=True)
connection.go()
sys.stdin.read()
"""


def owned(server: RunningForkServer, code: str) -> tuple[subprocess.Popen[str], int]:
    """A process that has asked for a child and lives on, and the child's id."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(root=str(ROOT), path=str(server.path), code=code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def end(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
wait = [sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)']
same = subprocess.Popen(wait, **quiet)
away = subprocess.Popen(wait, start_new_session=True, **quiet)
with open({path!r} + '.draft', 'w') as file: print(same.pid, away.pid, file=file)
os.rename({path!r} + '.draft', {path!r})
{then}
"""


@pytest.mark.parametrize(
    ("then", "seconds"),
    [
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(600)", 3.0),  # as an ipykernel
        ("time.sleep(600)", guard.GRACE_SECONDS + 3),
        ("import re; re.match('(a+)+b', 'a' * 60)", guard.GRACE_SECONDS + 3),  # never lets another thread run
    ],
    ids=["ends when asked", "does not listen", "hogs the interpreter"],
)
def test_no_process_is_left_when_the_owner_is_killed(
    server: RunningForkServer, tmp_path: Path, then: str, seconds: float
) -> None:
    path = tmp_path / "children"
    owner, child = owned(server, STUBBORN.format(path=str(path), then=then))
    wait_until(path.exists, seconds=20, what="the child has children")
    family = [child, *(int(word) for word in path.read_text().split())]
    assert not any(is_gone(pid) for pid in family)
    end(owner)
    for pid in family:
        wait_gone(pid, seconds=seconds)
    wait_until(lambda: not server.children(), seconds=5, what="the guard ends")


def test_what_a_child_leaves_running_ends_with_it(server: RunningForkServer, tmp_path: Path) -> None:
    path = tmp_path / "children"
    with Connection(server.path) as connection:
        connection.ask(STUBBORN.format(path=str(path), then="os._exit(0)"))
        connection.go()
        assert connection.answer() == {"exit": 0}
    assert all(is_gone(int(word)) for word in path.read_text().split())


def test_a_child_ends_with_its_guard(server: RunningForkServer) -> None:
    owner, child = owned(server, "import time; time.sleep(600)")
    guards = psutil.Process(child).ppid()
    assert guards != server.process.pid
    os.kill(guards, signal.SIGKILL)
    wait_gone(child, seconds=5)
    end(owner)


def test_a_guard_asked_to_end_ends_its_child(server: RunningForkServer) -> None:
    owner, child = owned(server, "import time; time.sleep(600)")
    os.kill(psutil.Process(child).ppid(), signal.SIGTERM)
    wait_gone(child, seconds=5)
    end(owner)


def test_children_outlive_a_killed_server_and_still_end_with_their_owner(tmp_path: Path) -> None:
    with fork_server(tmp_path) as running:
        owner, child = owned(running, "import time; time.sleep(600)")
        running.process.kill()
        running.process.wait()
        with pytest.raises(OSError, match="refused"):
            Connection(running.path)
        time.sleep(0.3)
        assert not is_gone(child)
        end(owner)
        wait_gone(child, seconds=5)


def test_asked_to_end_the_server_takes_its_socket_away(tmp_path: Path) -> None:
    with fork_server(tmp_path) as running:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_SECONDS) == 0
        assert not running.path.exists()


def test_changed_code_is_refused_and_served_by_a_new_server(tmp_path: Path) -> None:
    module = tmp_path / "lib" / "changing.py"
    module.parent.mkdir()
    module.write_text("VALUE = 'old'")
    with fork_server(
        tmp_path, str(script_in(tmp_path)), "SOCKET", "changing", PYTHONPATH=str(module.parent)
    ) as running:
        pid = running.process.pid
        assert told(running, "__import__('changing').VALUE", tmp_path) == "old"
        module.write_text("VALUE = 'new'")
        assert run_code(running.path, "") == {"refused": "the code has changed"}
        running.wait_ready(times=2)
        assert running.process.pid == pid
        assert told(running, "__import__('changing').VALUE", tmp_path) == "new"
        module.unlink()
        assert run_code(running.path, "") == {"refused": "the code has changed"}
        assert running.process.wait(20) == 1  # it cannot be imported any more; whoever watches the server is told why
        assert "No module named 'changing'" in running.said()


def test_a_socket_that_disappeared_is_made_again(tmp_path: Path) -> None:
    script = script_in(tmp_path)
    script.write_text(
        RUNS_CODE.replace(
            "def become", "from medisync.fastlane import fork_server\nfork_server.LOOK_SECONDS = 0.2\ndef become"
        )
    )
    with fork_server(tmp_path, str(script), "SOCKET") as running:
        running.path.unlink()
        running.wait_ready(times=2)
        assert run_code(running.path, "") == {"exit": 0}


@pytest.mark.parametrize("module", ["threaded", "threaded_outside_python"])
def test_a_server_with_a_second_thread_does_not_start(tmp_path: Path, module: str) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    (tmp_path / "threaded_outside_python.py").write_text(
        "import duckdb\nopened = duckdb.connect()\nopened.execute('SET threads = 3')"
    )
    done = subprocess.run(
        [sys.executable, str(script_in(tmp_path)), str(tmp_path / "s.sock"), module],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "must have one thread" in done.stderr


def test_duckdb_works_in_children_of_a_server_that_has_imported_it(tmp_path: Path) -> None:
    with fork_server(tmp_path, str(script_in(tmp_path)), "SOCKET", "duckdb") as running:
        assert len(os.listdir(f"/proc/{running.process.pid}/task")) == 1
        query = "SELECT sum(range) FROM range(3000000)"
        for call in (f"duckdb.sql('{query}')", f"duckdb.connect().execute('{query}')"):
            assert (
                told(running, f"int((duckdb := __import__('duckdb')) and {call}.fetchone()[0])", tmp_path)
                == 4499998500000
            )


def test_requests_by_chance_never_stop_the_server(server: RunningForkServer) -> None:
    chance = random.Random(8)

    def noise(_: int) -> None:
        try:
            with Connection(server.path) as connection:
                connection.socket.sendall(
                    chance.randbytes(chance.randrange(2000)) + chance.choice([b"", b"\n", b"{}\n"])
                )
        except OSError:
            return

    threads = [threading.Thread(target=noise, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run_code(server.path, "") == {"exit": 0}
    assert server.process.poll() is None
