"""One delivery from claimed file to committed snapshot.

The story: unpack -> hash -> known? -> recognise -> read -> check -> stage (de-identified) -> merge in one transaction
-> put the file away. Everything before the transaction may be repeated; the transaction carries the delivery's id and
happens once; everything after it may be repeated again.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medisync import __version__
from medisync.errors import DeliveryRefusedError, MediSyncError, UserError
from medisync.intake import (
    arrival,
    births,
    delimited,
    labels,
    merging,
    namesakes,
    parts,
    quality,
    references,
    rejects,
    rekeying,
    staging,
)
from medisync.intake.contents import Contents, contents_of
from medisync.intake.formats import Room
from medisync.intake.merging import DeliveryMode
from medisync.intake.reading import refused
from medisync.intake.reasons import FileFault, Notice
from medisync.intake.records import has_loaded, insert, label_of, loaded_before, next_versions, record, recorded
from medisync.intake.report import DeliveryReport, DeliveryStatus
from medisync.intake.shelf import Shelf, giving_back
from medisync.intake.sources import Source, SourceError, load_source
from medisync.lake import Lake

if TYPE_CHECKING:
    import duckdb

__all__ = ["DeliveryInHandsError", "IntakeFailedError", "Work", "deliver", "ingest", "merge", "prepare", "recorded"]

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
    """Deliver a copy of the file or folder ``path``. What cannot even be copied is recorded as refused, too."""
    settings = lake.settings
    settings.make_folders()
    delivery_id = arrival.reserve(settings, source)
    with arrival.sole_worker(settings, delivery_id, patience_seconds=PATIENCE_SECONDS):
        try:
            arrival.copy_in(settings, delivery_id, path)
        except DeliveryRefusedError as error:
            work = Work(delivery_id, source, path, settings.processing / delivery_id, labels.label(path.name, None))
            return record(lake, refusal(work, error))
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
    report = recorded(lake, delivery_id)
    if report is None:
        report = _load(lake, delivery_id, mode)
        write_pages(lake, [report])
    because = report.outcome() if report.status is DeliveryStatus.REFUSED else None
    arrival.put_away(lake.settings, delivery_id, refused_because=because)
    return report


def write_pages(lake: Lake, reports: Sequence[DeliveryReport]) -> None:
    """The pages of the quality. They can be written again at any time, so that a full disk fails no delivery."""
    from medisync.reports.quality import write_quality_pages

    ids = [report.delivery_id for report in reports if report.status is not DeliveryStatus.REPEAT]
    with suppress(OSError):
        write_quality_pages(lake, ids)


@dataclass
class Work:
    """What is known of a delivery while it is loaded. ``room`` is the folder for what is written on the way."""

    delivery_id: str
    source: str
    path: Path
    room: Path
    label: str
    received_at: dt.datetime = field(default_factory=lambda: now())
    content_hash: str | None = None
    contents: Contents | None = None
    staged: staging.Staged | None = None
    keys: bytes = b""  # of the pseudonyms it was staged with
    counts: staging.StagingCounts | None = None
    measures: list[quality.Measure] = field(default_factory=list)


def _load(lake: Lake, delivery_id: str, mode: DeliveryMode) -> DeliveryReport:
    room = lake.settings.processing / delivery_id
    found = arrival.claimed_file(lake.settings, delivery_id)
    if found is None:
        missing = Work(delivery_id, arrival.DEFAULT_SOURCE, room, room, "(unknown)")
        return record(lake, refusal(missing, refused(FileFault.DISAPPEARED, "It disappeared before it was read.")))
    source, path = found
    work = Work(delivery_id, source, path, room, labels.label(path.name, None))
    started = time.monotonic()
    lake = lake.on_all_cores() if parts.is_worth_all_cores(path) else lake
    cursor = staging.open_desk(lake)
    try:
        pieces = parts.parts_of(path, room / "unpacked")
        with parts.hashing(path, pieces) as content_hash:
            if parts.size_of(pieces) < delimited.LARGE_BYTES or has_loaded(lake, source):
                work.content_hash = content_hash()
                first = loaded_before(lake, work.content_hash, source)
                if first is not None:
                    return _record_repeat(lake, work, first)
            try:
                described = described_source(lake, source)
                foreseen(prepare, lake, cursor, work, described, pieces)
            finally:
                work.content_hash = content_hash()
        report = _commit(lake, cursor, work, described, mode)
    except DeliveryRefusedError as error:
        return record(lake, refusal(work, error), cursor, work.measures)
    except rekeying.KeyRotatedError:
        return _load(lake, delivery_id, mode)
    finally:
        cursor.close()
    return DeliveryReport(**{**report.__dict__, "seconds": round(time.monotonic() - started, 3)})


def described_source(lake: Lake, name: str) -> Source:
    """The source's description; raises DeliveryRefusedError when its file is wrong."""
    try:
        return load_source(lake.settings, name)
    except SourceError as error:
        raise refused(FileFault.BAD_SOURCE, error.message, hint="Correct it and deliver again.") from None


