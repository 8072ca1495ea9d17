"""Names of what codes stand for: sites, insurers, concepts, medications. They come as files of their own in a set."""

from __future__ import annotations

from collections.abc import Sequence

from medisync.intake.layouts.layout import Reading, named
from medisync.intake.reading import identifier


def lookup(readings: Sequence[Reading], role: str, key: str, *columns: str) -> str | None:
    """A subquery ``(key, c0, c1, ...)`` of the name files of ``role``, one row a key; None when there is none."""
    tables = named(readings, role)
    if not tables:
        return None
    rows = " UNION ALL ".join(
        f"SELECT {identifier(key)} AS key, "
        + ", ".join(f"{identifier(column)} AS c{number}" for number, column in enumerate(columns))
        + f" FROM {reading.table}"
        for reading in tables
    )
    values = ", ".join(f"max(c{number}) AS c{number}" for number in range(len(columns)))
    return f"(SELECT key, {values} FROM ({rows}) WHERE key IS NOT NULL GROUP BY key)"


class Joined:
    """A reading's table with columns of others beside its own: ``add`` each, then ask for the ``sql``."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._joins: list[str] = []
        self._values: list[str] = []
        self.columns: list[str] = list(reading.role.columns)

    def add(self, lookup_sql: str | None, key: str, **columns: str) -> None:
        """Join ``lookup_sql`` on the column ``key``; each of ``columns`` (its number there -> new name) comes along.

        Without a lookup the new columns are there and empty.
        """
        alias = f"l{len(self._joins)}"
        if lookup_sql is not None:
            self._joins.append(f"LEFT JOIN {lookup_sql} AS {alias} ON own.{identifier(key)} = {alias}.key")
        for number, name in columns.items():
            value = f"{alias}.{number}" if lookup_sql is not None else "NULL::VARCHAR"
            self._values.append(f", {value} AS {identifier(name)}")
            self.columns.append(name)

    @property
    def sql(self) -> str:
        return f"SELECT own.*{''.join(self._values)} FROM {self._reading.table} AS own {' '.join(self._joins)}"
