"""Small files of one source that wait together: read by one query, staged and merged as one, committed at once.

Loading a file takes a hundred statements and a commit, whatever is in it; of a burst of small files nearly all of that
can be shared. Each keeps what it would have had alone: its record, its counts, its measures and page of quality, and
its rows. Only files are taken together that cannot influence each other and of which there is nothing to tell: written
in the same way, without a faulty row, no admission in two of them, nothing said about a patient that another says
otherwise. The first that is different ends the batch, and is loaded by itself, so that the order is kept.
"""

from __future__ import annotations

import datetime as dt
import logging
import stat
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medisync import __version__
from medisync.errors import DeliveryRefusedError
from medisync.intake import arrival, births, delimited, labels, namesakes, parts, quality, records, rekeying, staging
from medisync.intake.contents import Contents, contents_of
from medisync.intake.delivery import Work, described_source, loaded, now, write_pages
from medisync.intake.events import number_of
from medisync.intake.feeds import Feed, Kind
from medisync.intake.formats import Room
from medisync.intake.formats.text import MendingReader
from medisync.intake.merging import DeliveryMode
from medisync.intake.merging_together import NotTogetherError, merge_together
from medisync.intake.reading import identifier
from medisync.intake.report import DeliveryReport
from medisync.intake.sources import Source
from medisync.lake import Lake

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

MOST_FILES = 100
"""So many are merged in about a second, for which nobody else writes to the lake."""

LARGEST_BYTES = 256 * 1024
"""Of a file; all together are held in memory as text."""

TABLE = "together"
OWN_COLUMNS = frozenset({"file", "filename", "row_number", "row_hash", "is_odd"})
"""What the rows of several files have beside their own columns."""


@dataclass(frozen=True)
class _Batch:
    """``feed`` is over the rows of all ``works``, in their order; ``rows`` are those of each, and ``read`` how many."""

    source: Source
    works: list[Work]
    feed: Feed
    rows: list[staging.Rows]
    read: list[int]


