"""A DuckLake's catalog copied from an SQLite file into a schema of Postgres or back, and both compared.

DuckLake has the same tables on both, with types of their own: SQLite knows no boolean, UUID or timestamp, and rows that
are inlined are kept in whatever the database can hold exactly. Everything is done by DuckDB, which has both attached.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from medisync.backend.backend import quoted
from medisync.backend.database import Address
from medisync.lake.extensions import open_duckdb

INLINED = re.compile(r"ducklake_inlined_(data_(\d+)_\d+|delete_\d+)")
IN_POSTGRES = {
    "varchar": "BYTEA",  # Postgres' text cannot hold every string of DuckDB's
    "json": "BYTEA",
    "blob": "BYTEA",
    "boolean": "BOOLEAN",
    "int8": "SMALLINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "REAL",
    "float64": "DOUBLE PRECISION",
    "uuid": "UUID",
}
"""Type of a lake's column -> how Postgres keeps it in an inlined row; all others as text."""
NUMBERS = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT")
"""What Postgres has, as DuckDB calls it, and SQLite keeps as numbers; all else is text there."""
PINNED = 4
"""Snapshots read by runs whose contents are compared, beside the oldest and the newest."""


class DifferenceError(Exception):
    """Two catalogs, or two ledgers, do not hold the same; says which tables, and no values."""


def copy(catalog: Path, address: Address, schema: str, files: Path) -> None:
    """Fill the empty ``schema``; ``files`` is where the Parquet files will lie. All of it is one transaction."""
    with closing(open_duckdb("ducklake", "sqlite_scanner", "postgres_scanner", "icu")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"ATTACH '{quoted(f'ducklake:postgres:{address.dsn()}')}' AS made "
            f"(METADATA_SCHEMA '{schema}', DATA_PATH '{quoted(files)}')"
        )  # makes DuckLake's own tables
        connection.execute("DETACH made")
    with _both(catalog, address, schema) as connection:
        connection.execute("BEGIN")
        for table in _tables(connection, "old"):
            if INLINED.fullmatch(table):
                connection.execute(f"CREATE TABLE new.{schema}.{table} ({_inlined_columns(connection, table)})")
            else:
                connection.execute(f"DELETE FROM new.{schema}.{table}")
        connection.execute("COMMIT")
        connection.execute("CALL pg_clear_cache()")
        connection.execute("BEGIN")
        for table in _tables(connection, "old"):
            names, values = _columns(connection, schema, table)
            connection.execute(f"INSERT INTO new.{schema}.{table} ({names}) SELECT {values} FROM old.{table}")
        place = quoted(f"{files}/")
        connection.execute(f"UPDATE new.{schema}.ducklake_metadata SET value = '{place}' WHERE key = 'data_path'")
        connection.execute("COMMIT")


def copy_out(address: Address, schema: str, catalog: Path, files: Path) -> None:
    """The other way: ``schema`` as the new SQLite file ``catalog``, which says that its files lie in ``files``.

    The caller sees to it that nobody writes meanwhile.
    """
    with closing(open_duckdb("ducklake", "sqlite_scanner")) as connection:
        connection.execute(f"ATTACH 'ducklake:sqlite:{quoted(catalog)}' AS made (DATA_PATH '{quoted(files)}')")
        connection.execute("DETACH made")
    catalog.chmod(0o600)
    with _both(catalog, address, schema, writes=True) as connection:
        for table in _tables(connection, "new"):
            if INLINED.fullmatch(table):
                connection.execute(f"CREATE TABLE old.{table} ({_inlined_columns_out(connection, schema, table)})")
        connection.execute("BEGIN")
        for table in _tables(connection, "new"):
            columns = _kinds(connection, "old", table)
            names = ", ".join(f'"{name}"' for name in columns)
            of_new = _kinds(connection, "new", table, schema)
            values = ", ".join(_out(name, of_new[name], kind) for name, kind in columns.items())
            connection.execute(f"DELETE FROM old.{table}")
            connection.execute(f"INSERT INTO old.{table} ({names}) SELECT {values} FROM new.{schema}.{table}")
        place = quoted(f"{files}/")
        connection.execute(f"UPDATE old.ducklake_metadata SET value = '{place}' WHERE key = 'data_path'")
        connection.execute("COMMIT")


