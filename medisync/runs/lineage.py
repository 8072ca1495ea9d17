"""From a number back to the files it rests on, and from a file on to the numbers made of it.

A lineage is a small graph: files -> deliveries -> tables (at a snapshot) -> run -> notebook cell -> result value.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import asdict, dataclass
from typing import Any

from medisync.errors import MediSyncError, UserError
from medisync.lake import Lake
from medisync.lake.history import CLINICAL_TABLES, as_known_on
from medisync.runs import numbers, records, versions
from medisync.runs.planning import require_snapshot
from medisync.runs.record import RunRecord, RunStatus

MOST_SHOWN = 50
KINDS = ("file", "delivery", "table", "snapshot", "notebook", "run", "result")
"""The kinds of nodes, from left to right."""


class NoSuchDeliveryError(UserError):
    """No delivery has this id."""

    code = "no-such-delivery"
    exit_code = 65
    http_status = 404


@dataclass(frozen=True)
class Node:
    """One thing a number passed through. ``detail`` is for people; no patient's value is in it."""

    id: str
    kind: str
    name: str
    detail: str = ""


@dataclass(frozen=True)
class Lineage:
    """``edges`` go from what came first to what was made of it."""

    of: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "of": self.of,
            "nodes": [asdict(one) for one in self.nodes],
            "edges": [list(one) for one in self.edges],
            "note": self.note,
        }

    def lines(self) -> list[str]:
        """For people: what was made first comes first."""
        order = sorted(self.nodes, key=lambda one: KINDS.index(one.kind))
        lines = [f"Lineage of {self.of}"]
        lines += [f"  {one.kind} {one.name}{': ' + one.detail if one.detail else ''}" for one in order]
        return [*lines, *([self.note] if self.note else [])]


def of_run(lake: Lake, run_id: str) -> Lineage:
    """A run's notebook, snapshot, tables, and the deliveries whose rows are in them. An analysis' name stands for its
    run that is served. Raises NoSuchRunError."""
    run_id = records.run_called(lake, run_id)
    record = records.record_of(lake, run_id)
    nodes, edges, note = _behind(lake, record)
    return Lineage(f"run {run_id}", tuple(nodes), tuple(edges), note)


def of_result(lake: Lake, address: str) -> Lineage:
    """A value of a result, as ``RUN`` or ``RUN/place/row/column`` (parts may be left out), with the cell that published
    it. An analysis' name stands for its run that is served. Raises NoSuchRunError."""
    name, *parts = address.split("/")
    run_id = records.run_called(lake, name)
    record, result = records.completed(lake, run_id)
    wanted = [part.strip().lower() for part in parts if part.strip()]
    values = [
        (" · ".join(part for part in where if part), value)
        for where, value in numbers.values_of(result).items()
        if all(any(part in one.lower() for one in where) for part in wanted)
    ]
    if not values:
        raise records.NoSuchRunError(f"The result of {run_id} has no such value.", hint="medisync compare names them.")
    nodes, edges, note = _behind(lake, record)
    cell = _publishing_cell(lake, record)
    nodes.append(Node("cell", "notebook", f"{record.notebook}, cell {cell}" if cell else record.notebook, "publishes"))
    edges.append((run_id, "cell"))
    for number, (name, value) in enumerate(values[:MOST_SHOWN]):
        nodes.append(Node(f"value {number}", "result", name, str(value)))
        edges.append(("cell", f"value {number}"))
    if len(values) > MOST_SHOWN:
        note = f"{note or ''} {len(values) - MOST_SHOWN:,} more values are not shown.".strip()
    return Lineage(f"result {'/'.join((run_id, *parts))}", tuple(nodes), tuple(edges), note)


def of_delivery(lake: Lake, delivery_id: str) -> Lineage:
    """A delivery's file, the tables that hold its rows, and the runs that read them. Raises NoSuchDeliveryError."""
    rows = lake.query(
        "SELECT delivery_id, file_label, content_hash, source, status, finished_at FROM clinical.deliveries "
        "WHERE delivery_id = ?",
        [delivery_id],
    )
    if not rows:
        raise NoSuchDeliveryError("No delivery has this id.", hint="medisync status names the last ones.")
    nodes, edges = _delivery_nodes(rows)
    tables = [table for table in _clinical_tables(lake) if _rows_by_delivery(lake, table, None).get(delivery_id)]
    for table in tables:
        number = _rows_by_delivery(lake, table, None)[delivery_id]
        nodes.append(Node(f"table {table}", "table", table, f"{number:,} rows as this delivery left them"))
        edges.append((delivery_id, f"table {table}"))
    since = lake.query(  # the snapshot of its commit; when that has expired, its time decides
        "SELECT min(snapshot_id) AS first FROM lake.snapshots() WHERE commit_extra_info LIKE ?",
        [f'%"{delivery_id}"%'],  # it may have come together with others
    )[0]["first"]
    read_it = ("snapshot_id >= ?", since) if since is not None else ("started_at >= ?", rows[0]["finished_at"])
    runs = lake.query(
        f"SELECT run_id, record FROM analytics.runs WHERE status = ? AND {read_it[0]} AND "
        "coalesce(TRY_CAST(json_extract_string(record, '$.known_on') AS TIMESTAMPTZ) >= ?::TIMESTAMPTZ, true) "
        f"ORDER BY finished_at DESC LIMIT {MOST_SHOWN + 1}",
        [RunStatus.COMPLETED, read_it[1], rows[0]["finished_at"]],
    )
    for row in runs[:MOST_SHOWN]:
        record = RunRecord.model_validate_json(row["record"])
        read = [table for table in tables if table in record.inputs]
        if read and rows[0]["status"] == "loaded":
            nodes.append(_run_node(record))
            edges += [(f"table {table}", record.run_id) for table in read]
    note = f"Only the newest {MOST_SHOWN} runs are shown." if len(runs) > MOST_SHOWN else None
    return Lineage(f"delivery {delivery_id}", tuple(nodes), tuple(edges), note)


