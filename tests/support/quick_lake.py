"""Lakes open fast in a process of tests: what is the same for each of them is done once.

Two things take most of the second that a new lake costs. None is what the tests with a lake are about:

- DuckDB reads and checks the signature of seventy megabytes of extensions for every connection. Here it does so for the
  first; later ones load the same files unchecked, and have the check on from then on, as shipped.
- The schema's steps make the lake's tables. The first lake goes through them; later ones begin as a copy of it, down to
  the number of its snapshots.

Tests of these use the fixture ``as_shipped``; every other process (workspaces, kernels, commands) knows nothing
of this.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import duckdb
import pytest

from medisync.lake import Lake, extensions
from medisync.settings import Settings

_as_shipped_open = Lake._open
_as_shipped_opened = extensions._opened


@contextlib.contextmanager
def quick_lakes(folder: Path) -> Iterator[None]:
    """Every lake of this process is opened fast until the end; ``folder`` keeps the first."""
    checked: set[str] = set()

    def opened(names: Iterable[str], config: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
        names = tuple(names)
        if not names or not checked.issuperset(names):
            connection = _as_shipped_opened(names, config)
            checked.update(names)
            return connection
        connection = _as_shipped_opened(names, {**config, "allow_unsigned_extensions": "true"})
        connection.execute("SET allow_unsigned_extensions = false")
        return connection

    def open_lake(lake: Lake) -> duckdb.DuckDBPyConnection:
        settings = lake.settings
        if lake.backend.holds_files and not settings.lake_files and not _has_begun(settings):
            first = settings.model_copy(update={"data": folder / "data", "reports": folder / "reports"})
            if not first.catalog_file.exists():
                _as_shipped_open(Lake(first)).close()
            settings.make_folders()
            with lake.lock():
                if not _has_begun(settings):  # another process may have been faster
                    _copy(first, settings)
        return _as_shipped_open(lake)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extensions, "_opened", opened)
        patch.setattr(Lake, "_open", open_lake)
        yield


@pytest.fixture
def as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lakes are opened in this test as they are everywhere else."""
    monkeypatch.setattr(extensions, "_opened", _as_shipped_opened)
    monkeypatch.setattr(Lake, "_open", _as_shipped_open)


def _has_begun(settings: Settings) -> bool:
    return settings.catalog_file.exists() or settings.lake_folder.exists()


def _copy(first: Settings, settings: Settings) -> None:
    """The lake of ``first`` as the new one of ``settings``; its catalog comes last, since that makes it a lake."""
    assert not first.catalog_file.with_name(f"{first.catalog_file.name}-wal").exists(), "it was closed"
    shutil.copytree(first.lake_folder, settings.lake_folder)
    catalog = settings.catalog_file.with_name("copied.sqlite")
    shutil.copy(first.catalog_file, catalog)
    with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
        told = f"{settings.lake_place}/"
        changed = connection.execute("UPDATE ducklake_metadata SET value = ? WHERE key = 'data_path'", [told])
        assert changed.rowcount == 1
    catalog.rename(settings.catalog_file)
