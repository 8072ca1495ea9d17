"""The lake whose catalog is in Postgres does what it does on SQLite."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from medisync import intake
from medisync.backend.choice import backend_of
from medisync.errors import LakeBusyError, NoDataError, WrongProfileError
from medisync.intake import delimited
from medisync.lake import Lake, Snapshot
from medisync.settings import Settings
from medisync.upkeep import health
from tests.support.admissions_csv import admissions, write_csv
from tests.support.postgres import PostgresServer

WRITER = """
from medisync.lake import Lake
from medisync.settings import load_settings

lake = Lake(load_settings())
for _ in range(3):
    with lake.transaction("a version") as cursor:
        found = cursor.execute("SELECT coalesce(max(version), 0) FROM clinical.table_versions").fetchone()[0]
        cursor.execute("INSERT INTO clinical.table_versions VALUES ('t', ?, 'd', now()::TIMESTAMP)", [found + 1])
"""
HOLDER = """
import time

from medisync.lake import Lake
from medisync.settings import load_settings

with Lake(load_settings()).lock():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def lake(server_workspace: Settings) -> Lake:
    return Lake(server_workspace)


def add(lake: Lake, version: int) -> None:
    with lake.transaction("a version", extra={"number": version}) as transaction:
        transaction.execute("INSERT INTO clinical.table_versions VALUES ('t', ?, 'd', now()::TIMESTAMP)", [version])


def versions(reader: Lake | Snapshot) -> list[int]:
    rows = reader.query("SELECT version FROM clinical.table_versions ORDER BY version")
    return [int(row["version"]) for row in rows] if isinstance(rows, list) else [int(one) for one in rows["version"]]


@pytest.mark.parametrize("large_bytes", [delimited.LARGE_BYTES, 1], ids=["small", "large"])
def test_a_delivery_is_loaded_and_each_snapshot_stays_as_it_was(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_bytes: int
) -> None:
    """What is made of a large one becomes a file of the lake as it is."""
    monkeypatch.setattr(delimited, "LARGE_BYTES", large_bytes)
    assert lake.last_snapshot_id() is None
    with pytest.raises(NoDataError, match="no data yet"):
        Snapshot(lake.settings)
    first = intake.ingest(lake, write_csv(tmp_path / "a.csv", admissions(20)))
    before = lake.last_snapshot_id()
    second = intake.ingest(lake, write_csv(tmp_path / "b.csv", admissions(30, start=10)))
    assert (first.created, second.created, second.unchanged) == (20, 20, 10)
    given = list((lake.files / "clinical").glob(f"*/{first.delivery_id}-*.parquet"))
    assert len(given) == (4 if large_bytes == 1 else 0)
    counted = "SELECT count(*) AS n FROM clinical.admissions"
    with Snapshot(lake.settings, before) as old, Snapshot(lake.settings) as new:
        assert (int(old.query(counted)["n"][0]), int(new.query(counted)["n"][0])) == (20, 40)
        assert new.snapshot_id == lake.last_snapshot_id()
    assert all(look.is_well for look in health.examine(lake)), health.examine(lake)
    assert not lake.settings.catalog_file.exists()
    assert not lake.settings.ledger.exists()


def test_writers_in_processes_of_their_own_lose_nothing(lake: Lake) -> None:
    lake.connection()
    running = [subprocess.Popen([sys.executable, "-c", WRITER], stderr=subprocess.PIPE) for _ in range(2)]
    newest = lake.last_snapshot_id()
    assert newest is not None
    while any(one.poll() is None for one in running):
        found = lake.last_snapshot_id()
        assert found is not None
        assert found >= newest
        newest = found
    assert [one.communicate()[1] for one in running] == [b""] * 2
    assert versions(lake) == list(range(1, 7))


def test_an_error_rolls_all_of_it_back_and_frees_the_lock(lake: Lake) -> None:
    add(lake, 1)
    snapshot = lake.last_snapshot_id()
    with pytest.raises(duckdb.Error), lake.transaction("wrong") as transaction:
        transaction.execute("INSERT INTO clinical.table_versions VALUES (NULL, 1, 'd', now()::TIMESTAMP)")
    assert lake.last_snapshot_id() == snapshot
    with lake.lock(seconds=0):
        pass


def test_who_waits_too_long_for_the_lock_is_told(lake: Lake) -> None:
    with lake.lock(seconds=0):
        for seconds in (0.0, 0.05):
            with pytest.raises(LakeBusyError, match=f"more than {seconds:g} seconds"), lake.lock(seconds=seconds):
                pass


def test_the_lock_is_free_when_its_holder_is_killed(lake: Lake) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        _wait_and_kill(lake, holder)
    assert versions(lake) == [1]


def _wait_and_kill(lake: Lake, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(LakeBusyError), lake.lock(seconds=0):
        pass
    waiting = threading.Thread(target=lambda: add(lake, 1))
    waiting.start()
    holder.kill()
    holder.wait()
    waiting.join()


def test_a_workspace_is_not_opened_in_the_other_kind_of_database(
    workspace: Settings, server_workspace: Settings
) -> None:
    """Both have the same folder: the second only has other settings."""
    assert workspace.data == server_workspace.data
    Lake(workspace).connection().close()
    with pytest.raises(WrongProfileError, match="lie in SQLite files"):
        Lake(server_workspace)
    workspace.catalog_file.unlink()
    Lake(server_workspace).connection().close()
    with pytest.raises(WrongProfileError, match=r"lie in Postgres \(t\w+ on /"):
        Lake(workspace)


def test_a_process_without_duckdb_is_told_the_newest_snapshot(lake: Lake) -> None:
    assert backend_of(lake.settings).peek_newest() is None
    add(lake, 1)
    assert backend_of(lake.settings).peek_newest() == lake.last_snapshot_id()


def test_no_transaction_stays_open_in_the_database(lake: Lake, postgres: PostgresServer) -> None:
    """One that did would keep others from building an index, and Postgres from tidying up."""
    add(lake, 1)
    with Snapshot(lake.settings) as snapshot:
        assert versions(lake) == versions(snapshot) == [1]
        with postgres.connect(lake.settings.database_url.partition("?")[0].rsplit("/", 1)[1]) as connection:
            rows = connection.execute(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
                "AND pid <> pg_backend_pid()"
            ).fetchall()
    assert rows == []
