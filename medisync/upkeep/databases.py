"""Catalog and ledger as SQLite files of one moment, wherever they lie: what a backup holds."""

from __future__ import annotations

from pathlib import Path

from medisync.backend.backend import Backend
from medisync.backend.database import LAKE, LEDGER
from medisync.backend.postgres import PostgresBackend
from medisync.backend.sqlite_copy import DatabaseCopyError, copy_database
from medisync.upkeep import catalog_copy, ledger_copy


def copy_catalog(backend: Backend, target: Path) -> None:
    """The lake's catalog, while nobody writes; one from Postgres is compared with what is there, row by row."""
    if not isinstance(backend, PostgresBackend):
        copy_database(backend.settings.catalog_file, target)
        return
    catalog_copy.copy_out(backend.address, LAKE, target, backend.settings.lake_folder)
    try:
        catalog_copy.compare(target, backend.address, LAKE)
    except catalog_copy.DifferenceError as error:
        raise DatabaseCopyError(f"The copy of the catalog is not what is in the {backend.title}: {error}.") from None


def copy_ledger(backend: Backend, target: Path) -> None:
    """The ledger, if there is one."""
    if not backend.has_ledger():
        return
    if isinstance(backend, PostgresBackend):
        ledger_copy.copy_out(backend.address, LEDGER, target)
        target.chmod(0o600)
    else:
        copy_database(backend.settings.ledger, target)
