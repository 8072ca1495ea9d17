"""Garbage that has to wait for a lock holds up the collector's thread, not the event loop; sockets hold up nobody."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# What happens in Prefect's server: the event loop's thread holds the write lock of one connection and has to go on to
# release it; a second connection waits for that lock in a thread; a forgotten cursor of it hangs in a cycle.
SCENE = """
    import gc, sqlite3, sys, threading, time
    from medisync.supervisor.prefect_server import collect_beside

    file = sys.argv[1]
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("CREATE TABLE numbers (i INTEGER)")
    waiter = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=float(sys.argv[3]))
    waiter.execute("ATTACH ':memory:' AS memory")
    waiter.execute("CREATE TABLE memory.letters AS SELECT column1 AS letter FROM (VALUES ('a'), ('b'))")

    class Forgotten:
        def __del__(self):
            said.append(threading.current_thread().name)

    said = []
    def forget():
        one = Forgotten()
        one.cursor = waiter.cursor()
        one.cursor.execute("SELECT letter FROM memory.letters")
        one.cursor.fetchone()
        one.itself = one

    gc.disable()
    forget()
    holder.execute("BEGIN IMMEDIATE")
    answers = []
    def wait():
        try:
            answers.append(waiter.execute("BEGIN IMMEDIATE").rowcount)
        except sqlite3.OperationalError as error:
            answers.append(str(error))

    thread = threading.Thread(target=wait)
    begun = threading.Event()
    waiter.set_trace_callback(lambda statement: begun.set())
    thread.start()
    begun.wait()  # from here on the waiting statement has its connection to itself
    if sys.argv[2] == "beside":
        collect_beside(0.01)
        while not said:
            time.sleep(0.01)
    else:
        gc.collect()
    holder.execute("COMMIT")
    thread.join()
    print(answers[0], *said, gc.isenabled(), sep="|")
"""


def played(folder: Path, where: str, busy_seconds: float) -> str:
    scene = folder / "scene.py"
    scene.write_text(textwrap.dedent(SCENE), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(scene), str(folder / "some.db"), where, str(busy_seconds)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_holder_of_the_lock_goes_on(tmp_path: Path) -> None:
    assert played(tmp_path, "beside", 60) == "-1|garbage collector|False"


def test_in_the_holders_own_thread_nothing_would_go_on(tmp_path: Path) -> None:
    """Why this is there at all: should it end otherwise, the module is no longer needed."""
    # The error's text is asked for after the error, and what the other thread did in between may have replaced it.
    answers = {f"{message}|MainThread|False" for message in ("database is locked", "not an error")}
    assert played(tmp_path, "here", 1) in answers


async def answered_beside(kind: str) -> bool:
    """Whether a server that answers one request at a time, as Prefect limits itself, answers one beside an open
    socket or an unfinished request."""
    from prefect.server.api.server import RequestLimitMiddleware

    async def app(scope: dict[str, str], receive: None, send: None) -> None:
        del receive, send
        if scope["path"] == "/open":
            await asyncio.Event().wait()

    server = RequestLimitMiddleware(app, limit=1)
    tasks = [
        asyncio.create_task(server({"type": one, "path": path}, None, None))
        for one, path in ((kind, "/open"), ("http", "/health"))
    ]
    for _ in range(20):  # nothing here waits for anything but the limit
        await asyncio.sleep(0)
    is_done = tasks[1].done()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return is_done


def test_open_sockets_leave_room_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api.server import RequestLimitMiddleware

    from medisync.supervisor.prefect_server import let_sockets_pass

    monkeypatch.setattr(RequestLimitMiddleware, "__call__", RequestLimitMiddleware.__call__)
    # Why this is there at all: should the stock server answer, it is no longer needed.
    assert not asyncio.run(answered_beside("websocket"))
    let_sockets_pass()
    assert asyncio.run(answered_beside("websocket"))
    assert not asyncio.run(answered_beside("http"))
