"""What the tables of a Postgres database say: text to be searched, table by table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from medisync.intake.privacy.contents import ROWS, rows_as_text

if TYPE_CHECKING:
    import psycopg

    from medisync.backend.database import Address

TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2
"""


def tables(address: Address) -> Iterator[tuple[str, Iterator[str]]]:
    """Every table with rows of its own, by the database's name and its own, and its texts; raises DatabaseAwayError.

    All of it is read as it is at one moment. The texts raise psycopg.Error where the table must not be read.
    """
    with closing(address.connect()) as connection, address.asked():
        connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for schema, table in connection.execute(TABLES).fetchall():
            yield f"{address.name}: {schema}.{table}", _texts(connection, schema, table)


def _texts(connection: psycopg.Connection, schema: str, table: str) -> Iterator[str]:
    from psycopg import sql

    with connection.transaction(), connection.cursor(name="searched") as cursor:
        cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table)))
        while rows := cursor.fetchmany(ROWS):
            yield from rows_as_text(rows)