def foreseen(
    step: Callable[[Lake, duckdb.DuckDBPyConnection, Work, Source, list[parts.Part]], None],
    lake: Lake,
    cursor: duckdb.DuckDBPyConnection,
    work: Work,
    source: Source,
    pieces: list[parts.Part],
) -> None:
    """``step``, with errors that no check foresaw turned into ones without a patient's value.

    The database's messages quote values. Want of memory or disk may pass, so the delivery waits; any other error would
    come back each time, so it is refused.
    """
    import duckdb

    try:
        return step(lake, cursor, work, source, pieces)
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        kind = type(error).__name__
    except duckdb.Error as error:
        raise refused(
            FileFault.UNPROCESSABLE,
            f"The database could not process it ({type(error).__name__}).",
            hint="A fault of MediSync: please report it with the file's structure, not its contents.",
        ) from None
    raise IntakeFailedError(
        f"Delivery {work.delivery_id} could not be staged ({kind}).",
        hint="Is there room on the disk, and is MEDISYNC_MEMORY_LIMIT_MB large enough? It will be tried again.",
    )


def prepare(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, work: Work, source: Source, pieces: list[parts.Part]
) -> None:
    """Read, check and stage, all outside the lake. Of names alone there is nothing to stage."""
    settings = lake.settings
    contents = contents_of(cursor, pieces, source, Room(work.room / "room"), settings)
    work.contents = contents
    work.keys = rekeying.keys_in_force(lake)
    words = namesakes.telling_words(work.path.name)
    lake_files = None if settings.has_object_storage else lake.files
    shelf = Shelf(work.room / "shelf", work.source, work.delivery_id, lake_files)
    checked = staging.check(
        cursor,
        contents.feeds,
        work.received_at,
        source=work.source,
        key=work.keys,
        birth_dates=births.store(settings, work.source),
        shelf=shelf,
        words=words,
    )
    work.counts = checked
    work.label = labels.label(work.path.name, namesakes.name_words(cursor, contents.feeds, words))
    if checked.rows_read == 0 and contents.feeds:
        raise refused(FileFault.NO_ROWS, "It has a header and no rows.")
    if checked.quarantined:
        rejects.write_quarantine(cursor, contents.feeds, settings.quarantine / f"{work.delivery_id}.csv")
    if error := quality.ages_in_other_units(checked):
        raise error
    _refuse_too_many_faults(lake, cursor, work, source, checked)
    if contents.feeds:
        work.staged = staging.stage(cursor, contents.feeds, shelf)
        work.counts = staging.count(cursor, contents.feeds, checked)
    for notice, number in contents.notices().items():
        work.counts.notices[notice] = work.counts.notices.get(notice, 0) + number
    if not contents.feeds:
        return
    earlier = quality.past(lake, source, contents.layout.name)
    work.measures, error = quality.judge(
        cursor, contents.feeds, work.counts, source, earlier, work.received_at, shelf=shelf
    )
    if error:
        raise error


def _refuse_too_many_faults(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, work: Work, source: Source, checked: staging.StagingCounts
) -> None:
    limit = source.thresholds.quarantine_share
    limit = lake.settings.quarantine_share if limit is None else limit
    if checked.faulty_share <= limit:
        return
    worst = cursor.execute(
        "SELECT part, column_name, reason, count(*), min(row_number) FROM faults GROUP BY ALL ORDER BY 4 DESC, 1, 2 "
        "LIMIT 3"
    ).fetchall()
    listed = "; ".join(
        f"{f'{part}, ' if part else ''}{f'column {column}' if column else 'the whole row'}: {reason} in {n:,} rows, "
        f"first in row {row}"
        for part, column, reason, n, row in worst
    )
    raise refused(
        FileFault.TOO_MANY_FAULTS,
        f"{checked.quarantined:,} of {checked.rows_read:,} rows are faulty, more than {limit:.0%}: {listed}.",
        column=worst[0][1],
        hint=f"Every rejected row stands in data/quarantine/{work.delivery_id}.csv with its reason.",
    )


