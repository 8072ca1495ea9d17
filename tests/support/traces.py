"""Searching everything a workspace wrote for people's names."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import sqlite3
import tempfile
from pathlib import Path

from medisync.lake import Lake
from medisync.settings import Settings

RAW_FOLDERS = ("archive", "quarantine", "refused", "processing", "inbox")
"""Where raw files lie, for the owner alone."""

LOOKS = 5
"""How often a workspace that is running is read until nothing goes away meanwhile."""

Pairs = set[tuple[str, str]]

NOT_OF_A_NAME = re.compile(r"[^\w\s.'’-]+")
"""What ends a name in running text: commas, brackets, control characters, markup."""


def names_found(names: set[str], settings: Settings) -> list[str]:
    """Places where any of ``names`` (in whatever case) stands: files, columns of the lake, tables of SQLite.

    A file that is gone when its turn comes, as a database's log when the last who had it open leaves, has what it held
    put into another: all are read once more.
    """
    wanted, looks = _pairs_of(names), 1
    while True:
        try:
            return _places(wanted, settings)
        except FileNotFoundError:
            if looks == LOOKS:
                raise
            looks += 1


def _places(wanted: Pairs, settings: Settings) -> list[str]:
    found = [f"file {path}" for path in written_files(settings) if _holds(path.read_bytes(), wanted)]
    found += [f"lake {place}" for place in _lake_places(settings, wanted)]
    databases = [path for path in written_files(settings) if path.suffix in (".sqlite", ".db")]
    return found + [f"{path.name} {place}" for path in databases for place in _sqlite_places(path, wanted)]


def written_files(settings: Settings) -> list[Path]:
    """Every file below data and reports, raw ones apart."""
    raw = {settings.data / name for name in RAW_FOLDERS}
    files = [path for folder in (settings.data, settings.reports) for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if not raw.intersection(path.parents)]


def _holds(content: bytes, wanted: Pairs) -> bool:
    """Whether two words of a name stand side by side, with nothing but space between them."""
    text = content.decode("utf-8", errors="replace").casefold()
    return any(not wanted.isdisjoint(itertools.pairwise(part.split())) for part in NOT_OF_A_NAME.split(text))


def _pairs_of(names: set[str]) -> Pairs:
    return {pair for name in names for pair in itertools.pairwise(name.casefold().split())}


def _lake_places(settings: Settings, wanted: Pairs) -> list[str]:
    lake = Lake(settings)
    columns = lake.query(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake' "
        "AND data_type IN ('VARCHAR', 'JSON') AND schema_name IN ('clinical', 'analytics')"
    )
    places = []
    for column in columns:
        schema, table, name = column.values()
        values = lake.query(f"SELECT DISTINCT {name} AS value FROM {schema}.{table} WHERE {name} IS NOT NULL")
        texts = (str(row["value"]) for row in values)
        if any(_holds(text.encode(), wanted) for text in texts):
            places.append(f"{schema}.{table}.{name}")
    lake.close()
    return places


def _sqlite_places(path: Path, wanted: Pairs) -> list[str]:
    """Tables of a database with a name in them. A copy is opened: this process may have the lake's catalog open with
    DuckDB's SQLite, whose locks closing the file with Python's would drop."""
    places = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for file in path.parent.glob(f"{path.name}*"):
            shutil.copy(file, folder)
        database = stack.enter_context(contextlib.closing(sqlite3.connect(Path(folder) / path.name)))
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                texts = [value if isinstance(value, bytes) else str(value).encode() for value in row]
                if any(_holds(one, wanted) for one in texts):
                    places.append(table)
                    break
    return places
