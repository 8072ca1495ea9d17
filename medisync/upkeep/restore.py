"""A workspace from a backup: everything is checked before the first file is written."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync.backend.choice import backend_of
from medisync.backend.sqlite_copy import run
from medisync.errors import UserError
from medisync.lake import Lake
from medisync.settings import Settings
from medisync.upkeep.backup import CATALOG, LAKE_FILES, REPORTS, VERSIONS, catalog_contents, newest
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
    """Fill an empty workspace from a backup (or the newest one below ``source``).

    Raises NotEmptyError, and BackupDamagedError before anything is written; when writing fails half-way, what was
    written is removed.
    """
    if not backend_of(settings).holds_files:
        raise NotEmptyError(
            "A backup of files is restored into files, not into Postgres.",
            hint="Restore with MEDISYNC_PROFILE=local into an empty folder, then run: medisync migrate",
        )
    _require_empty(settings)
    folder = newest(source.expanduser().absolute())
    manifest = read_manifest(folder)
    check(folder, manifest)
    snapshot, names = catalog_contents(folder / CATALOG)
    missing = [name for name in names if f"{LAKE_FILES}/{name}" not in manifest.files]
    if missing or snapshot != manifest.snapshot:
        raise BackupDamagedError("The backup's catalog and files do not belong together.")
    settings.make_folders()
    written: list[Path] = []
    try:
        for name in manifest.files:
            target = _target(settings, Path(name))
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            written.append(target)
            shutil.copy2(folder / name, target)
            target.chmod(0o600)
        lake = Lake(settings)
        run(MOVE, settings.catalog_file, f"{lake.files}/", what="say where the lake's files lie")
        restored = lake.last_snapshot_id()
        lake.close()
        if restored is None or restored < manifest.snapshot:  # a newer MediSync adds a snapshot when it migrates
            raise BackupDamagedError("The restored lake does not open at the snapshot that was backed up.")
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        for journal in settings.lake.glob("catalog.sqlite-*"):
            journal.unlink(missing_ok=True)
        raise
    return RestoreReport(str(folder), manifest.made_at, manifest.snapshot, len(manifest.files), manifest.parts)


def _target(settings: Settings, name: Path) -> Path:
    """Where a file of the backup belongs."""
    moved = {REPORTS: settings.reports, VERSIONS: settings.versions}
    return moved.get(name.parts[0], settings.data / name.parts[0]).joinpath(*name.parts[1:])


def _require_empty(settings: Settings) -> None:
    """Keys count, too: replacing them would part new deliveries from old ones."""
    places = (settings.lake, settings.keys, settings.processing, settings.archive)
    held = [path for place in places for path in place.rglob("*") if path.is_file() and path.name != "write.lock"]
    if backend_of(settings).has_ledger() or held or any((settings.reports / "runs").glob("*")):
        raise NotEmptyError(
            f"The workspace in {settings.data} is not empty.",
            hint="Restore into a new one: set MEDISYNC_DATA and MEDISYNC_REPORTS to empty folders.",
        )
