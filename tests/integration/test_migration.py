"""A workspace of one machine moves to Postgres: every row and every snapshot is the same there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medisync.access import audit
from medisync.backend import postgres as postgres_backend
from medisync.backend.choice import backend_of
from medisync.cli.main import app
from medisync.errors import DatabaseAwayError, NoDataError, SettingsError, WrongProfileError
from medisync.lake import Lake
from medisync.ledger import Claims, open_ledger
from medisync.ledger.engine import metadata
from medisync.runs.releasing import released_document
from medisync.settings import Settings
from medisync.upkeep import health, migration
from medisync.upkeep.migration import MigrationError, migrate
from tests.integration.test_backup import tables
from tests.support import odd_lake
from tests.support.postgres import PostgresServer


@pytest.fixture
def moving(workspace: Settings, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A workspace told of an empty database."""
    url = postgres.url(postgres.new_database())
    monkeypatch.setenv("MEDISYNC_DATABASE_URL", url)
    return workspace.model_copy(update={"database_url": url})


@pytest.fixture
def full(moving: Settings, tmp_path: Path) -> Settings:
    """Two deliveries, the second deleting rows of the first, two runs with odd texts, claims and an audit log."""
    lake = Lake(moving)
    odd_lake.fill(lake, tmp_path)
    ledger = open_ledger(moving)
    Claims(ledger).add("d1", "default")
    for number in range(3):
        audit.record(ledger, "somebody", "trigger", f"run {number}")
    ledger.dispose()
    lake.close()
    return moving


def served(settings: Settings) -> Settings:
    return settings.model_copy(update={"profile": "server"})


def fingerprint(settings: Settings) -> dict[str, str]:
    files = [settings.catalog_file, settings.ledger, *settings.lake_folder.rglob("*.parquet")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ledger_rows(settings: Settings) -> dict[str, list[str]]:
    ledger = open_ledger(settings)
    with ledger.begin() as connection:
        found = {table.name: sorted(map(str, connection.execute(sa.select(table)))) for table in metadata.sorted_tables}
    ledger.dispose()
    return found


def test_everything_is_there_and_the_source_stays_as_it_was(full: Settings) -> None:
    lake = Lake(full)
    newest = lake.last_snapshot_id()
    assert newest is not None
    pinned = sorted({newest, newest - 1, newest - 3})  # rows in the catalog, and in files
    before = {number: tables(full, number) for number in pinned}
    rows = ledger_rows(full)
    lake.close()
    files = fingerprint(full)

    result = CliRunner().invoke(app, ["migrate"])
    assert result.exit_code == 0, result.output
    assert "every row compared" in result.output
    assert "Prefect's history of flow runs was not moved" in result.output

    assert fingerprint(full) == files
    with pytest.raises(WrongProfileError, match="lie in Postgres"):
        Lake(full)
    moved = Lake(served(full))
    assert moved.last_snapshot_id() == newest
    assert {number: tables(moved.settings, number) for number in pinned} == before
    assert ledger_rows(moved.settings) == rows
    document = released_document(moved, "r2")
    assert document is not None
    assert audit.verify(open_ledger(moved.settings)).number == 3
    assert health.databases(moved, False).is_well
    assert health.data_files(moved, False).is_well
    with moved.transaction("goes on") as transaction:
        transaction.execute("DELETE FROM analytics.surges WHERE run_id = 'r1'")
    assert moved.last_snapshot_id() == newest + 1
    assert moved.query("SELECT count(*) AS n FROM analytics.surges") == [{"n": 0}]
    assert not migrate(full).is_new, "a second time there is nothing to do"
    moved.close()


@pytest.mark.parametrize("moment", ["_finish", "note_server"])
def test_after_a_crash_it_is_done_again_and_nothing_half_moved_is_used(full: Settings, moment: str) -> None:
    files = fingerprint(full)
    code = (
        "import os; from medisync.settings import load_settings; from medisync.upkeep import migration\n"
        f"migration.{moment} = lambda *_: os._exit(9)\n"
        "migration.migrate(load_settings())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert fingerprint(full) == files
    with pytest.raises(WrongProfileError, match="medisync migrate"):
        backend_of(served(full))
    assert Lake(full).query("SELECT count(*) AS n FROM clinical.deliveries") == [{"n": 2}]
    report = migrate(full)
    assert report.is_new
    assert report.ledger_rows["claims"] == 1
    assert Lake(served(full)).query("SELECT count(*) AS n FROM clinical.deliveries") == [{"n": 2}]


def test_what_differs_is_not_put_into_use(
    full: Settings, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    real = migration.ledger_copy.copy

    def wrong(file: Path, address: migration.Address, schema: str) -> None:
        real(file, address, schema)
        with address.connect() as connection:
            connection.execute(f"UPDATE {schema}.audit_log SET who = 'nobody' WHERE number = 2")

    monkeypatch.setattr(migration.ledger_copy, "copy", wrong)
    with pytest.raises(MigrationError, match=r"1 rows of the ledger's audit_log differ"):
        migrate(full)
    monkeypatch.undo()
    with postgres.connect(full.database_url.partition("?")[0].rsplit("/", 1)[1]) as connection:
        assert connection.execute("SELECT to_regclass('lake.ducklake_snapshot')").fetchone() == (None,)


def test_a_database_that_holds_something_else_is_refused(
    full: Settings, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Settings(data=tmp_path / "other", reports=tmp_path / "r", profile="server", database_url=full.database_url)
    Lake(other).connection().close()
    with pytest.raises(MigrationError, match="holds another lake"):
        migrate(full)
    assert Lake(full).exists
    monkeypatch.setattr(postgres_backend, "WRITER_SECONDS", 0.1)  # it will not come
    away = full.model_copy(update={"database_url": postgres.url("nowhere")})
    with pytest.raises(DatabaseAwayError, match="does not exist"):
        migrate(away)
    with pytest.raises(SettingsError, match="MEDISYNC_DATABASE_URL is not set"):
        migrate(full.model_copy(update={"database_url": ""}))


def test_an_empty_workspace_has_nothing_to_move(moving: Settings) -> None:
    with pytest.raises(NoDataError, match="no workspace to move"):
        migrate(moving)
