"""Moving a workspace from SQLite files to Postgres: copied, compared row by row, and only then put into use.

Everything is written into schemas of their own, which get their final names in one transaction after all was compared.
So whatever a crash leaves behind is no lake to anybody, and the next try begins anew. The source is only read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync.backend.choice import NOTE, note_server
from medisync.backend.database import LAKE, LEDGER, Address
from medisync.backend.locks import Lock
from medisync.backend.postgres import PostgresBackend
from medisync.backend.sqlite import SqliteBackend
from medisync.backend.sqlite_copy import copy_database
from medisync.errors import NoDataError, SettingsError, UserError
from medisync.settings import Settings
from medisync.upkeep import catalog_copy, ledger_copy
from medisync.upkeep.backup import catalog_contents

DRAFT = "_migrating"
LOCK = "migration"

Say = Callable[[str], None]


class MigrationError(UserError):
    """The workspace could not be moved; it stays where it was."""

    code = "migration"
    exit_code = 93
    http_status = 409


@dataclass(frozen=True)
class MigrationReport:
    """What was moved and compared. ``is_new`` is false when it had been moved before."""

    database: str
    is_new: bool
    snapshot: int
    snapshots_compared: tuple[int, ...]
    catalog_rows: dict[str, int]
    lake_rows: int
    ledger_rows: dict[str, int]
    files_copied: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentences(self) -> list[str]:
        if not self.is_new:
            return [f"This workspace lives in Postgres already ({self.database})."]
        return [
            f"Moved to Postgres ({self.database}), every row compared:",
            f"  catalog: {sum(self.catalog_rows.values()):,} rows in {len(self.catalog_rows)} tables",
            f"  newest snapshot: {self.snapshot}; all earlier ones are there, too",
            f"  contents: {self.lake_rows:,} rows at the snapshots {', '.join(map(str, self.snapshots_compared))}",
            f"  ledger: {sum(self.ledger_rows.values()):,} rows in {len(self.ledger_rows)} tables",
            f"  Parquet files: {f'{self.files_copied:,} copied' if self.files_copied else 'where they were'}",
            "Prefect's history of flow runs was not moved, it stays in data/prefect/prefect.db: Prefect begins anew.",
            "Deployments are registered at the next start; run records and results are in the lake.",
            "The SQLite files stay as they were and are not used any more. Set MEDISYNC_PROFILE=server from now on.",
        ]


def migrate(settings: Settings, say: Say = lambda _: None) -> MigrationReport:
    """Move the workspace of ``settings`` to the database they name; the caller sees to it that it is not running.

    Raises MigrationError, NoDataError, DatabaseAwayError, LockBusyError; the workspace is then as it was.
    """
    if not settings.database_url:
        raise SettingsError("MEDISYNC_DATABASE_URL is not set.", hint="It says where the workspace is to be moved.")
    target = PostgresBackend(settings.model_copy(update={"profile": "server"}))
    if (settings.data / NOTE).exists():
        return MigrationReport(str(target.address), False, 0, (), {}, 0, {}, 0)
    source = SqliteBackend(settings.model_copy(update={"profile": "local", "lake_files": ""}))
    if settings.has_object_storage:
        raise MigrationError(
            "A workspace is moved with its files in a folder, not into a bucket.",
            hint="Unset MEDISYNC_LAKE_FILES, or name a folder.",
        )
    if not source.has_lake():
        raise NoDataError("There is no workspace to move yet.", hint="Begin in Postgres: medisync up --profile server")
    with (
        target.lock(LOCK, seconds=0),
        source.lock(Lock.ROUND, seconds=settings.lock_seconds),
        source.lock(Lock.WRITE, seconds=settings.lock_seconds),
        tempfile.TemporaryDirectory(prefix=".migration-", dir=settings.data) as scratch,
    ):
        return _move(source, target, Path(scratch), say)


def _move(source: SqliteBackend, target: PostgresBackend, scratch: Path, say: Say) -> MigrationReport:
    catalog, ledger = scratch / "catalog.sqlite", scratch / "ledger.sqlite"
    copy_database(source.settings.catalog_file, catalog)
    if source.has_ledger():
        copy_database(source.settings.ledger, ledger)
    report = fill(target, catalog, ledger, catalog_copy.folder_of(catalog), say)
    (source.settings.run_state / "recall.json").unlink(missing_ok=True)
    return report


def fill(
    target: PostgresBackend, catalog: Path, ledger: Path, lying: Path, say: Say = lambda _: None
) -> MigrationReport:
    """Put a workspace's SQLite files, which nobody has open, and the Parquet files in ``lying`` into ``target``.

    The caller holds the lock LOCK of it. Raises MigrationError, DatabaseAwayError; it is then as it was.
    """
    address = target.address
    files, final = target.settings.lake_folder, target.has_lake()
    schema = LAKE if final else LAKE + DRAFT
    if not final:
        _begin(address)
        say("Copying the catalog")
        catalog_copy.copy(catalog, address, schema, files)
        say("Copying the ledger")
        ledger_copy.copy(ledger, address, LEDGER + DRAFT)
    snapshot, names = catalog_contents(catalog)
    copied = _copy_files(lying, files, names)
    say("Comparing every row")
    try:
        catalog_rows = catalog_copy.compare(catalog, address, schema)
        ledger_rows = ledger_copy.compare(ledger, address, LEDGER if final else LEDGER + DRAFT)
        chosen = catalog_copy.chosen_snapshots(catalog)
        lake_rows = catalog_copy.compare_contents(catalog, lying, address, schema, files, chosen)
    except catalog_copy.DifferenceError as error:
        told = "The database holds another lake" if final else "What was copied is not what was there"
        raise MigrationError(f"{told}: {error}.", hint="Nothing was moved; give an empty database.") from None
    if not final:
        _finish(address)
    note_server(target.settings, str(address))
    return MigrationReport(str(address), True, snapshot, tuple(chosen), catalog_rows, lake_rows, ledger_rows, copied)


def _begin(address: Address) -> None:
    """Empty drafts, whatever an earlier try left in them."""
    with closing(address.connect()) as connection, address.asked():
        for name in (LAKE + DRAFT, LEDGER + DRAFT):
            connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
            connection.execute(f"CREATE SCHEMA {name}")


def _finish(address: Address) -> None:
    """The drafts get their names, both or none; what has them already must be empty."""
    import psycopg

    with closing(address.connect()) as connection, address.asked():
        try:
            with connection.transaction():
                for name in (LAKE, LEDGER):
                    connection.execute(f"DROP SCHEMA IF EXISTS {name} RESTRICT")
                    connection.execute(f"ALTER SCHEMA {name}{DRAFT} RENAME TO {name}")
        except psycopg.errors.DependentObjectsStillExist:
            raise MigrationError(
                f"The database {address} is in use by another workspace.", hint="Give an empty database."
            ) from None


def _copy_files(source: Path, target: Path, names: list[str]) -> int:
    """Bring the lake's files to another folder, if it is to have one; those that are there whole already stay."""
    if source == target:
        return 0
    for name in names:
        old, new = source / name, target / name
        if new.exists() and new.stat().st_size == old.stat().st_size:
            continue
        new.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = new.with_name(f".{new.name}.draft")
        shutil.copy2(old, draft)
        os.replace(draft, new)
    return len(names)
