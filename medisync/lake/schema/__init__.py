"""The lake's schema: numbered SQL files, applied in order, each in one transaction."""

from __future__ import annotations

from contextlib import suppress
from importlib import resources

import duckdb

from medisync import __version__
from medisync.errors import LakeTooOldError, LakeVersionError

INLINED_ROWS = 500
"""Commits of fewer rows stay in the catalog until clean-up flushes them. Patient tables never do: see BOOKKEEPING."""

BOOKKEEPING = ("deliveries", "quarantine", "table_versions", "quality", "key_generations")
"""Tables of the schema clinical that hold no patient's values. A step that gives one of them another column must make
it anew, as step 7 does: DuckLake 1.0 reads added columns of inlined rows as NULL, whatever was written."""

OTHER_KEYS_BEFORE = 8
"""Before this version, admissions had keys of another kind: each would be there twice once a file told of it again. The
new keys cannot be made of the old ones, and the text they are made of is not kept."""

KEYED_BY_ADMISSION = ("admissions", "superseded_admissions", "waiting")
"""Tables of the schema clinical one of which has a row wherever a key of an admission is kept."""


def steps() -> list[tuple[int, str]]:
    """The numbered schema files as (version, SQL), ascending."""
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name.split("_", 1)[0]), file.read_text(encoding="utf-8")) for file in files)


def current_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of the attached lake; 0 for one without tables.

    The answer is fetched to its end: until then DuckDB keeps the transaction open, and with it the catalog's. The list
    of all tables would tell, too, but takes a tenth of a second, and every process that opens the lake asks.
    """
    try:
        [(version,)] = connection.execute("SELECT max(version) FROM lake.main.schema_version").fetchall()
    except duckdb.CatalogException:
        return 0
    return int(version or 0)


def _has_admissions(connection: duckdb.DuckDBPyConnection) -> bool:
    there = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'clinical'"
    ).fetchall()
    tables = [name for name in KEYED_BY_ADMISSION if (name,) in there]
    return any(connection.execute(f"SELECT 1 FROM lake.clinical.{name} LIMIT 1").fetchall() for name in tables)


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the attached lake to this package's version; the caller holds the write lock.

    Raises, changing nothing, LakeVersionError when the lake is newer, and LakeTooOldError when it holds admissions
    whose keys were made in another way.
    """
    known = steps()
    current, newest = current_version(connection), known[-1][0]
    if current > newest:
        raise LakeVersionError(
            f"The lake has schema version {current}; this MediSync ({__version__}) knows {newest}.",
            hint="Install the newer MediSync that wrote it.",
        )
    if 0 < current < OTHER_KEYS_BEFORE and _has_admissions(connection):
        raise LakeTooOldError(
            f"The lake, of schema version {current}, holds admissions under keys that this MediSync ({__version__}) "
            "does not make; a file that tells of them again would add them once more.",
            hint="Load the files of data/archive/ into a new workspace, another MEDISYNC_DATA.",
        )
    for version, sql in known:
        if version <= current:
            continue
        connection.execute("BEGIN")
        try:
            if version == 1:
                connection.execute("CREATE TABLE main.schema_version (version INTEGER, medisync_version VARCHAR)")
            connection.execute(sql)
            connection.execute("INSERT INTO main.schema_version VALUES (?, ?)", [version, __version__])
            connection.execute(
                "CALL lake.set_commit_message('medisync', ?, extra_info => '{}')", [f"schema version {version}"]
            )
            connection.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.TransactionException):  # a failed COMMIT has rolled back already
                connection.execute("ROLLBACK")
            raise
    if current < newest:
        inlined = (
            "schema => 'main'",
            "schema => 'analytics'",
            *(f"schema => 'clinical', table_name => '{name}'" for name in BOOKKEEPING),
        )
        for scope in inlined:
            connection.execute(f"CALL lake.set_option('data_inlining_row_limit', {INLINED_ROWS}, {scope})")
