"""DuckDB's extensions, loaded offline from their wheels. The only module that knows where they lie."""

from __future__ import annotations

import atexit
import importlib.util
import os
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import duckdb

from medisync.errors import MediSyncError
from medisync.lake import sqlite_waits

EXTENSIONS = {
    "ducklake": "duckdb_extension_ducklake",
    "sqlite_scanner": "duckdb_extension_sqlite_scanner",
    "postgres_scanner": "duckdb_extension_postgres_scanner",
    "icu": "duckdb_extension_icu",
    "httpfs": "duckdb_extension_httpfs",
}
"""Extension name -> the Python package whose wheel carries it."""


def extension_path(name: str) -> Path:
    """The signed binary of extension ``name`` for the DuckDB that is installed."""
    package = EXTENSIONS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MediSyncError(f"The package {package} is not installed.", hint="Install from requirements.lock.")
    root = Path(next(iter(spec.submodule_search_locations)))
    path = root / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not path.is_file():
        raise MediSyncError(
            f"{package} carries no {name} for DuckDB {duckdb.__version__}.",
            hint="DuckDB and its extension wheels must have the same version.",
        )
    return path


_prepared: list[tuple[int, tuple[str, ...], duckdb.DuckDBPyConnection]] = []
"""A DuckDB opened ahead, its extensions, and the process that did it."""


def prepare_duckdb(*extensions: str) -> None:
    """Open a DuckDB with ``extensions`` for the processes forked from this one: each has its own copy, and takes it at
    its first :func:`open_duckdb`.

    Loading the extensions means to read and check seventy megabytes, a quarter of a second. A DuckDB of one thread is
    memory and nothing else, so a fork of it is as good as a new one; this process itself never uses it.
    """
    _prepared[:] = [(os.getpid(), extensions, _opened(extensions, {"threads": "1"}))]


def open_duckdb(
    *extensions: str, memory_limit_mb: int | None = None, threads: int | None = None, temp_directory: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that never reaches for the network or the home directory, with ``extensions`` loaded.

    The signature check stays on: ``allow_unsigned_extensions`` is not touched. What does not fit into memory goes to a
    folder of its own in ``temp_directory``: DuckDB calls its files there alike in every process, so that two that share
    a folder overwrite each other's and die of it.
    """
    config: dict[str, str] = {}
    if memory_limit_mb is not None:
        config["memory_limit"] = f"{memory_limit_mb}MB"
    if threads is not None:
        config["threads"] = str(threads)
    if temp_directory is not None:
        temp_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = temp_directory / f"{os.getpid()}-{secrets.token_hex(4)}"
        atexit.register(shutil.rmtree, own, ignore_errors=True)  # it is made when first needed
        config["temp_directory"] = str(own)
    return _take_prepared(extensions, config) or _opened(extensions, config)


def _opened(extensions: Collection[str], config: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    offline = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    connection = duckdb.connect(":memory:", config={**offline, **config})
    for name in extensions:
        connection.load_extension(str(extension_path(name)))
    if "sqlite_scanner" in extensions:
        sqlite_waits.shorten(extension_path("sqlite_scanner"))
    return connection


def _take_prepared(extensions: Sequence[str], config: Mapping[str, str]) -> duckdb.DuckDBPyConnection | None:
    """The DuckDB prepared before this process was forked, once; None when there is none, or not with all of this."""
    if not _prepared or not set(_prepared[0][1]).issuperset(extensions) or not extensions:
        return None
    maker, loaded, prepared = _prepared.pop()
    if maker == os.getpid():
        _prepared.append((maker, loaded, prepared))
        return None
    connection = prepared.cursor()  # it has random numbers of its own; those of ``prepared`` are every other fork's
    if "threads" not in config:
        connection.execute("RESET threads")
    for name, value in config.items():
        quoted = value.replace("'", "''")
        connection.execute(f"SET {name} = '{quoted}'")
    return connection
