"""The SQLite of DuckDB's extension waits for milliseconds where it was built to wait for whole seconds."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medisync.lake import sqlite_waits
from medisync.lake.extensions import open_duckdb
from tests.support.running import wait_until

HOLDS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
"""
ENOUGH = 4


def test_whoever_meets_another_waits_for_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should SQLite ask for less than a second itself one day, ``sqlite_waits`` can go."""
    asked: list[tuple[int, float]] = []
    seconds_of = sqlite_waits.sleep_seconds

    def noted(microseconds: int) -> float:
        asked.append((microseconds, seconds_of(microseconds)))
        return asked[-1][1]

    monkeypatch.setattr(sqlite_waits, "sleep_seconds", noted)
    file = tmp_path / "file.sqlite"
    made = sqlite3.connect(file)
    made.executescript("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7);")
    made.close()
    connection = open_duckdb("sqlite_scanner", threads=1)
    connection.execute(f"ATTACH '{file}' AS other (TYPE sqlite, BUSY_TIMEOUT 600000)")
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    found: list[object] = []
    asking = threading.Thread(target=lambda: found.extend(connection.execute("SELECT n FROM other.t").fetchall()))
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        asking.start()
        wait_until(lambda: len(asked) >= ENOUGH, seconds=60, what="it has waited a few times", every=0.01)
        assert found == []
    finally:
        holder.communicate(b"\n")
    asking.join(60)
    connection.close()
    assert found == [(7,)]
    assert {microseconds for microseconds, _ in asked} == {1_000_000}
    assert all(seconds < 1 for _, seconds in asked[:ENOUGH])


def test_a_wait_doubles_up_to_what_was_asked_for_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(sqlite_waits.time, "monotonic", lambda: now)
    monkeypatch.setattr(sqlite_waits, "_sleeps", {})
    slept = []
    for _ in range(30):
        slept.append(sqlite_waits.sleep_seconds(1_000_000))
        now += slept[-1] + 0.001
    assert slept[:4] == [0.001, 0.002, 0.004, 0.008]
    assert slept[-1] == 1.0
    assert 20 < sum(slept) < 30
    now += 1.0
    assert sqlite_waits.sleep_seconds(1_000_000) == 0.001
    assert sqlite_waits.sleep_seconds(39) == 39e-6
