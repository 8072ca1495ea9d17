"""The newest snapshot's number is right whenever it is asked for, and seldom costs a question to the lake."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from medisync.backend.newest import CERTAIN_SECONDS, SETTLE_SECONDS, Newest
from medisync.lake import Lake
from medisync.settings import Settings

COMMITS = 8


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(Settings(data=tmp_path / "data", reports=tmp_path / "reports"))
    assert made.last_snapshot_id() is None  # before it exists; asking makes none
    assert not made.exists
    made.connection()
    return made


def commit(lake: Lake, number: int) -> None:
    with lake.transaction("a view") as cursor:
        cursor.execute(f"CREATE OR REPLACE VIEW lake.main.numbered AS SELECT {number} AS n")


def number_of(lake: Lake) -> int:
    return int(lake.query("SELECT id FROM lake.current_snapshot()")[0]["id"])


def test_a_commit_that_was_asked_about_while_it_was_written_is_not_missed(lake: Lake) -> None:
    """The files change before the commit can be read: an answer of that moment must not stay."""
    reader = Lake(lake.settings)
    newest = reader.last_snapshot_id
    for number in range(COMMITS):
        writing = threading.Thread(target=commit, args=(lake, number))
        writing.start()
        while writing.is_alive():
            newest()
        writing.join()
        assert newest() == number_of(lake)
    reader.close()
    lake.close()


def test_while_nothing_happens_the_lake_is_asked_once_in_a_while(lake: Lake) -> None:
    now = [0.0]
    asked: list[float] = []

    def ask() -> int:
        asked.append(now[0])
        return number_of(lake)

    newest = Newest(lake.settings.catalog_file, ask, clock=lambda: now[0])
    first = newest()
    for step in range(100):
        now[0] = SETTLE_SECONDS + step * CERTAIN_SECONDS / 10
        assert newest() == first
    assert len(asked) == 1 + 10  # at first, and every tenth time
    commit(lake, 1)
    assert newest() == first + 1
    now[0] -= 3600  # no clock of ours is set back; if it were, the number is right still
    commit(lake, 2)
    assert newest() == first + 2
    lake.close()


def test_within_one_tick_of_the_file_systems_clock_the_lake_is_asked_again(lake: Lake) -> None:
    """Two commits may leave files that look alike."""
    now, number = [0.0], [7]

    newest = Newest(lake.settings.catalog_file, lambda: number[0], clock=lambda: now[0])
    assert newest() == 7
    number[0], now[0] = 8, SETTLE_SECONDS / 2
    assert newest() == 8


def test_after_a_failure_the_lake_is_asked_again(lake: Lake) -> None:
    answers: list[int] = []
    now = [0.0]
    newest = Newest(lake.settings.catalog_file, lambda: answers.pop(), clock=lambda: now[0])
    for _ in range(2):
        with pytest.raises(IndexError):
            newest()
        now[0] += SETTLE_SECONDS + 0.1
    answers.append(3)
    assert newest() == 3