def compare(catalog: Path, address: Address, schema: str) -> dict[str, int]:
    """Rows of each table, when every row of the one is in the other, as often; raises DifferenceError."""
    with _both(catalog, address, schema) as connection:
        old, new = _tables(connection, "old"), _tables(connection, "new")
        if set(old) != set(new):
            raise DifferenceError(f"the tables {', '.join(sorted(set(old) ^ set(new)))} are in one catalog only")
        counted = {}
        for table in old:
            names, values = _columns(connection, schema, table)
            moved = "WHERE key <> 'data_path'" if table == "ducklake_metadata" else ""
            one = f"SELECT {values} FROM old.{table} {moved}"
            other = f"SELECT {names} FROM new.{schema}.{table} {moved}"
            [(rows, others, missing)] = connection.execute(
                f"SELECT (SELECT count(*) FROM ({one})), (SELECT count(*) FROM ({other})), "
                f"(SELECT count(*) FROM ({one} EXCEPT ALL {other}))"
            ).fetchall()
            if rows != others or missing:
                raise DifferenceError(f"of the {rows} rows of {table}, {missing} differ, and {others} are there")
            counted[table] = int(rows)
        return counted


def folder_of(catalog: Path) -> Path:
    """Where the catalog says its Parquet files lie."""
    with closing(open_duckdb("sqlite_scanner")) as connection:
        connection.execute(f"ATTACH '{quoted(catalog)}' AS old (TYPE sqlite, READ_ONLY)")
        [(place,)] = connection.execute("SELECT value FROM old.ducklake_metadata WHERE key = 'data_path'").fetchall()
    return Path(place)


def chosen_snapshots(catalog: Path) -> list[int]:
    """The oldest, the newest, and some that runs are pinned to, ascending. A run's is the one before its own record."""
    with closing(open_duckdb("sqlite_scanner")) as connection:
        connection.execute(f"ATTACH '{quoted(catalog)}' AS old (TYPE sqlite, READ_ONLY)")
        rows = connection.execute(
            "SELECT snapshot_id, commit_extra_info FROM old.ducklake_snapshot LEFT JOIN old.ducklake_snapshot_changes "
            "USING (snapshot_id) ORDER BY snapshot_id"
        ).fetchall()
    kept = [int(number) for number, _ in rows]
    before_runs = {int(number) - 1 for number, extra in rows if extra and '"run_id"' in extra} & set(kept)
    return sorted({kept[0], kept[-1], *sorted(before_runs)[-PINNED:]})


def compare_contents(
    catalog: Path, old_files: Path, address: Address, schema: str, new_files: Path, snapshots: Sequence[int]
) -> int:
    """Rows compared: of every table at each of ``snapshots``, by their number and the sum of their hashes."""
    old = f"'ducklake:sqlite:{quoted(catalog)}' AS lake (DATA_PATH '{quoted(old_files)}', OVERRIDE_DATA_PATH true"
    new = (
        f"'{quoted(f'ducklake:postgres:{address.dsn()}')}' AS lake (METADATA_SCHEMA '{schema}', "
        f"DATA_PATH '{quoted(new_files)}', OVERRIDE_DATA_PATH true"
    )
    total = 0
    with closing(open_duckdb("ducklake", "sqlite_scanner", "postgres_scanner", "icu")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for snapshot in snapshots:
            one, other = (
                _contents(connection, f"{attached}, READ_ONLY, SNAPSHOT_VERSION {snapshot})") for attached in (old, new)
            )
            if one != other:
                differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
                raise DifferenceError(f"at snapshot {snapshot} the tables {', '.join(differing)} differ")
            total += sum(rows for rows, _ in one.values())
    return total


def _contents(connection: duckdb.DuckDBPyConnection, attached: str) -> dict[str, tuple[int, int]]:
    connection.execute(f"ATTACH {attached}")
    names = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = 'lake' ORDER BY ALL"
    ).fetchall()
    found = {}
    for (name,) in names:
        [(rows, hashes)] = connection.execute(
            f"SELECT count(*), coalesce(sum(hash(row)), 0) FROM lake.{name} AS row"
        ).fetchall()
        found[str(name)] = (int(rows), int(hashes))
    connection.execute("DETACH lake")
    return found


