"""Backup while the workspace runs: one folder a backup, complete in itself; files that never change are hard links to
the backup before."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync import __version__
from medisync.backend.sqlite_copy import copy_database
from medisync.errors import UserError
from medisync.lake import Lake
from medisync.upkeep import databases
from medisync.upkeep.manifest import NAME, BackupDamagedError, Entry, Manifest, read_manifest, sha256_of

CATALOG, LAKE_FILES, LEDGER, PREFECT = "lake/catalog.sqlite", "lake/files", "ledger.sqlite", "prefect/prefect.db"
REPORTS, VERSIONS = "reports", "versions"


class BackupTargetError(UserError):
    """A backup cannot be written there."""

    code = "backup-target"
    exit_code = 88


@dataclass(frozen=True)
class BackupReport:
    """What was backed up."""

    folder: str
    snapshot: int
    files: int
    bytes_total: int
    bytes_copied: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        return (
            f"Snapshot {self.snapshot} in {self.folder}: {self.files:,} files, {self.bytes_total / 1e6:,.1f} MB, "
            f"{self.bytes_copied / 1e6:,.1f} MB of them new since the backup before."
        )


def backup(
    lake: Lake, destination: Path, *, with_keys: bool = True, with_archive: bool = False, with_prefect: bool = False
) -> BackupReport:
    """Write a new backup below ``destination``. Lake, ledger and reports belong to one snapshot of the lake.

    The write lock is held while the catalog is copied (milliseconds to seconds), not for the files: what a snapshot
    refers to is never changed, and clean-up deletes nothing younger than a day. The ledger comes after the catalog, so
    that its memory of releases knows at least what the lake holds. A backup holds them as SQLite files, also where they
    lie in Postgres. Raises BackupTargetError, DatabaseCopyError, DatabaseAwayError.
    """
    settings = lake.settings
    if with_prefect and not lake.backend.holds_files:
        raise BackupTargetError(
            f"Prefect's history of flow runs lies in the {lake.backend.title}.",
            hint="Leave --prefect out, and keep it with: pg_dump --schema prefect",
        )
    destination = destination.expanduser().absolute()
    for folder in (settings.data, settings.reports):
        if destination == folder or destination.is_relative_to(folder):
            raise BackupTargetError("A backup does not belong into the workspace itself.", hint="Give another folder.")
    if settings.has_object_storage:
        raise BackupTargetError(
            f"The lake's files lie in {settings.lake_place}, which this does not copy.",
            hint="Have the storage keep versions of them, and back the database up with pg_dump.",
        )
    if not lake.exists:
        raise BackupTargetError("There is nothing to back up yet.", hint="Deliver a file first.")
    before = _previous(destination)
    now = dt.datetime.now(dt.UTC)
    folder = destination / f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}"
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise BackupTargetError(f"{folder} cannot be made: {error.strerror}.") from error
    writer = _Writer(folder, before)
    with lake.lock():
        (folder / CATALOG).parent.mkdir()
        databases.copy_catalog(lake.backend, folder / CATALOG)
    snapshot, names = catalog_contents(folder / CATALOG)
    writer.note(CATALOG)
    for name in names:
        writer.keep(lake.files / name, f"{LAKE_FILES}/{name}", never_changes=True)
    databases.copy_ledger(lake.backend, folder / LEDGER)
    parts = ["sources", VERSIONS, *(["keys"] if with_keys else []), *(["archive"] if with_archive else [])]
    if (folder / LEDGER).exists():
        writer.note(LEDGER)
    for part in parts:
        place = settings.versions if part == VERSIONS else settings.data / part
        for path in _files(place):
            writer.keep(path, f"{part}/{path.relative_to(place)}", never_changes=part == "archive")
    for path in _files(settings.reports):
        writer.keep(path, f"{REPORTS}/{path.relative_to(settings.reports)}")
    prefect = settings.prefect_home / "prefect.db"
    if with_prefect and prefect.exists():
        (folder / PREFECT).parent.mkdir()
        copy_database(prefect, folder / PREFECT)
        writer.note(PREFECT)
        parts.append("prefect")
    made_at = now.isoformat(timespec="seconds")
    Manifest(made_at, __version__, snapshot, tuple(sorted(parts)), writer.entries).write(folder)
    total = sum(entry.size for entry in writer.entries.values())
    return BackupReport(str(folder), snapshot, len(writer.entries), total, writer.copied)


def catalog_contents(catalog: Path) -> tuple[int, list[str]]:
    """Newest snapshot and the data files of a *copied* catalog that nobody else has open, relative to the lake's files.

    Raises BackupDamagedError when it is none.
    """
    sql = """
        SELECT CASE WHEN f.path_is_relative THEN s.path || t.path || f.path ELSE f.path END
        FROM (SELECT table_id, path, path_is_relative FROM ducklake_data_file
              UNION ALL SELECT table_id, path, path_is_relative FROM ducklake_delete_file) f
        JOIN (SELECT DISTINCT table_id, schema_id, path FROM ducklake_table) t USING (table_id)
        JOIN (SELECT DISTINCT schema_id, path FROM ducklake_schema) s USING (schema_id)
    """
    try:
        with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
            snapshot = connection.execute("SELECT max(snapshot_id) FROM ducklake_snapshot").fetchone()[0]
            names = sorted({str(row[0]) for row in connection.execute(sql)})
    except sqlite3.DatabaseError:
        raise BackupDamagedError("The catalog of the backup cannot be read.") from None
    return int(snapshot), names


def newest(destination: Path) -> Path:
    """The newest complete backup below ``destination``, or ``destination`` itself when it is one."""
    if (destination / NAME).exists():
        return destination
    complete = sorted(path.parent for path in destination.glob(f"*/{NAME}"))
    if not complete:
        raise BackupDamagedError(f"There is no complete backup in {destination}.")
    return complete[-1]


def _previous(destination: Path) -> tuple[Path, Manifest] | None:
    try:
        folder = newest(destination)
        return folder, read_manifest(folder)
    except BackupDamagedError:
        return None


class _Writer:
    """Copies files into a backup and notes what it holds."""

    def __init__(self, folder: Path, before: tuple[Path, Manifest] | None) -> None:
        self.folder = folder
        self.before = before
        self.entries: dict[str, Entry] = {}
        self.copied = 0

    def keep(self, source: Path, name: str, *, never_changes: bool = False) -> None:
        """Take over one file; one of the backup before that is the same becomes a hard link."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            known = source.stat()
            old = self._same(name, known, never_changes=never_changes)
            if old is None or not _linked(old[0], target):
                shutil.copy2(source, target)
                target.chmod(0o600)
                self.note(name)
                return
        except FileNotFoundError:
            if never_changes:
                raise BackupDamagedError(f"The lake misses its file {name}.", hint="See: medisync doctor") from None
            return  # removed meanwhile, such as a draft of a report
        self.entries[name] = old[1]

    def note(self, name: str) -> None:
        """Put a file that was written into the manifest."""
        path = self.folder / name
        self.entries[name] = Entry(path.stat().st_size, sha256_of(path))
        self.copied += path.stat().st_size

    def _same(self, name: str, known: os.stat_result, *, never_changes: bool) -> tuple[Path, Entry] | None:
        if self.before is None:
            return None
        folder, manifest = self.before
        entry = manifest.files.get(name)
        path = folder / name
        if entry is None or entry.size != known.st_size or not path.is_file():
            return None
        old = path.stat()
        is_same = old.st_size == known.st_size and (never_changes or old.st_mtime_ns == known.st_mtime_ns)
        return (path, entry) if is_same else None


def _linked(old: Path, target: Path) -> bool:
    try:
        os.link(old, target)
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _files(folder: Path) -> Iterator[Path]:
    """Files below ``folder`` in order; drafts, which begin with a dot or end so, are somebody's unfinished work."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.suffix != ".draft":
            yield path