def deliver_together(lake: Lake, source: str, delivery_ids: Sequence[str]) -> list[DeliveryReport]:
    """Load the longest beginning of ``delivery_ids``, at most MOST_FILES, that can be loaded together.

    The caller has the source's turn. Without a report the first of them is to be loaded by itself.
    """
    import duckdb

    ids = list(delivery_ids)
    while len(ids) > 1:
        with arrival.sole_workers(lake.settings, ids) as ours:
            ids = _beginning(ids, ours)
            try:
                return _load(lake, source, ids)
            except NotTogetherError as error:
                ids = ids[: error.at]
            except (DeliveryRefusedError, rekeying.KeyRotatedError, duckdb.Error) as error:
                # Whichever file it was: it is among fewer and fewer, and at last by itself, where it is told of.
                log.info("%d deliveries are not loaded together (%s)", len(ids), type(error).__name__)
                ids = ids[: len(ids) // 2]
    return []


def _beginning(ids: list[str], ours: list[str]) -> list[str]:
    number = next((place for place, (one, other) in enumerate(zip(ids, ours, strict=False)) if one != other), len(ours))
    return ids[:number]


def _load(lake: Lake, source_name: str, ids: list[str]) -> list[DeliveryReport]:
    started = time.monotonic()
    source = described_source(lake, source_name)
    if births.store(lake.settings, source_name).exists() or source.mode is DeliveryMode.SNAPSHOT:
        raise NotTogetherError(0)
    with closing(staging.open_desk(lake)) as cursor:
        delimited.prepare(cursor)
        works = _gathered(lake, cursor, source, ids)
        if len(works) < 2:
            raise NotTogetherError(0)
        batch = _read(lake, cursor, source, works)
        staged = staging.stage(cursor, (batch.feed,))
        _judge(lake, cursor, batch)
        reports = _commit(lake, cursor, batch, staged)
    seconds = max(round((time.monotonic() - started) / len(reports), 3), 0.001)
    reports = [replace(report, seconds=seconds) for report in reports]
    write_pages(lake, reports)
    for report in reports:
        arrival.put_away(lake.settings, report.delivery_id)
    return reports


def _gathered(lake: Lake, cursor: duckdb.DuckDBPyConnection, source: Source, ids: list[str]) -> list[Work]:
    """The first files that are alike, new, and fit."""
    received_at = now()
    works: list[Work] = []
    for delivery_id in ids:
        work = _work(lake, cursor, source, delivery_id)
        is_new = work is not None and all(work.content_hash != other.content_hash for other in works)
        if work is None or not is_new or not _is_fit(work.contents) or (works and not _are_alike(works[0], work)):
            break
        if _plain_text(work) is None and not _set_rows_aside(cursor, work, len(works)):
            break
        work.received_at = received_at + dt.timedelta(microseconds=len(works))  # their order can be told
        works.append(work)
    known_ids, known_hashes = records.known(
        lake, [work.delivery_id for work in works], [work.content_hash or "" for work in works], source.name
    )
    number = next(
        (
            place
            for place, work in enumerate(works)
            if work.delivery_id in known_ids or work.content_hash in known_hashes
        ),
        len(works),
    )
    return works[:number]


def _work(lake: Lake, cursor: duckdb.DuckDBPyConnection, source: Source, delivery_id: str) -> Work | None:
    """What is known of a small file after a look at it; None for one that is large, no file, or refused."""
    found = arrival.claimed_file(lake.settings, delivery_id)
    if found is None:
        return None
    path, room = found[1], lake.settings.processing / delivery_id
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES or parts.is_archive(path):
            return None
        work = Work(delivery_id, source.name, path, room, labels.label(path.name, None))
        pieces = parts.parts_of(path, room / "unpacked")
        work.content_hash = parts.hash_of(path, pieces)
        work.contents = contents_of(cursor, pieces, source, Room(room / "room"), lake.settings)
    except (OSError, DeliveryRefusedError):
        return None
    return work


def _is_fit(contents: Contents | None) -> bool:
    """One table, whose rows tell all of their admissions and of nobody's birth, and delete nothing."""
    if contents is None or len(contents.readings) != 1 or len(contents.feeds) != 1:
        return False
    feed = contents.feeds[0]
    return (
        Kind.ADMISSIONS in feed.carries
        and "birth_date" not in feed.values.get(Kind.PATIENTS, {})
        and feed.deleted is None
        and feed.passed_over is None
        and OWN_COLUMNS.isdisjoint(name.casefold() for name in feed.columns)
    )


def _are_alike(one: Work, other: Work) -> bool:
    """Whether both are written in the same way and say the same things by it."""
    assert one.contents is not None  # noqa: S101 - only fit files are compared
    assert other.contents is not None  # noqa: S101
    feeds = [replace(work.contents.feeds[0], reader=None) for work in (one, other) if work.contents]
    if one.contents.layout.name != other.contents.layout.name or feeds[0] != feeds[1]:
        return False
    texts = [_plain_text(one), _plain_text(other)]
    if texts[0] is None or texts[1] is None:
        return texts[0] is texts[1]
    return replace(texts[0].file, path=texts[1].file.path) == texts[1].file and texts[0].positions == texts[1].positions


def _plain_text(work: Work) -> delimited.DelimitedReader | None:
    """The reader of a file of delimited text that can be read as it is, with others like it; None for any other."""
    feed = work.contents.feeds[0] if work.contents else None
    reader = feed.reader.plain if feed and isinstance(feed.reader, MendingReader) else None
    return reader if feed and reader and reader.table == feed.table else None


def _set_rows_aside(cursor: duckdb.DuckDBPyConnection, work: Work, file: int) -> bool:
    """Add the rows of a file that had to be read by itself to those of the files before it; False when one is none."""
    assert work.contents is not None  # noqa: S101 - only fit files are read
    feed = work.contents.feeds[0]
    rows = feed.table
    if feed.reader is not None:
        rows = f"{TABLE}_one"
        feed.reader.read(cursor, rows, f"SELECT row_number() OVER () AS row_number, * FROM {feed.table}")
    if number_of(cursor, "SELECT count(*) FROM malformed"):
        return False
    before = number_of(cursor, f"SELECT coalesce(max(row_number), 0) FROM {TABLE}") if file else 0
    columns = ", ".join(identifier(name) for name in feed.columns)
    make = f"INSERT INTO temp.{TABLE}" if file else f"CREATE OR REPLACE TEMP TABLE {TABLE} AS"
    cursor.execute(
        f"{make} SELECT {before} + row_number AS row_number, {file} AS file, row_hash, {columns} FROM {rows}"
    )
    return True


def _read(lake: Lake, cursor: duckdb.DuckDBPyConnection, source: Source, works: list[Work]) -> _Batch:
    """Read all files, check them, and leave out those from the first on that is to be loaded by itself."""
    assert works[0].contents is not None  # noqa: S101 - only fit files are read
    feed = replace(works[0].contents.feeds[0], table=TABLE, reader=None)
    number, texts = len(works), [text for work in works if (text := _plain_text(work))]
    if texts:
        number = delimited.read_together(cursor, texts, TABLE)
    cursor.execute("DELETE FROM temp.malformed")  # what the first file that is left out may have left
    keys = rekeying.keys_in_force(lake)
    staging.check(cursor, (feed,), works[0].received_at, source=source.name, key=keys)
    number = min(number, _first_apart(cursor, feed, number))
    if number < 2:
        raise NotTogetherError(0)
    found = cursor.execute(
        f"SELECT file, min(row_number), max(row_number), count(*) FROM {TABLE} WHERE file < ? GROUP BY file", [number]
    ).fetchall()
    rows = {file: (first, last) for file, first, last, _ in found}
    read = {file: rows_read for file, _, _, rows_read in found}
    number = next((file for file in range(number) if file not in rows), number)  # a header without rows
    if any(rows[file][0] <= rows[file - 1][1] for file in range(1, number)):  # not read one after the other
        raise NotTogetherError(0)
    works = works[:number]
    if number < 2:
        raise NotTogetherError(0)
    last = rows[number - 1][1]
    for table in (TABLE, "keyed_0"):
        cursor.execute(f"DELETE FROM temp.{table} WHERE row_number > ?", [last])
    for file, work in enumerate(works):
        work.keys = keys
        words = namesakes.telling_words(work.path.name)
        mine = replace(feed, table=f"(FROM {TABLE} WHERE file = {file})")
        work.label = labels.label(work.path.name, namesakes.name_words(cursor, (mine,), words))
    files = range(number)
    return _Batch(source, works, feed, [rows[file] for file in files], [read[file] for file in files])


def _first_apart(cursor: duckdb.DuckDBPyConnection, feed: Feed, files: int) -> int:
    """The first file with a faulty row, with an admission that is in one before it, or that says something else of a
    patient than one before it; ``files`` if there is none."""
    said = ", ".join(f"patients_{name}" for name in feed.values.get(Kind.PATIENTS, {})) or "NULL"
    row = cursor.execute(
        f"WITH filed AS (SELECT file, keyed_0.* FROM keyed_0 JOIN {TABLE} USING (row_number)), "
        "again AS (SELECT list_sort(list(DISTINCT file))[2] AS file FROM filed WHERE faults IS NULL "
        f"GROUP BY admission_key UNION ALL SELECT list_sort(list(DISTINCT file))[2] FROM filed WHERE faults IS NULL "
        f"GROUP BY patient_key HAVING count(DISTINCT row({said})) > 1 "
        f"UNION ALL SELECT file FROM faults JOIN {TABLE} USING (row_number)) SELECT min(file) FROM again"
    ).fetchone()
    return files if row is None or row[0] is None else int(row[0])


def _judge(lake: Lake, cursor: duckdb.DuckDBPyConnection, batch: _Batch) -> None:
    """Count and measure each file, and hold it against those before it; raises NotTogetherError at one to refuse."""
    contents = batch.works[0].contents
    assert contents is not None  # noqa: S101 - only fit files are judged
    earlier = quality.past(lake, batch.source, contents.layout.name)
    for file, (work, rows, read) in enumerate(zip(batch.works, batch.rows, batch.read, strict=True)):
        checked = staging.StagingCounts(read, 0, 0, 0, {})
        work.counts = staging.count(cursor, (batch.feed,), checked, rows)
        if work.contents is not None:
            work.counts.notices.update(work.contents.notices())
        work.measures, error = quality.judge(
            cursor, (batch.feed,), work.counts, batch.source, earlier, work.received_at, rows
        )
        if error:
            raise NotTogetherError(file)
        quality.remember(earlier, work.measures, batch.source, work.received_at)


def _commit(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, batch: _Batch, staged: staging.Staged
) -> list[DeliveryReport]:
    """The one transaction, with all deliveries' rows, measures and records, or none."""
    ids = [work.delivery_id for work in batch.works]
    _set_owners(cursor, batch, ids)
    with lake.transaction(
        f"{len(ids)} deliveries of {batch.source.name}",
        extra={"delivery_ids": ids, "version": __version__},
        cursor=cursor,
    ) as transaction:
        rekeying.confirm(transaction, batch.works[0].keys)
        merged = merge_together(
            transaction,
            staged,
            source=batch.source.name,
            delivery_ids=ids,
            mode=batch.source.mode,
            full_extract_share=batch.source.thresholds.full_extract_share or lake.settings.full_extract_share,
        )
        finished_at = now()
        reports = [
            replace(loaded(work, counts), finished_at=finished_at + dt.timedelta(microseconds=file))
            for file, (work, counts) in enumerate(zip(batch.works, merged, strict=True))
        ]
        records.next_versions(transaction, reports, finished_at)
        quality.keep(transaction, {work.delivery_id: work.measures for work in batch.works})
        records.insert(transaction, *reports)
    snapshot = lake.last_snapshot_id()
    return [replace(report, snapshot=snapshot) for report in reports]


def _set_owners(cursor: duckdb.DuckDBPyConnection, batch: _Batch, ids: list[str]) -> None:
    winners = f"{staging.winners(0, batch.feed)} AS rows JOIN {TABLE} USING (row_number)"
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE owners AS SELECT owned, file, (?::VARCHAR[])[file + 1] AS delivery_id FROM ("
        f"SELECT admission_key AS owned, min(file) AS file FROM {winners} GROUP BY ALL "
        f"UNION ALL SELECT patient_key, min(file) FROM {winners} GROUP BY ALL)",
        [ids],
    )