def _behind(lake: Lake, record: RunRecord) -> tuple[list[Node], list[tuple[str, str]], str | None]:
    nodes = [
        _run_node(record),
        Node(
            "notebook",
            "notebook",
            record.notebook,
            f"version {record.notebook_hash[:12]}, code {record.code_hash[:12]}",
        ),
        Node("snapshot", "snapshot", str(record.snapshot_id), ""),
    ]
    edges = [("notebook", record.run_id), ("snapshot", record.run_id)]
    try:
        require_snapshot(lake, record.snapshot_id)
    except MediSyncError as error:
        return nodes, edges, f"{error.message} Its deliveries are no longer to be told."
    known = _clinical_tables(lake)
    counts = {
        table: _rows_by_delivery(lake, table, record.snapshot_id, record.known_on) if table in known else {}
        for table in record.inputs
    }
    found = sorted({delivery for by in counts.values() for delivery in by}, reverse=True)
    shown = found[:MOST_SHOWN]
    rows = lake.query(
        "SELECT delivery_id, file_label, content_hash, source, status, finished_at FROM clinical.deliveries "
        "WHERE delivery_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY finished_at, delivery_id",
        [shown],
    )
    more_nodes, more_edges = _delivery_nodes(rows)
    nodes, edges = [*nodes, *more_nodes], [*edges, *more_edges]
    for table, by in counts.items():
        total = sum(by.values())
        nodes.append(Node(f"table {table}", "table", table, f"version {record.inputs[table]}, {total:,} rows"))
        edges += [(delivery, f"table {table}") for delivery in by if delivery in shown]
        edges.append((f"table {table}", "snapshot"))
    note = f"{len(found) - MOST_SHOWN:,} older deliveries are not shown." if len(found) > MOST_SHOWN else None
    return nodes, edges, note


def _delivery_nodes(rows: list[dict[str, Any]]) -> tuple[list[Node], list[tuple[str, str]]]:
    nodes, edges = [], []
    for row in rows:
        at = f"{row['finished_at']:%Y-%m-%d %H:%M} UTC" if row["finished_at"] else ""
        nodes.append(Node(row["delivery_id"], "delivery", row["delivery_id"], f"{row['status']} {at}, {row['source']}"))
        if row["content_hash"]:
            file = f"file {row['content_hash']}"
            if all(one.id != file for one in nodes):
                nodes.append(Node(file, "file", row["file_label"] or "?", f"SHA-256 {row['content_hash']}"))
            edges.append((file, row["delivery_id"]))
    return nodes, edges


def _run_node(record: RunRecord) -> Node:
    at = f"{record.finished_at:%Y-%m-%d %H:%M} UTC"
    return Node(record.run_id, "run", record.run_id, f"{record.analysis}, {record.status.value} {at}")


def _clinical_tables(lake: Lake) -> list[str]:
    """Tables whose rows say which delivery they are of; deliveries and quarantine themselves apart."""
    rows = lake.query(
        "SELECT table_name FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = 'clinical' "
        "AND column_name = 'delivery_id' AND table_name NOT IN ('deliveries', 'quarantine', 'table_versions') "
        "ORDER BY 1"
    )
    return [row["table_name"] for row in rows]


def _rows_by_delivery(
    lake: Lake, table: str, snapshot_id: int | None, known_on: dt.datetime | None = None
) -> dict[str, int]:
    rows_of = f"clinical.{table}" if snapshot_id is None else f"clinical.{table} AT (VERSION => {int(snapshot_id)})"
    for name in CLINICAL_TABLES:
        if known_on is not None and table == name:
            rows_of = as_known_on(name, known_on)
    rows = lake.query(f"SELECT delivery_id, count(*) AS n FROM {rows_of} GROUP BY 1 ORDER BY 1")
    return {row["delivery_id"]: int(row["n"]) for row in rows}


def _publishing_cell(lake: Lake, record: RunRecord) -> int | None:
    """The number (from 1) of the cell that publishes, in the kept notebook; None when it is not kept."""
    try:
        cells = versions.fetch(lake.settings, record.notebook_hash, record.code_hash).notebook["cells"]
    except MediSyncError:
        return None
    numbers_ = [
        number
        for number, cell in enumerate(cells, start=1)
        if cell["cell_type"] == "code" and re.search(r"\bpublish\(", "".join(cell["source"]))
    ]
    return numbers_[-1] if numbers_ else None
