"""Names kept for later deliveries: those of sites, insurers and concepts, which are nobody's.

A set's files may come one by one. What only names things (organizations, payers, CARE_SITE, CONCEPT) is kept per source
in ``data/references/``, and used for the rows of later deliveries that bring no such file. Rows loaded before keep
their codes until they are delivered again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake.delimited import without_patterns
from medisync.intake.layouts import Layout, Reading, Role
from medisync.intake.reading import identifier
from medisync.settings import Settings

if TYPE_CHECKING:
    import duckdb


def keep(
    cursor: duckdb.DuckDBPyConnection, settings: Settings, source: str, layout: Layout, readings: Sequence[Reading]
) -> None:
    """Keep the names of ``readings``; of one code the newest name counts. Safe to repeat."""
    for role in layout.roles:
        tables = [reading.table for reading in readings if reading.role is role and reading.part != KEPT]
        if not role.names_only or not tables:
            continue
        path = _path(settings, source, layout, role.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        columns = ", ".join(identifier(column) for column in role.columns)
        code = identifier(role.columns[0])
        rows = " UNION ALL ".join(
            f"SELECT {columns}, {age} AS age FROM {table}" for age, table in enumerate(tables, start=1)
        )
        if path.exists():
            rows += f" UNION ALL SELECT {columns}, 0 AS age FROM {_kept_rows(cursor, role, path)}"
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            cursor.execute(
                f"COPY (SELECT {columns} FROM ({rows}) WHERE {code} IS NOT NULL "
                f"QUALIFY row_number() OVER (PARTITION BY {code} ORDER BY age DESC) = 1) "
                f"TO '{str(draft).replace(chr(39), chr(39) * 2)}' (FORMAT parquet)"
            )
            draft.chmod(0o600)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def kept(
    cursor: duckdb.DuckDBPyConnection, settings: Settings, source: str, layout: Layout, readings: Sequence[Reading]
) -> list[Reading]:
    """The names kept of earlier deliveries, for the roles that ``readings`` have none of."""
    found = []
    for number, role in enumerate(layout.roles):
        path = _path(settings, source, layout, role.name)
        if not role.names_only or any(reading.role is role for reading in readings) or not path.exists():
            continue
        table = f"kept_{number}"
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS FROM {_kept_rows(cursor, role, path)}")
        found.append(Reading(role, KEPT, table, frozenset(role.columns)))
    return found


def _kept_rows(cursor: duckdb.DuckDBPyConnection, role: Role, path: Path) -> str:
    """SQL: the names kept in ``path``; an earlier version may have kept fewer columns."""
    rows = f"read_parquet('{_quoted(path)}')"
    there = {name for name, *_ in cursor.execute(f"DESCRIBE FROM {rows}").fetchall()}
    columns = [identifier(one) if one in there else f"NULL::VARCHAR AS {identifier(one)}" for one in role.columns]
    return f"(SELECT {', '.join(columns)} FROM {rows})"


KEPT = "(kept)"
"""The part of names that came with an earlier delivery."""


def _path(settings: Settings, source: str, layout: Layout, role: str) -> Path:
    return settings.references / source / f"{layout.name}-{role}.parquet"


def _quoted(path: Path) -> str:
    return without_patterns(path).replace("'", "''")
