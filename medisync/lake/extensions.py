"""DuckDB's extensions, loaded offline from their wheels. The only module that knows where they lie."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb

from medisync.errors import MediSyncError

EXTENSIONS = {
    "ducklake": "duckdb_extension_ducklake",
    "sqlite_scanner": "duckdb_extension_sqlite_scanner",
    "postgres_scanner": "duckdb_extension_postgres_scanner",
    "icu": "duckdb_extension_icu",
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


def open_duckdb(
    *extensions: str, memory_limit_mb: int | None = None, threads: int | None = None, temp_directory: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that never reaches for the network or the home directory, with ``extensions`` loaded.

    The signature check stays on: ``allow_unsigned_extensions`` is not touched.
    """
    config: dict[str, str] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    if memory_limit_mb is not None:
        config["memory_limit"] = f"{memory_limit_mb}MB"
    if threads is not None:
        config["threads"] = str(threads)
    if temp_directory is not None:
        config["temp_directory"] = str(temp_directory)
    connection = duckdb.connect(":memory:", config=config)
    for name in extensions:
        connection.load_extension(str(extension_path(name)))
    return connection
