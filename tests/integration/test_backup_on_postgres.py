"""A workspace in Postgres is backed up into files, and restored from them into files or another database."""

from __future__ import annotations

from pathlib import Path

import pytest

from medisync import intake
from medisync.backend.choice import backend_of
from medisync.lake import Lake
from medisync.ledger import Claims, open_ledger
from medisync.runs.publishing import publish
from medisync.runs.releasing import released_document
from medisync.settings import Settings
from medisync.upkeep import catalog_copy, health
from medisync.upkeep.backup import BackupTargetError, backup
from medisync.upkeep.manifest import BackupDamagedError
from medisync.upkeep.migration import MigrationError
from medisync.upkeep.restore import NotEmptyError, restore
from tests.integration.test_backup import elsewhere, spoil_parquet, tables
from tests.integration.test_migration import ledger_rows
from tests.support import odd_lake
from tests.support.admissions_csv import admissions, write_csv
from tests.support.postgres import PostgresServer
from tests.unit.disclosure.test_release import grid
from tests.unit.disclosure.test_releasing import record


@pytest.fixture
def full(server_workspace: Settings, tmp_path: Path) -> Lake:
    """Two deliveries, the second deleting rows of the first, two runs whose rows lie in the catalog, odd values."""
    lake = Lake(server_workspace)
    odd_lake.fill(lake, tmp_path)
    Claims(open_ledger(server_workspace)).add("d1", "default")
    return lake


def of_files(tmp_path: Path) -> Settings:
    """Another workspace, on one machine."""
    return elsewhere(tmp_path / "files").model_copy(update={"profile": "local", "database_url": ""})


def served(tmp_path: Path, postgres: PostgresServer) -> Settings:
    """Another workspace, on an empty database, with its lake's files in a folder of their own."""
    return elsewhere(tmp_path).model_copy(
        update={
            "profile": "server",
            "database_url": postgres.url(postgres.new_database()),
            "lake_files": str(tmp_path / "shared"),
        }
    )


def test_it_is_restored_into_files_and_into_another_database(
    full: Lake, tmp_path: Path, postgres: PostgresServer
) -> None:
    newest = full.last_snapshot_id()
    assert newest is not None
    pinned = (newest, newest - 2, newest - 4)
    before = {number: tables(full.settings, number) for number in pinned}
    rows = ledger_rows(full.settings)
    report = backup(full, tmp_path / "backups")
    assert report.snapshot == newest
    for target in (of_files(tmp_path), served(tmp_path, postgres)):
        assert restore(target, tmp_path / "backups").snapshot == newest
        assert {number: tables(target, number) for number in pinned} == before
        assert ledger_rows(target) == rows
        other = Lake(target)
        assert released_document(other, "r2") == released_document(full, "r2")
        assert health.databases(other, False).is_well
        assert health.data_files(other, False).is_well
        later = intake.ingest(other, write_csv(tmp_path / "third.csv", admissions(35)))  # and life goes on
        assert (later.created, later.unchanged) == (11, 24)
        publish(other, record(other, "r3"), grid([[70, 3]], margins=False))
        other.close()
        assert target.is_server or target.catalog_file.exists()
        assert not (target.is_server and list(target.data.rglob("*.sqlite")))
        with pytest.raises(NotEmptyError):
            restore(target, tmp_path / "backups")


def test_what_cannot_be_restored_leaves_nothing_and_is_tried_again(
    full: Lake, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackupTargetError, match="history of flow runs"):
        backup(full, tmp_path / "backups", with_prefect=True)
    assert not (tmp_path / "backups").exists()
    report = backup(full, tmp_path / "backups")
    target = served(tmp_path, postgres)

    def differ(*_: object) -> int:
        raise catalog_copy.DifferenceError("one row differs")

    with monkeypatch.context() as patched:
        patched.setattr(catalog_copy, "compare_contents", differ)
        with pytest.raises(MigrationError, match="one row differs"):
            restore(target, tmp_path / "backups")
    assert not backend_of(target).has_lake()
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    restore(target, tmp_path / "backups")
    assert len(tables(target, report.snapshot)) > 5
    spoil_parquet(Path(report.folder))
    third = served(tmp_path / "third", postgres)
    with pytest.raises(BackupDamagedError, match="is not what was backed up"):
        restore(third, tmp_path / "backups")
    assert not backend_of(third).has_lake()
    assert not third.data.exists()