def _commit(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, work: Work, source: Source, mode: DeliveryMode
) -> DeliveryReport:
    """The one transaction. What another process recorded in the meantime is seen under the lock, and wins."""
    assert work.contents is not None  # noqa: S101 - only prepared work is committed
    references.keep(cursor, lake.settings, work.source, work.contents.layout, work.contents.readings)
    with lake.transaction(
        f"delivery {work.delivery_id}", extra={"delivery_id": work.delivery_id, "version": __version__}, cursor=cursor
    ) as transaction:
        rekeying.confirm(transaction, work.keys)
        birth_dates = births.store(lake.settings, work.source)
        with giving_back(work.staged.ready if work.staged else {}):
            report = merge(lake, transaction, work, source, mode, birth_dates=birth_dates)
            next_versions(transaction, [report], now())
            rejects.keep_faults(transaction, work.delivery_id)
            quality.keep(transaction, {work.delivery_id: work.measures})
            insert(transaction, report)
    return DeliveryReport(**{**report.__dict__, "snapshot": lake.last_snapshot_id()})


def merge(
    lake: Lake,
    transaction: duckdb.DuckDBPyConnection,
    work: Work,
    source: Source,
    mode: DeliveryMode,
    *,
    birth_dates: Path,
) -> DeliveryReport:
    """Merge what was staged, within ``transaction``, and say what it changed; of names alone nothing changes."""
    assert work.contents is not None  # noqa: S101 - only prepared work is merged
    assert work.counts is not None  # noqa: S101
    counts = work.counts
    merged = merging.MergeCounts(mode, 0, 0, 0, 0, ())
    if work.staged is not None:
        merged = merging.merge(
            transaction,
            work.staged,
            source=work.source,
            delivery_id=work.delivery_id,
            mode=source.mode if mode is DeliveryMode.AUTO else mode,
            full_extract_share=source.thresholds.full_extract_share or lake.settings.full_extract_share,
            birth_dates=birth_dates,
        )
        if merged.born_after:
            counts.notices[Notice.BIRTH_AFTER_ADMISSION.value] = merged.born_after
        if merged.waiting:
            notice, measure, error = quality.judge_waiting(transaction, work.staged, merged.waiting, source.thresholds)
            counts.notices[notice] = merged.waiting
            work.measures += measure
            if error:
                raise error
    return loaded(work, merged)


def loaded(work: Work, merged: merging.MergeCounts) -> DeliveryReport:
    """What to say of a delivery that was merged."""
    assert work.contents is not None  # noqa: S101 - only prepared work is merged
    assert work.counts is not None  # noqa: S101
    counts = work.counts
    return DeliveryReport(
        delivery_id=work.delivery_id,
        source=work.source,
        status=DeliveryStatus.LOADED,
        file_label=work.label,
        content_hash=work.content_hash,
        layout=work.contents.layout.name,
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
        finished_at=now(),
    )


def _record_repeat(lake: Lake, work: Work, first: str) -> DeliveryReport:
    report = DeliveryReport(
        delivery_id=work.delivery_id,
        source=work.source,
        status=DeliveryStatus.REPEAT,
        file_label=label_of(lake, first) or work.label,
        content_hash=work.content_hash,
        reason=first,
        message=f"The same content was loaded as {first}.",
        received_at=work.received_at,
        finished_at=now(),
    )
    return record(lake, report)


def refusal(work: Work, error: DeliveryRefusedError) -> DeliveryReport:
    """What to say of a delivery that was refused."""
    return DeliveryReport(
        delivery_id=work.delivery_id,
        source=work.source,
        status=DeliveryStatus.REFUSED,
        file_label=work.label,
        content_hash=work.content_hash,
        layout=work.contents.layout.name if work.contents else None,
        reason=error.reason,
        message=str(error),
        rows_read=work.counts.rows_read if work.counts else 0,
        quarantined=work.counts.quarantined if work.counts else 0,
        faults=work.counts.faults if work.counts else {},
        received_at=work.received_at,
        finished_at=now(),
    )


def now() -> dt.datetime:
    """The moment, UTC without a zone, as the lake keeps it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
