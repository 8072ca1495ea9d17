"""One delivery from claimed file to committed snapshot.

The story: hash -> known? -> look -> recognise -> read -> check -> stage (de-identified) -> merge in one transaction
-> put the file away. Everything before the transaction may be repeated; the transaction carries the delivery's id and
happens once; everything after it may be repeated again.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import __version__
from medisync.errors import DeliveryRefusedError, UserError
from medisync.intake import arrival, labels, merging, pseudonyms, reading, staging
from medisync.intake.layouts import Layout, recognise
from medisync.intake.merging import DeliveryMode
from medisync.intake.reasons import FileFault, Notice
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


class DeliveryInHandsError(UserError):
    """Another process is working on this delivery right now."""

    code = "delivery-in-hands"
    exit_code = 15
    http_status = 409


def ingest(
    lake: Lake, path: Path, *, source: str = arrival.DEFAULT_SOURCE, mode: DeliveryMode = DeliveryMode.AUTO
) -> DeliveryReport:
    """Deliver a copy of ``path``. A file that cannot even be copied is recorded as refused, too."""
    try:
        delivery_id = arrival.copy_in(lake.settings, path, source)
    except DeliveryRefusedError as error:
        return _record_refusal(
            lake, arrival.new_delivery_id(), source, labels.label(path.name, None), None, _now(), error
        )
    return deliver(lake, delivery_id, mode=mode)


def deliver(lake: Lake, delivery_id: str, *, mode: DeliveryMode = DeliveryMode.AUTO) -> DeliveryReport:
    """Bring the claimed file of ``delivery_id`` into the lake and say what happened.

    Safe to call again at any time, also after a crash: a delivery that is recorded is only put away and its report
    returned. Raises DeliveryInHandsError while another process is at it.
    """
    settings = lake.settings
    with arrival.sole_worker(settings, delivery_id) as is_sole:
        if not is_sole:
            raise DeliveryInHandsError(f"Delivery {delivery_id} is being loaded by another process.")
        report = recorded(lake, delivery_id) or _load(lake, delivery_id, mode)
        because = report.outcome() if report.status is DeliveryStatus.REFUSED else None
        arrival.put_away(settings, delivery_id, refused_because=because)
        return report


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


@dataclass
class _Work:
    """What is known of a delivery while it is loaded."""

    delivery_id: str
    source: str
    path: Path
    received_at: dt.datetime
    content_hash: str | None = None
    layout: Layout | None = None
    label: str = ""


def _load(lake: Lake, delivery_id: str, mode: DeliveryMode) -> DeliveryReport:
    found = arrival.claimed_file(lake.settings, delivery_id)
    if found is None:
        error = reading.refused(FileFault.DISAPPEARED, "It disappeared before it was read.")
        return _record_refusal(lake, delivery_id, arrival.DEFAULT_SOURCE, "(unknown)", None, _now(), error)
    work = _Work(delivery_id, *found, received_at=_now(), label=labels.label(found[1].name, None))
    started = time.monotonic()
    cursor = lake.cursor()
    try:
        work.content_hash = reading.content_hash(work.path)
        first = _loaded_before(lake, work)
        if first is not None:
            return _record_repeat(lake, work, first)
        counts = _prepare(lake, cursor, work)
        report = _commit(lake, cursor, work, counts, mode)
    except DeliveryRefusedError as error:
        return _record_refusal(
            lake, delivery_id, work.source, work.label, work.content_hash, work.received_at, error, work.layout
        )
    finally:
        staging.clear(cursor)
        cursor.close()
    return DeliveryReport(**{**report.__dict__, "seconds": round(time.monotonic() - started, 3)})


def _prepare(lake: Lake, cursor: duckdb.DuckDBPyConnection, work: _Work) -> staging.StagingCounts:
    """Read, check and stage, all outside the lake."""
    settings = lake.settings
    file = reading.look_at(work.path)
    work.layout, positions, extra_columns = recognise(file)
    reading.read_delimited(cursor, file, positions)
    words = labels.words_of(work.path.name)
    work.label = labels.label(work.path.name, staging.name_words(cursor, work.layout, words))
    staging.check(cursor, work.layout, work.received_at)
    first_look = staging.count(cursor, work.layout)
    if first_look.rows_read == 0:
        raise reading.refused(FileFault.NO_ROWS, "It has a header and no rows.")
    if first_look.quarantined:
        staging.write_quarantine(cursor, work.layout, settings.quarantine / f"{work.delivery_id}.csv")
    if first_look.faulty_share > settings.quarantine_share:
        worst = cursor.execute(
            "SELECT column_name, reason, count(*), min(row_number) FROM faults GROUP BY ALL ORDER BY 3 DESC, 1 LIMIT 3"
        ).fetchall()
        listed = "; ".join(
            f"column {column}: {reason} in {n:,} rows, first in row {row}" for column, reason, n, row in worst
        )
        raise reading.refused(
            FileFault.TOO_MANY_FAULTS,
            f"{first_look.quarantined:,} of {first_look.rows_read:,} rows are faulty, more than "
            f"{settings.quarantine_share:.0%}: {listed}.",
            column=worst[0][0],
            hint=f"Every rejected row stands in data/quarantine/{work.delivery_id}.csv with its reason.",
        )
    staging.stage(cursor, work.layout, work.source, pseudonyms.pseudonym_key(settings))
    counts = staging.count(cursor, work.layout)
    if extra_columns:
        counts.notices[Notice.EXTRA_COLUMNS.value] = extra_columns
    return counts


def _commit(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, work: _Work, counts: staging.StagingCounts, mode: DeliveryMode
) -> DeliveryReport:
    """The one transaction. What another process recorded in the meantime is seen under the lock, and wins."""
    with lake.transaction(
        f"delivery {work.delivery_id}", extra={"delivery_id": work.delivery_id, "version": __version__}, cursor=cursor
    ) as transaction:
        merged = merging.merge(
            transaction,
            source=work.source,
            delivery_id=work.delivery_id,
            mode=mode,
            full_extract_share=lake.settings.full_extract_share,
        )
        now = _now()
        for table in merged.changed_tables:
            _next_version(transaction, table, work.delivery_id, now)
        transaction.execute(
            "INSERT INTO lake.clinical.quarantine SELECT ?, row_number, column_name, reason FROM faults",
            [work.delivery_id],
        )
        report = DeliveryReport(
            delivery_id=work.delivery_id,
            source=work.source,
            status=DeliveryStatus.LOADED,
            file_label=work.label,
            content_hash=work.content_hash,
            layout=work.layout.name if work.layout else None,
            mode=merged.mode.value,
            rows_read=counts.rows_read,
            created=merged.created,
            updated=merged.updated,
            deleted=merged.deleted,
            unchanged=merged.unchanged,
            duplicates_exact=counts.duplicates_exact,
            duplicates_conflicting=counts.duplicates_conflicting,
            quarantined=counts.quarantined,
            faults=counts.faults,
            notices=counts.notices,
            changed_tables=merged.changed_tables,
            admitted_from=counts.admitted_from,
            admitted_until=counts.admitted_until,
            received_at=work.received_at,
            finished_at=now,
        )
        _insert_record(transaction, report)
    return DeliveryReport(**{**report.__dict__, "snapshot": lake.last_snapshot_id()})


def _next_version(transaction: duckdb.DuckDBPyConnection, table: str, delivery_id: str, now: dt.datetime) -> None:
    row = transaction.execute(
        "SELECT coalesce(max(version), 0) FROM lake.clinical.table_versions WHERE table_name = ?", [table]
    ).fetchone()
    transaction.execute("DELETE FROM lake.clinical.table_versions WHERE table_name = ?", [table])
    transaction.execute(
        "INSERT INTO lake.clinical.table_versions VALUES (?, ?, ?, ?)",
        [table, (row[0] if row else 0) + 1, delivery_id, now],
    )


def _loaded_before(lake: Lake, work: _Work) -> str | None:
    rows = lake.query(
        "SELECT delivery_id FROM clinical.deliveries WHERE content_hash = ? AND source = ? AND status = ? "
        "ORDER BY finished_at LIMIT 1",
        [work.content_hash, work.source, DeliveryStatus.LOADED],
    )
    return rows[0]["delivery_id"] if rows else None


def _record_repeat(lake: Lake, work: _Work, first: str) -> DeliveryReport:
    report = DeliveryReport(
        delivery_id=work.delivery_id,
        source=work.source,
        status=DeliveryStatus.REPEAT,
        file_label=_label_of(lake, first) or work.label,
        content_hash=work.content_hash,
        reason=first,
        message=f"The same content was loaded as {first}.",
        received_at=work.received_at,
        finished_at=_now(),
    )
    return _record(lake, report)


def _label_of(lake: Lake, delivery_id: str) -> str | None:
    rows = lake.query("SELECT file_label FROM clinical.deliveries WHERE delivery_id = ?", [delivery_id])
    return rows[0]["file_label"] if rows else None


def _record_refusal(
    lake: Lake,
    delivery_id: str,
    source: str,
    label: str,
    content_hash: str | None,
    received_at: dt.datetime,
    error: DeliveryRefusedError,
    layout: Layout | None = None,
) -> DeliveryReport:
    report = DeliveryReport(
        delivery_id=delivery_id,
        source=source,
        status=DeliveryStatus.REFUSED,
        file_label=label,
        content_hash=content_hash,
        layout=layout.name if layout else None,
        reason=error.reason,
        message=str(error),
        received_at=received_at,
        finished_at=_now(),
    )
    return _record(lake, report)


def _record(lake: Lake, report: DeliveryReport) -> DeliveryReport:
    with lake.transaction(
        f"delivery {report.delivery_id} {report.status}", extra={"delivery_id": report.delivery_id}
    ) as c:
        _insert_record(c, report)
    return DeliveryReport(**{**report.__dict__, "snapshot": lake.last_snapshot_id()})


def _insert_record(transaction: duckdb.DuckDBPyConnection, report: DeliveryReport) -> None:
    values: list[Any] = [getattr(report, name) for name in RECORD_COLUMNS]
    columns = ", ".join((*RECORD_COLUMNS, "code_version"))
    marks = ", ".join("?" for _ in range(len(values) + 1))
    transaction.execute(f"INSERT INTO lake.clinical.deliveries ({columns}) VALUES ({marks})", [*values, __version__])


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
