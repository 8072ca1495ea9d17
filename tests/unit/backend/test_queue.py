"""A lock of files goes to those who wait in the order they came, and to nobody's ghost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medisync.backend.locks import file_lock
from medisync.errors import LockBusyError
from tests.support.running import PATIENCE_SECONDS, wait_until

WAITER = """
import sys
from pathlib import Path
from medisync.backend.locks import file_lock

with file_lock(Path(sys.argv[1]), seconds=600):
    pass
"""


def places(lock: Path) -> list[str]:
    folder = lock.with_name(f"{lock.name}.queue")
    return [one for one in os.listdir(folder) if not one.startswith(".")] if folder.exists() else []


def queued(lock: Path, number: int) -> None:
    wait_until(lambda: len(places(lock)) == number, seconds=PATIENCE_SECONDS, what=f"{number} wait", every=0.01)


def waiter(lock: Path, had: list[int], number: int) -> threading.Thread:
    """A thread that notes its ``number`` when it has the lock."""

    def wait() -> None:
        with file_lock(lock, seconds=PATIENCE_SECONDS):
            had.append(number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def waiting_process(lock: Path) -> subprocess.Popen[bytes]:
    """A process that is the only one in the queue."""
    process = subprocess.Popen([sys.executable, "-c", WAITER, str(lock)])
    queued(lock, 1)
    return process


def test_those_who_wait_have_it_in_the_order_they_came(tmp_path: Path) -> None:
    lock, had, threads = tmp_path / "some.lock", list[int](), list[threading.Thread]()
    with file_lock(lock, seconds=0):
        for number in range(4):
            threads.append(waiter(lock, had, number))
            queued(lock, number + 1)
    for thread in threads:
        thread.join()
    assert had == [0, 1, 2, 3]
    assert places(lock) == []


def test_who_died_waiting_holds_up_nobody(tmp_path: Path) -> None:
    lock, had = tmp_path / "some.lock", list[int]()
    with file_lock(lock, seconds=0):
        first = waiting_process(lock)
        thread = waiter(lock, had, 1)
        queued(lock, 2)
        first.kill()
        first.wait()
    thread.join()
    assert had == [1]
    assert places(lock) == []


def test_the_place_of_who_died_is_taken_away_by_the_next_to_wait(tmp_path: Path) -> None:
    lock, had = tmp_path / "some.lock", list[int]()
    with file_lock(lock, seconds=0):
        first = waiting_process(lock)
        first.kill()
        first.wait()
        assert len(places(lock)) == 1
        thread = waiter(lock, had, 1)
    thread.join()
    assert had == [1]
    assert places(lock) == []


def test_who_gave_up_waiting_has_left(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    with file_lock(lock, seconds=0):
        for seconds in (0, 0.02):
            with pytest.raises(LockBusyError), file_lock(lock, seconds=seconds):
                pass
        assert places(lock) == []
    with file_lock(lock, seconds=0.02):
        pass
