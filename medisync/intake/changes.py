"""What changed in the lake between two snapshots: counted exactly, and row by row.

Patients and admissions have a key: one is created, deleted, or updated when any of its values differs. Conditions and
prescriptions have none: one that changed is one deleted and one created. Compared are the two states, so that what
was changed and changed back in between counts nothing; DuckLake's change feed says which rows need comparing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medisync.errors import ParameterError, UserError
from medisync.lake import Lake

if TYPE_CHECKING:
    import duckdb

KEYS: dict[str, tuple[str, ...]] = {
    "patients": ("source", "patient_key"),
    "admissions": ("source", "admission_key"),
    "conditions": (),
    "prescriptions": (),
}
"""The tables of the feed and what makes a row of them the same one."""


class SnapshotExpiredError(UserError):
    """A snapshot of a comparison is not kept any more, or never was."""

    code = "snapshot-not-kept"
    exit_code = 28
    http_status = 404


class KeysDifferError(UserError):
    """The pseudonyms' key was rotated between two snapshots, so that their rows cannot be matched."""

    code = "keys-differ"
    exit_code = 29
    http_status = 409


@dataclass(frozen=True)
class TableChanges:
    table: str
    created: int
    updated: int
    deleted: int


@dataclass(frozen=True)
class Changes:
    """``deliveries``: ids of those loaded after ``first`` and up to ``last``, oldest first."""

    first: int
    last: int
    tables: tuple[TableChanges, ...]
    deliveries: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def changes(lake: Lake, first: int, last: int, tables: Sequence[str] = tuple(KEYS)) -> Changes:
    """Exact counts for each of ``tables``. Raises SnapshotExpiredError, KeysDifferError, ParameterError."""
    cursor = _checked(lake, first, last, tables)
    try:
        counted = []
        for table in tables:
            counts = dict(
                cursor.execute(
                    f"SELECT change, count(*) FROM ({_feed(cursor, table, first, last)}) GROUP BY change"
                ).fetchall()
            )
            counted.append(TableChanges(table, *(counts.get(one, 0) for one in ("created", "updated", "deleted"))))
        delivered = cursor.execute(
            f"SELECT delivery_id FROM lake.clinical.deliveries AT (VERSION => {last}) WHERE status = 'loaded' "
            f"AND delivery_id NOT IN (SELECT delivery_id FROM {_at('deliveries', first, cursor)}) ORDER BY finished_at"
        ).fetchall()
        return Changes(first, last, tuple(counted), tuple(one for (one,) in delivered))
    finally:
        cursor.close()


def changed_rows(lake: Lake, first: int, last: int, table: str) -> Iterator[dict[str, Any]]:
    """The rows of ``table`` that changed, as they are now (deleted ones: as they were), with ``change`` and the
    delivery that made them so (deleted ones: that had). Raises like :func:`changes`."""
    cursor = _checked(lake, first, last, (table,))
    try:
        result = cursor.execute(f"FROM ({_feed(cursor, table, first, last)}) ORDER BY ALL")
        names = [column[0] for column in result.description or []]
        while chunk := result.fetchmany(1000):
            for row in chunk:
                yield dict(zip(names, row, strict=True))
    finally:
        cursor.close()


def _checked(lake: Lake, first: int, last: int, tables: Sequence[str]) -> duckdb.DuckDBPyConnection:
    for table in tables:
        if table not in KEYS:
            raise ParameterError(f"There is no change feed of {table!r}; there is one of {', '.join(KEYS)}.")
    if first > last:
        raise ParameterError(f"Snapshot {first} is later than {last}: give the earlier one first.")
    cursor = lake.cursor()
    kept = {one for (one,) in cursor.execute("SELECT snapshot_id FROM lake.snapshots()").fetchall()}
    for one in (first, last):
        if one not in kept:
            cursor.close()
            raise SnapshotExpiredError(
                f"Snapshot {one} has expired." if one < max(kept) else f"There is no snapshot {one} yet.",
                hint=f"Kept are {len(kept):,} snapshots from {min(kept)} to {max(kept)}; see: medisync status",
            )
    generations = [
        (cursor.execute(f"SELECT max(generation) FROM {_at('key_generations', one, cursor)}").fetchone() or (None,))[0]
        for one in (first, last)
    ]
    if (generations[0] or 1) != (generations[1] or 1):
        cursor.close()
        raise KeysDifferError(
            f"Between snapshots {first} and {last} the pseudonyms' key was rotated: their rows cannot be matched.",
            hint="Compare the snapshots before the rotation with each other, and those after it.",
        )
    return cursor


