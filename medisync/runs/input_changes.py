"""What changed in the input tables between two snapshots: rows created, updated, deleted, and by which deliveries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from medisync.lake import Lake

KEYS = {
    "patients": ("source", "patient_key"),
    "admissions": ("source", "admission_key"),
    "conditions": ("source", "admission_key", "condition"),
    "prescriptions": ("source", "admission_key", "medication"),
}
"""Input table -> the columns by which a row is the same row."""


@dataclass(frozen=True)
class TableChange:
    """One input table. A row that came and went in between is not counted."""

    table: str
    created: int
    updated: int
    deleted: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class DeliveryBetween:
    """A delivery loaded between the two snapshots; counts are admissions."""

    delivery_id: str
    file_label: str | None
    created: int
    updated: int
    deleted: int
    finished_at: dt.datetime | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def name(self) -> str:
        return f"{self.delivery_id} ({self.file_label})" if self.file_label else self.delivery_id


def table_changes(lake: Lake, before: int, after: int, tables: Iterable[str] = KEYS) -> list[TableChange]:
    """The change of each of ``tables`` from snapshot ``before`` to ``after``; both must be kept.

    Tables whose version is the same are not read.
    """
    versions = [
        {
            row["table_name"]: row["version"]
            for row in lake.query(f"SELECT table_name, version FROM clinical.table_versions AT (VERSION => {int(one)})")
        }
        for one in (before, after)
    ]
    found = []
    for table in tables:
        if versions[0].get(table) == versions[1].get(table):
            found.append(TableChange(table, 0, 0, 0))
        elif table in KEYS:
            found.append(_changed(lake, table, int(before), int(after)))
    return found


def deliveries_between(lake: Lake, before: int, after: int) -> list[DeliveryBetween]:
    """Loaded deliveries that ``after`` knows and ``before`` does not, oldest first."""
    rows = lake.query(
        "SELECT delivery_id, file_label, coalesce(created, 0) AS created, coalesce(updated, 0) AS updated, "
        f"coalesce(deleted, 0) AS deleted, finished_at FROM clinical.deliveries AT (VERSION => {int(after)}) "
        "WHERE status = 'loaded' AND delivery_id NOT IN "
        f"(SELECT delivery_id FROM clinical.deliveries AT (VERSION => {int(before)})) ORDER BY finished_at, delivery_id"
    )
    return [DeliveryBetween(**row) for row in rows]


def admissions_by_delivery(
    lake: Lake, before: int, after: int, first: dt.date, until: dt.date
) -> list[tuple[str, int, int]]:
    """Delivery, admissions it added and admissions it changed among those admitted from ``first`` up to, not including,
    ``until``; the most first. Deleted ones cannot be told by their rows."""
    old, new = (f"(SELECT * FROM clinical.admissions AT (VERSION => {int(one)}))" for one in (before, after))
    rows = lake.query(
        f"SELECT new.delivery_id, count(*) FILTER (old.admission_key IS NULL) AS added, "
        f"count(*) FILTER (old.admission_key IS NOT NULL) AS changed FROM {new} AS new "
        f"LEFT JOIN (SELECT source, admission_key, delivery_id FROM {old}) AS old USING (source, admission_key) "
        "WHERE new.admitted_at >= ? AND new.admitted_at < ? AND new.delivery_id IS DISTINCT FROM old.delivery_id "
        "GROUP BY 1 ORDER BY 2 + 3 DESC, 1",
        [first, until],
    )
    return [(row["delivery_id"], row["added"], row["changed"]) for row in rows]


def _changed(lake: Lake, table: str, before: int, after: int) -> TableChange:
    old, new = (f"clinical.{table} AT (VERSION => {one})" for one in (before, after))
    shared = _columns(lake, old) & _columns(lake, new) - {"known_from", "known_until"}
    columns = ", ".join(sorted(shared))
    key = ", ".join(KEYS[table])
    row = lake.query(
        f"WITH gone AS (SELECT {columns} FROM {old} EXCEPT ALL SELECT {columns} FROM {new}), "
        f"come AS (SELECT {columns} FROM {new} EXCEPT ALL SELECT {columns} FROM {old}), "
        f"gone_by AS (SELECT {key}, count(*) AS n FROM gone GROUP BY ALL), "
        f"come_by AS (SELECT {key}, count(*) AS n FROM come GROUP BY ALL), "
        f"both_sides AS (SELECT coalesce(come_by.n, 0) AS come, coalesce(gone_by.n, 0) AS gone "
        f"FROM come_by FULL JOIN gone_by USING ({key})) "
        "SELECT coalesce(sum(greatest(come - gone, 0)), 0)::BIGINT AS created, "
        "coalesce(sum(least(come, gone)), 0)::BIGINT AS updated, "
        "coalesce(sum(greatest(gone - come, 0)), 0)::BIGINT AS deleted FROM both_sides"
    )[0]
    return TableChange(table, **row)


def _columns(lake: Lake, table: str) -> set[str]:
    return {row["column_name"] for row in lake.query(f"DESCRIBE SELECT * FROM {table}")}
