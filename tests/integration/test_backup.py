"""Backup while deliveries and runs are committed, restore elsewhere: every table, result and report is the same."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from medisync import intake
from medisync.lake import Lake, Snapshot
from medisync.ledger import open_ledger
from medisync.ledger.released import released_before
from medisync.reports.page import write_report
from medisync.runs.published import result_of
from medisync.runs.publishing import publish
from medisync.runs.record import RunRecord
from medisync.runs.releasing import released_document
from medisync.settings import Settings
from medisync.upkeep.backup import BackupTargetError, backup, newest
from medisync.upkeep.manifest import BackupDamagedError, read_manifest
from medisync.upkeep.restore import NotEmptyError, restore
from tests.support.admissions_csv import admissions, write_csv
from tests.unit.disclosure.test_release import grid
from tests.unit.disclosure.test_releasing import record


def finished_run(lake: Lake, run_id: str, count: int) -> None:
    """A published run with its report, as a round leaves it."""
    one, result = record(lake, run_id), grid([[count, 3]], margins=False)
    publish(lake, one, result)
    folder = lake.settings.reports / "runs" / run_id
    folder.mkdir(parents=True)
    write_report(folder / "report.html", one, result)


def tables(settings: Settings, snapshot: int) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table at one snapshot, in order."""
    with Snapshot(settings, snapshot) as one:
        names = one.query(
            "SELECT schema_name || '.' || table_name AS name FROM duckdb_tables() WHERE database_name = 'lake'"
        )["name"]
        return {
            name: [tuple(map(str, row)) for row in one.query(f"FROM {name} ORDER BY ALL").itertuples(index=False)]
            for name in names
        }


@pytest.fixture
def full(lake: Lake, tmp_path: Path) -> Lake:
    """A lake with two deliveries, deleted rows among them, and two runs."""
    for number, run_id in ((30, "r1"), (24, "r2")):
        intake.ingest(lake, write_csv(tmp_path / f"{run_id}.csv", admissions(number)))
        finished_run(lake, run_id, 40 * number)
    (lake.settings.data / "versions").mkdir(exist_ok=True)
    (lake.settings.data / "versions" / "blob").write_text("notebook")
    return lake


def elsewhere(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "other" / "data", reports=tmp_path / "other" / "reports")


def test_a_restored_workspace_is_the_one_that_was_backed_up(full: Lake, tmp_path: Path) -> None:
    report = backup(full, tmp_path / "backups")
    target = elsewhere(tmp_path)
    assert restore(target, tmp_path / "backups").snapshot == report.snapshot == full.last_snapshot_id()
    assert tables(target, report.snapshot) == tables(full.settings, report.snapshot)
    other = Lake(target)
    for run_id in ("r1", "r2"):
        assert released_document(other, run_id) == released_document(full, run_id)
        rows = other.query("SELECT record FROM analytics.runs WHERE run_id = ?", [run_id])
        again = tmp_path / f"{run_id}.html"
        write_report(again, RunRecord.model_validate_json(rows[0]["record"]), result_of(other, run_id))
        assert again.read_bytes() == (target.reports / "runs" / run_id / "report.html").read_bytes()
    assert released_before(open_ledger(target), ["people"]) == released_before(open_ledger(full.settings), ["people"])
    assert (target.data / "versions" / "blob").read_text() == "notebook"
    assert (target.keys / "pseudonyms.key").read_bytes() == (full.settings.keys / "pseudonyms.key").read_bytes()
    assert (target.keys / "pseudonyms.key").stat().st_mode & 0o077 == 0
    later = intake.ingest(other, write_csv(tmp_path / "third.csv", admissions(35)))  # and life goes on
    assert (later.created, later.unchanged) == (11, 24)  # the same pseudonyms as before
    other.close()
    with pytest.raises(NotEmptyError):
        restore(target, tmp_path / "backups")


def test_while_others_write(full: Lake, tmp_path: Path) -> None:
    stop = threading.Event()
    wrote = []

    def write() -> None:
        while not stop.is_set():
            with full.transaction("rows") as transaction:
                transaction.execute(
                    "INSERT INTO lake.clinical.patients SELECT 's', uuid(), 'male', NULL, 'A+', ? FROM range(50)",
                    [str(len(wrote))],
                )
            wrote.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        report = backup(full, tmp_path / "backups", with_keys=False)
    finally:
        stop.set()
        writer.join()
    assert wrote
    target = elsewhere(tmp_path)
    said = restore(target, tmp_path / "backups")
    assert "keys were left out" in said.sentence()
    assert not list(target.keys.iterdir())
    assert tables(target, report.snapshot) == tables(full.settings, report.snapshot)


def test_the_second_backup_costs_what_is_new(full: Lake, tmp_path: Path) -> None:
    first = backup(full, tmp_path / "backups")
    intake.ingest(full, write_csv(tmp_path / "more.csv", admissions(31)))
    second = backup(full, tmp_path / "backups")
    assert newest(tmp_path / "backups") == Path(second.folder)
    names = read_manifest(Path(first.folder)).files
    both = [(name, Path(first.folder, name), Path(second.folder, name)) for name in names]
    shared = [name for name, old, new in both if new.exists() and os.path.samefile(old, new)]
    assert sum(name.endswith(".parquet") for name in shared) >= 5
    assert "reports/runs/r1/report.html" in shared
    shutil.rmtree(first.folder)  # each is complete in itself
    restore(elsewhere(tmp_path), tmp_path / "backups")


def spoil_parquet(folder: Path) -> None:
    path = next((folder / "lake/files").rglob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def lose_parquet(folder: Path) -> None:
    next((folder / "lake/files").rglob("*.parquet")).unlink()


def truncate_catalog(folder: Path) -> None:
    path = folder / "lake/catalog.sqlite"
    path.write_bytes(path.read_bytes()[:4096])


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def edit_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"snapshot": ', '"snapshot": 1'))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (spoil_parquet, "is not what was backed up"),
        (lose_parquet, "is missing from the backup"),
        (truncate_catalog, "catalog.sqlite is not what was backed up"),
        (lose_manifest, "no complete backup"),
        (edit_manifest, "manifest of .* is not the one"),
    ],
)
def test_a_damaged_backup_is_refused_and_nothing_is_written(
    made: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    damage(folder)
    target = elsewhere(tmp_path)
    with pytest.raises(BackupDamagedError, match=said):
        restore(target, folder)
    assert not target.data.exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    intake.ingest(lake, write_csv(folder / "a.csv", admissions(20)))
    report = backup(lake, folder / "backups")
    lake.close()
    return Path(report.folder)


def test_a_backup_into_the_workspace_or_of_nothing_is_refused(workspace: Settings, tmp_path: Path) -> None:
    lake = Lake(workspace)
    with pytest.raises(BackupTargetError, match="does not belong"):
        backup(lake, workspace.data / "backups")
    with pytest.raises(BackupTargetError, match="nothing to back up"):
        backup(lake, tmp_path / "backups")
    assert not (tmp_path / "backups").exists()
