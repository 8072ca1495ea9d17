"""A workspace from a backup: everything is checked before the first file is written."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync.backend.choice import backend_of
from medisync.backend.postgres import PostgresBackend
from medisync.backend.sqlite_copy import run
from medisync.errors import UserError
from medisync.lake import Lake
from medisync.settings import Settings
from medisync.upkeep import migration
from medisync.upkeep.backup import (
    CATALOG,
    LAKE_FILES,
    LEDGER,
    REPORTS,
    VERSIONS,
    BackupTargetError,
    catalog_contents,
    newest,
)
from medisync.upkeep.manifest import BackupDamagedError, check, read_manifest

MOVE = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("UPDATE ducklake_metadata SET value = ? WHERE key = 'data_path'", [sys.argv[2]])
connection.close()
"""


class NotEmptyError(UserError):
    """A backup is restored into an empty workspace only."""

    code = "workspace-not-empty"
    exit_code = 89
    http_status = 409


@dataclass(frozen=True)
class RestoreReport:
    """What was restored."""

    backup: str
    made_at: str
    snapshot: int
    files: int
    parts: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        keys = "" if "keys" in self.parts else " The keys were left out of it: without them new deliveries get other "
        return (
            f"Restored snapshot {self.snapshot} of {self.made_at} from {self.backup}: {self.files:,} files."
            f"{keys and keys + 'pseudonyms than old ones.'}"
        )


def restore(settings: Settings, source: Path) -> RestoreReport:
    """Fill an empty workspace, of files or of an empty Postgres database, from a backup (the newest below ``source``).

    Raises NotEmptyError, BackupTargetError, and BackupDamagedError before anything is written; when writing fails
    half-way, what was written is removed.
    """
    _require_empty(settings)
    folder = newest(source.expanduser().absolute())
    manifest = read_manifest(folder)
    check(folder, manifest)
    snapshot, names = catalog_contents(folder / CATALOG)
    missing = [name for name in names if f"{LAKE_FILES}/{name}" not in manifest.files]
    if missing or snapshot != manifest.snapshot:
        raise BackupDamagedError("The backup's catalog and files do not belong together.")
    settings.make_folders()
    backend = backend_of(settings)
    written: list[Path] = []
    try:
        for name in manifest.files:
            if name in (CATALOG, LEDGER) and not backend.holds_files:
                continue
            target = _target(settings, Path(name))
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            written.append(target)
            shutil.copy2(folder / name, target)
            target.chmod(0o600)
        if isinstance(backend, PostgresBackend):
            _fill(backend, folder)
        else:
            run(MOVE, settings.catalog_file, f"{settings.lake_folder}/", what="say where the lake's files lie")
        lake = Lake(settings)
        restored = lake.last_snapshot_id()
        lake.close()
        if restored is None or restored < manifest.snapshot:  # a newer MediSync adds a snapshot when it migrates
            raise BackupDamagedError("The restored lake does not open at the snapshot that was backed up.")
    except BaseException:
        if backend.holds_files or not backend.has_lake():
            for path in written:
                path.unlink(missing_ok=True)
            for journal in settings.lake.glob("catalog.sqlite-*"):
                journal.unlink(missing_ok=True)
        raise
    return RestoreReport(str(folder), manifest.made_at, manifest.snapshot, len(manifest.files), manifest.parts)


def _fill(backend: PostgresBackend, folder: Path) -> None:
    """Catalog and ledger into the database, compared there row by row before they count."""
    settings = backend.settings
    with (
        backend.lock(migration.LOCK, seconds=0),
        tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.data) as scratch,
    ):
        for name in (CATALOG, LEDGER):
            if (folder / name).exists():
                shutil.copy2(folder / name, Path(scratch) / Path(name).name)
        catalog, ledger = (Path(scratch) / Path(name).name for name in (CATALOG, LEDGER))
        migration.fill(backend, catalog, ledger, settings.lake_folder)


def _target(settings: Settings, name: Path) -> Path:
    """Where a file of the backup belongs."""
    if name.is_relative_to(LAKE_FILES):
        return settings.lake_folder / name.relative_to(LAKE_FILES)
    moved = {REPORTS: settings.reports, VERSIONS: settings.versions}
    return moved.get(name.parts[0], settings.data / name.parts[0]).joinpath(*name.parts[1:])


def _require_empty(settings: Settings) -> None:
    """Keys count, too: replacing them would part new deliveries from old ones."""
    if settings.has_object_storage:
        raise BackupTargetError(
            f"The lake's files would lie in {settings.lake_place}; a backup is restored into a folder.",
            hint="Unset MEDISYNC_LAKE_FILES, or name a folder.",
        )
    backend = backend_of(settings)
    if not backend.holds_files and (backend.has_lake() or backend.has_ledger()):
        raise NotEmptyError(
            f"The {backend.title} is not empty.", hint="Restore into another one: createdb, then MEDISYNC_DATABASE_URL."
        )
    places = (settings.lake, settings.lake_folder, settings.keys, settings.processing, settings.archive)
    held = [path for place in places for path in place.rglob("*") if path.is_file() and path.name != "write.lock"]
    if backend.has_ledger() or held or any((settings.reports / "runs").glob("*")):
        raise NotEmptyError(
            f"The workspace in {settings.data} is not empty.",
            hint="Restore into a new one: set MEDISYNC_DATA and MEDISYNC_REPORTS to empty folders.",
        )