@contextmanager
def _both(catalog: Path, address: Address, schema: str, *, writes: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(open_duckdb("sqlite_scanner", "postgres_scanner", "icu")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH '{quoted(catalog)}' AS old (TYPE sqlite{'' if writes else ', READ_ONLY'})")
        connection.execute(f"ATTACH '{quoted(address.dsn())}' AS new (TYPE postgres, SCHEMA '{schema}')")
        yield connection


def _tables(connection: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    rows = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND table_name LIKE 'ducklake\\_%' ESCAPE '\\' "
        "ORDER BY ALL",
        [database],
    ).fetchall()
    return [str(name) for (name,) in rows]


def _columns(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> tuple[str, str]:
    """The table's columns, and the same as they come from the old catalog in the new one's types."""
    old, new = _kinds(connection, "old", table), _kinds(connection, "new", table, schema)
    if old.keys() != new.keys():
        raise DifferenceError(f"{table} has other columns")
    values = []
    for name, kind in new.items():
        is_text = kind == "BLOB" and old[name] != "BLOB"
        values.append(f'encode("{name}"::VARCHAR)' if is_text else f'CAST("{name}" AS {kind})')
    return ", ".join(f'"{name}"' for name in new), ", ".join(values)


def _kinds(
    connection: duckdb.DuckDBPyConnection, database: str, table: str, schema: str | None = None
) -> dict[str, str]:
    """The table's columns in order, and their types as DuckDB sees them."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = ? AND table_name = ? "
        "AND schema_name = coalesce(?, schema_name) ORDER BY column_index",
        [database, table, schema],
    ).fetchall()
    return {str(name): str(kind) for name, kind in rows}


def _inlined_columns(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """The columns of a table of inlined rows, as Postgres would keep them."""
    of_lake = _of_lake(connection, "old", table)
    own = ("row_id", "begin_snapshot", "end_snapshot", "file_id")
    return ", ".join(
        f'"{name}" {"BIGINT" if name in own or not of_lake else _in_postgres(of_lake[name])}'
        for name in _kinds(connection, "old", table)
    )


def _inlined_columns_out(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> str:
    """The same as SQLite would keep them: whole numbers and truth values as numbers, all else as text."""
    of_lake = _of_lake(connection, f"new.{schema}", table)
    kinds = _kinds(connection, "new", table, schema)
    return ", ".join(
        f'"{name}" {"BLOB" if of_lake.get(name) == "blob" else "BIGINT" if kind in NUMBERS else "VARCHAR"}'
        for name, kind in kinds.items()
    )


def _of_lake(connection: duckdb.DuckDBPyConnection, catalog: str, table: str) -> dict[str, str]:
    """The lake's types of the columns of a table of inlined rows; nothing for one of deletions."""
    found = INLINED.fullmatch(table)
    if not found or not found[2]:
        return {}
    rows = connection.execute(
        f"SELECT column_name, column_type FROM {catalog}.ducklake_column WHERE table_id = ? ORDER BY begin_snapshot",
        [int(found[2])],
    ).fetchall()
    return dict(rows)


def _out(name: str, kind: str, wanted: str) -> str:
    """A column of Postgres as SQLite's type ``wanted``."""
    return f'decode("{name}")' if kind == "BLOB" and wanted == "VARCHAR" else f'CAST("{name}" AS {wanted})'


def _in_postgres(kind: str) -> str:
    decimal = re.fullmatch(r"decimal\((\d+),\s*(\d+)\)", kind)
    return f"NUMERIC({decimal[1]}, {decimal[2]})" if decimal else IN_POSTGRES.get(kind, "VARCHAR")
