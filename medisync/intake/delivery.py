"""One delivery from claimed file to committed snapshot.

The story: hash -> known? -> look -> recognise -> read -> check -> stage (de-identified) -> merge in one transaction
-> put the file away. Everything before the transaction may be repeated; the transaction carries the delivery's id and
happens once; everything after it may be repeated again.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import __version__
from medisync.errors import DeliveryRefusedError, MediSyncError, UserError
from medisync.intake import arrival, births, delimited, labels, merging, reading, rejects, rekeying, staging
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


PATIENCE_SECONDS = 2.0
"""A watcher that asks whether somebody works on a delivery holds its mark for less than this."""


class DeliveryInHandsError(UserError):
    """Another process is working on this delivery right now."""

    code = "delivery-in-hands"
    exit_code = 15
    http_status = 409


class IntakeFailedError(MediSyncError):
    """Memory or disk ran out while a delivery was staged; nothing was loaded, and another try may succeed."""

    code = "intake-failed"
    exit_code = 18
    http_status = 503


def ingest(
    lake: Lake, path: Path, *, source: str = arrival.DEFAULT_SOURCE, mode: DeliveryMode = DeliveryMode.AUTO
) -> DeliveryReport:
    """Deliver a copy of ``path``. A file that cannot even be copied is recorded as refused, too."""
    settings = lake.settings
    settings.make_folders()
    delivery_id = arrival.reserve(settings, source)
    with arrival.sole_worker(settings, delivery_id, patience_seconds=PATIENCE_SECONDS):
        try:
            arrival.copy_in(settings, delivery_id, path)
        except DeliveryRefusedError as error:
            return _record_refusal(lake, delivery_id, source, labels.label(path.name, None), None, _now(), error)
        return _deliver(lake, delivery_id, mode)


def deliver(lake: Lake, delivery_id: str, *, mode: DeliveryMode = DeliveryMode.AUTO) -> DeliveryReport:
    """Bring the claimed file of ``delivery_id`` into the lake and say what happened.

    Safe to call again at any time, also after a crash: a delivery that is recorded is only put away and its report
    returned. Raises DeliveryInHandsError while another process is at it.
    """
    with arrival.sole_worker(lake.settings, delivery_id, patience_seconds=PATIENCE_SECONDS) as is_sole:
        if not is_sole:
            raise DeliveryInHandsError(f"Delivery {delivery_id} is being loaded by another process.")
        return _deliver(lake, delivery_id, mode)


def _deliver(lake: Lake, delivery_id: str, mode: DeliveryMode) -> DeliveryReport:
    report = recorded(lake, delivery_id) or _load(lake, delivery_id, mode)
    because = report.outcome() if report.status is DeliveryStatus.REFUSED else None
    arrival.put_away(lake.settings, delivery_id, refused_because=because)
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
    staged: staging.Staged | None = None
    keys: bytes = b""  # of the pseudonyms it was staged with
    counts: staging.StagingCounts | None = None  # of the checks, before anything was staged


def _load(lake: Lake, delivery_id: str, mode: DeliveryMode) -> DeliveryReport:
    found = arrival.claimed_file(lake.settings, delivery_id)
    if found is None:
        error = reading.refused(FileFault.DISAPPEARED, "It disappeared before it was read.")
        return _record_refusal(lake, delivery_id, arrival.DEFAULT_SOURCE, "(unknown)", None, _now(), error)
    work = _Work(delivery_id, *found, received_at=_now(), label=labels.label(found[1].name, None))
    started = time.monotonic()
    cursor = staging.open_desk(lake)
    try:
        work.content_hash = reading.content_hash(work.path)
        first = _loaded_before(lake, work)
        if first is not None:
            return _record_repeat(lake, work, first)
        counts = _foreseen(_prepare, lake, cursor, work)
        report = _commit(lake, cursor, work, counts, mode)
    except DeliveryRefusedError as error:
        return _record_refusal(
            lake,
            delivery_id,
            work.source,
            work.label,
            work.content_hash,
            work.received_at,
            error,
            work.layout,
            work.counts,
            cursor,
        )
    except rekeying.KeyRotatedError:
        return _load(lake, delivery_id, mode)
    finally:
        cursor.close()
    return DeliveryReport(**{**report.__dict__, "seconds": round(time.monotonic() - started, 3)})


def _foreseen(
    prepare: Callable[[Lake, duckdb.DuckDBPyConnection, _Work], staging.StagingCounts],
    lake: Lake,
    cursor: duckdb.DuckDBPyConnection,
    work: _Work,
) -> staging.StagingCounts:
    """``prepare``, with errors that no check foresaw turned into ones without a patient's value.

    The database's messages quote values. Want of memory or disk may pass, so the delivery waits; any other error would
    come back each time, so it is refused.
    """
    import duckdb

    try:
        return prepare(lake, cursor, work)
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        kind = type(error).__name__
    except duckdb.Error as error:
        raise reading.refused(
            FileFault.UNPROCESSABLE,
            f"The database could not process it ({type(error).__name__}).",
            hint="A fault of MediSync: please report it with the file's structure, not its contents.",
        ) from None
    raise IntakeFailedError(
        f"Delivery {work.delivery_id} could not be staged ({kind}).",
        hint="Is there room on the disk, and is MEDISYNC_MEMORY_LIMIT_MB large enough? It will be tried again.",
    )


def _prepare(lake: Lake, cursor: duckdb.DuckDBPyConnection, work: _Work) -> staging.StagingCounts:
    """Read, check and stage, all outside the lake."""
    settings = lake.settings
    file = reading.look_at(work.path)
    work.layout, positions, extra_columns = recognise(file)
    reader = delimited.read_delimited(cursor, file, positions)
    feeds = (replace(work.layout.feed("", "raw"), reader=reader),)
    work.keys = rekeying.keys_in_force(lake)
    first_look = staging.check(cursor, feeds, work.received_at, source=work.source, key=work.keys)
    work.counts = first_look
    words = labels.words_of(work.path.name)
    work.label = labels.label(work.path.name, rejects.name_words(cursor, feeds, words))
    if first_look.rows_read == 0:
        raise reading.refused(FileFault.NO_ROWS, "It has a header and no rows.")
    if first_look.quarantined:
        rejects.write_quarantine(cursor, feeds, settings.quarantine / f"{work.delivery_id}.csv")
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
    work.staged = staging.stage(cursor, feeds)
    counts = staging.count(cursor, feeds, first_look)
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
        assert work.staged is not None  # noqa: S101 - only staged work is committed
        rekeying.confirm(transaction, work.keys)
        merged = merging.merge(
            transaction,
            work.staged,
            source=work.source,
            delivery_id=work.delivery_id,
            mode=mode,
            full_extract_share=lake.settings.full_extract_share,
            birth_dates=births.store(lake.settings, work.source),
        )
        now = _now()
        _next_versions(transaction, merged.changed_tables, work.delivery_id, now)
        rejects.keep_faults(transaction, work.delivery_id)
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


def _next_versions(
    transaction: duckdb.DuckDBPyConnection, tables: tuple[str, ...], delivery_id: str, now: dt.datetime
) -> None:
    if not tables:
        return
    known = dict(transaction.execute("SELECT table_name, version FROM lake.clinical.table_versions").fetchall())
    transaction.execute(
        "DELETE FROM lake.clinical.table_versions WHERE table_name IN (SELECT unnest(?::VARCHAR[]))", [list(tables)]
    )
    rows = [value for table in tables for value in (table, known.get(table, 0) + 1, delivery_id, now)]
    marks = ", ".join(["(?, ?, ?, ?)"] * len(tables))
    transaction.execute(f"INSERT INTO lake.clinical.table_versions VALUES {marks}", rows)


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
    counts: staging.StagingCounts | None = None,
    cursor: duckdb.DuckDBPyConnection | None = None,
) -> DeliveryReport:
    """The row faults that were found stand in the quarantine, too, whatever refused the file."""
    report = DeliveryReport(
        delivery_id=delivery_id,
        source=source,
        status=DeliveryStatus.REFUSED,
        file_label=label,
        content_hash=content_hash,
        layout=layout.name if layout else None,
        reason=error.reason,
        message=str(error),
        rows_read=counts.rows_read if counts else 0,
        quarantined=counts.quarantined if counts else 0,
        faults=counts.faults if counts else {},
        received_at=received_at,
        finished_at=_now(),
    )
    return _record(lake, report, cursor)


def _record(lake: Lake, report: DeliveryReport, cursor: duckdb.DuckDBPyConnection | None = None) -> DeliveryReport:
    with lake.transaction(
        f"delivery {report.delivery_id} {report.status}", extra={"delivery_id": report.delivery_id}, cursor=cursor
    ) as transaction:
        if cursor is not None:
            rejects.keep_faults(transaction, report.delivery_id)
        _insert_record(transaction, report)
    return DeliveryReport(**{**report.__dict__, "snapshot": lake.last_snapshot_id()})


def _insert_record(transaction: duckdb.DuckDBPyConnection, report: DeliveryReport) -> None:
    values: list[Any] = [getattr(report, name) for name in RECORD_COLUMNS]
    columns = ", ".join((*RECORD_COLUMNS, "code_version"))
    marks = ", ".join("?" for _ in range(len(values) + 1))
    transaction.execute(f"INSERT INTO lake.clinical.deliveries ({columns}) VALUES ({marks})", [*values, __version__])


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
