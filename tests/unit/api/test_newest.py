"""The newest snapshot's number is right whenever it is asked for, and seldom costs a question to the lake."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from medisync.api.newest import CERTAIN_SECONDS, SETTLE_SECONDS, Newest
from medisync.lake import Lake
from medisync.settings import Settings

COMMITS = 8


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(Settings(data=tmp_path / "data", reports=tmp_path / "reports"))
    assert Newest(made)() == 0  # before it exists; asking makes none
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
    newest = Newest(reader)
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

    class Counted(Lake):
        def connection(self):  # type: ignore[no-untyped-def]
            asked.append(now[0])
            return super().connection()

    newest = Newest(Counted(lake.settings), clock=lambda: now[0])
    first = newest()
    for step in range(100):
        now[0] = SETTLE_SECONDS + step * CERTAIN_SECONDS / 10
        assert newest() == first
    assert 10 <= len(asked) <= 20  # opening the lake may move its files, too
    commit(lake, 1)
    assert newest() == first + 1
    now[0] -= 3600  # no clock of ours is set back; if it were, the number is right still
    commit(lake, 2)
    assert newest() == first + 2
    lake.close()