def _feed(cursor: duckdb.DuckDBPyConnection, table: str, first: int, last: int) -> str:
    """The query: ``change`` and every column of ``table``."""
    columns = [
        name
        for (name,) in cursor.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = 'clinical' "
            "AND table_name = ? ORDER BY column_index",
            [table],
        ).fetchall()
    ]
    keys = KEYS[table]
    old, new = _at(table, first, cursor), _at(table, last, cursor)
    values = [name for name in columns if name not in (*keys, "delivery_id")]
    if not keys:
        compared = ", ".join(values)
        by = f"(SELECT {compared}, any_value(delivery_id) AS delivery_id FROM {{}} GROUP BY ALL)"
        come = f"(SELECT {compared} FROM {new} EXCEPT ALL SELECT {compared} FROM {old})"
        gone = f"(SELECT {compared} FROM {old} EXCEPT ALL SELECT {compared} FROM {new})"
        same = " AND ".join(f"row.{name} IS NOT DISTINCT FROM known.{name}" for name in values)
        return " UNION ALL ".join(
            f"SELECT '{change}' AS change, row.*, known.delivery_id FROM {rows} AS row "
            f"LEFT JOIN {by.format(where)} AS known ON {same}"
            for change, rows, where in (("created", come, new), ("deleted", gone, old))
        )
    touched = _touched(cursor, table, first, last)
    limit = f" WHERE ({', '.join(keys)}) IN ({touched})" if touched else ""
    match = " AND ".join(f"old.{name} = new.{name}" for name in keys)
    differs = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in values)
    chosen = ", ".join(
        f"CASE WHEN new.{keys[0]} IS NULL THEN old.{name} ELSE new.{name} END AS {name}" for name in columns
    )
    return (
        f"SELECT CASE WHEN old.{keys[0]} IS NULL THEN 'created' WHEN new.{keys[0]} IS NULL THEN 'deleted' "
        f"ELSE 'updated' END AS change, {chosen} FROM (FROM {old}{limit}) AS old "
        f"FULL JOIN (FROM {new}{limit}) AS new ON {match} "
        f"WHERE old.{keys[0]} IS NULL OR new.{keys[0]} IS NULL OR {differs}"
    )


def _touched(cursor: duckdb.DuckDBPyConnection, table: str, first: int, last: int) -> str | None:
    """The keys of all rows any snapshot in between touched; None where snapshots in between have expired, and with
    them what the change feed knew."""
    row = cursor.execute(
        "SELECT count(*) FROM lake.snapshots() WHERE snapshot_id > ? AND snapshot_id <= ?", [first, last]
    ).fetchone()
    if first == last or row is None or row[0] != last - first:
        return None
    return (
        f"SELECT DISTINCT {', '.join(KEYS[table])} "
        f"FROM ducklake_table_changes('lake', 'clinical', '{table}', {first + 1}, {last})"
    )


def _at(table: str, snapshot: int, cursor: duckdb.DuckDBPyConnection) -> str:
    """``table`` as it was; without a row where it did not exist yet."""
    import duckdb

    name = f"lake.clinical.{table} AT (VERSION => {snapshot})"
    try:
        cursor.execute(f"SELECT 1 FROM {name} LIMIT 0")
    except duckdb.Error:
        return f"(SELECT * FROM lake.clinical.{table} LIMIT 0)"
    return name
