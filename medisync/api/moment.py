"""Several questions to the lake about one and the same moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from medisync.lake import Lake


class Moment(Lake):
    """A lake as it is now and stays until :func:`moment` ends: every query is of one read transaction, so that what is
    read together belongs together, and the catalog is looked up once. For one thread."""

    def __init__(self, lake: Lake, cursor: duckdb.DuckDBPyConnection) -> None:
        super().__init__(lake.settings)
        self._cursor = cursor

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        self._cursor.execute(sql, parameters or [])
        names = [column[0] for column in self._cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in self._cursor.fetchall()]

    def last_snapshot_id(self) -> int:
        """The snapshot of this moment."""
        return int(self.query("SELECT id FROM lake.current_snapshot()")[0]["id"])

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """The one cursor; whoever has it must not end its transaction."""
        return self._cursor

    def close(self) -> None:
        """The lake stays open; :func:`moment` ends the transaction."""


@contextmanager
def moment(lake: Lake) -> Iterator[Moment]:
    """``lake`` as of now; nothing to give back afterwards."""
    cursor = lake.cursor()
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        yield Moment(lake, cursor)
        with suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
    finally:
        cursor.close()
