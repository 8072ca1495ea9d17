"""What the lake keeps of each delivery, beside its rows: the record, the quarantine, the versions of tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync import __version__
from medisync.intake import rejects
from medisync.intake.quality import Measure, keep
from medisync.intake.report import DeliveryReport, DeliveryStatus
from medisync.lake import Lake

if TYPE_CHECKING:
    import duckdb

RECORD_COLUMNS = (
    "delivery_id",
    "source",
    "file_label",
    "content_hash",
    "layout",
    "mode",
    "status",
    "reason",
    "message",
    "rows_read",
    "created",
    "updated",
    "deleted",
    "unchanged",
    "duplicates_exact",
    "duplicates_conflicting",
    "quarantined",
    "admitted_from",
    "admitted_until",
    "received_at",
    "finished_at",
)


def recorded(lake: Lake, delivery_id: str) -> DeliveryReport | None:
    """The report of a delivery the lake knows, as far as the lake keeps it."""
    rows = lake.query(
        f"SELECT {', '.join(RECORD_COLUMNS)} FROM clinical.deliveries WHERE delivery_id = ?", [delivery_id]
    )
    if not rows:
        return None
    faults = lake.query(
        "SELECT reason, count(*) AS number FROM clinical.quarantine WHERE delivery_id = ? GROUP BY reason",
        [delivery_id],
    )
    changed = lake.query("SELECT table_name FROM clinical.table_versions WHERE delivery_id = ?", [delivery_id])
    values = {name: value for name, value in rows[0].items() if value is not None}
    return DeliveryReport(
        **{**values, "status": DeliveryStatus(values["status"])},
        faults={row["reason"]: row["number"] for row in faults},
        changed_tables=tuple(sorted(row["table_name"] for row in changed)),
        snapshot=lake.last_snapshot_id(),
    )


def loaded_before(lake: Lake, content_hash: str | None, source: str) -> str | None:
    """The first delivery of ``source`` that was loaded with this content."""
    rows = lake.query(
        "SELECT delivery_id FROM clinical.deliveries WHERE content_hash = ? AND source = ? AND status = ? "
        "ORDER BY finished_at LIMIT 1",
        [content_hash, source, DeliveryStatus.LOADED],
    )
    return rows[0]["delivery_id"] if rows else None


def known(
    lake: Lake, delivery_ids: Sequence[str], content_hashes: Sequence[str], source: str
) -> tuple[set[str], set[str]]:
    """Those of ``delivery_ids`` that are on record, and those of ``content_hashes`` that were loaded of ``source``."""
    ids = lake.query(
        "SELECT delivery_id FROM clinical.deliveries WHERE delivery_id IN (SELECT unnest(?::VARCHAR[]))",
        [list(delivery_ids)],
    )
    hashes = lake.query(
        "SELECT DISTINCT content_hash FROM clinical.deliveries WHERE source = ? AND status = ? "
        "AND content_hash IN (SELECT unnest(?::VARCHAR[]))",
        [source, DeliveryStatus.LOADED, list(content_hashes)],
    )
    return {row["delivery_id"] for row in ids}, {row["content_hash"] for row in hashes}


def has_loaded(lake: Lake, source: str) -> bool:
    """Whether anything was ever loaded of ``source``; where nothing was, nothing can be a repeat."""
    wanted = "SELECT 1 FROM clinical.deliveries WHERE source = ? AND status = ? LIMIT 1"
    return bool(lake.query(wanted, [source, DeliveryStatus.LOADED]))


def label_of(lake: Lake, delivery_id: str) -> str | None:
    """What the file of a recorded delivery may be called."""
    rows = lake.query("SELECT file_label FROM clinical.deliveries WHERE delivery_id = ?", [delivery_id])
    return rows[0]["file_label"] if rows else None


def record(
    lake: Lake,
    report: DeliveryReport,
    cursor: duckdb.DuckDBPyConnection | None = None,
    measures: Sequence[Measure] = (),
) -> DeliveryReport:
    """Record a delivery that changed nothing, in a transaction of its own.

    The row faults that ``cursor`` has found stand in the quarantine, too, whatever refused the file.
    """
    with lake.transaction(
        f"delivery {report.delivery_id} {report.status}", extra={"delivery_id": report.delivery_id}, cursor=cursor
    ) as transaction:
        if cursor is not None:
            rejects.keep_faults(transaction, report.delivery_id)
        keep(transaction, {report.delivery_id: measures})
        insert(transaction, report)
    return DeliveryReport(**{**report.__dict__, "snapshot": lake.last_snapshot_id()})


def insert(transaction: duckdb.DuckDBPyConnection, *reports: DeliveryReport) -> None:
    """Write the records within a transaction."""
    columns = (*RECORD_COLUMNS, "code_version")
    values = [[*(getattr(report, name) for name in RECORD_COLUMNS), __version__] for report in reports]
    marks = f"({', '.join('?' for _ in columns)})"
    transaction.execute(
        f"INSERT INTO lake.clinical.deliveries ({', '.join(columns)}) VALUES {', '.join(marks for _ in reports)}",
        [value for row in values for value in row],
    )


def next_versions(transaction: duckdb.DuckDBPyConnection, reports: Sequence[DeliveryReport], now: dt.datetime) -> None:
    """Note which tables the deliveries ``reports``, in their order, changed: the fingerprint by which an analysis knows
    its inputs."""
    changes: dict[str, list[str]] = {}
    for report in reports:
        for table in report.changed_tables:
            changes.setdefault(table, []).append(report.delivery_id)
    if not changes:
        return
    known = dict(transaction.execute("SELECT table_name, version FROM lake.clinical.table_versions").fetchall())
    transaction.execute(
        "DELETE FROM lake.clinical.table_versions WHERE table_name IN (SELECT unnest(?::VARCHAR[]))", [list(changes)]
    )
    rows = [value for table, ids in changes.items() for value in (table, known.get(table, 0) + len(ids), ids[-1], now)]
    marks = ", ".join(["(?, ?, ?, ?)"] * len(changes))
    transaction.execute(f"INSERT INTO lake.clinical.table_versions VALUES {marks}", rows)
