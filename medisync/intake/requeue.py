"""Taking quarantined rows again, after a file, the rows in quarantine or the description of the source was corrected.

Of a loaded delivery only its open rows are taken: those that pass now are loaded as an update, as a delivery of their
own that names the first one; those that do not stay where they are, with the reasons they have now. Nothing else of the
file is touched, and nothing is deleted as absent. A refused delivery is delivered again as a whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import __version__
from medisync.backend.locks import Lock
from medisync.errors import DeliveryRefusedError, LockBusyError, NoDataError
from medisync.intake import arrival, births, parts, rejects, rekeying, staging
from medisync.intake.contents import contents_of
from medisync.intake.corrections import NotRequeuedError, applied, read_corrections
from medisync.intake.delimited import text
from medisync.intake.delivery import Work, described_source, ingest, merge, now, write_pages
from medisync.intake.feeds import Feed
from medisync.intake.formats import Room
from medisync.intake.merging import DeliveryMode
from medisync.intake.records import insert, next_versions
from medisync.lake import Lake

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Requeued:
    """``taken`` = ``loaded`` + ``superseded`` + ``quarantined`` rows.

    ``superseded``: rows that pass, but whose admission a later delivery has told anew since: they change nothing.
    ``corrected``: rows that somebody changed in the quarantine's own file. ``delivery_id`` is that of the delivery that
    loaded rows, None when there was none to load.
    """

    original: str
    delivery_id: str | None
    taken: int
    loaded: int
    superseded: int
    quarantined: int
    created: int = 0
    updated: int = 0
    changed_tables: tuple[str, ...] = ()
    corrected: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        return (
            f"{self.taken:,} rows of {self.original} were taken again: {self.loaded:,} loaded "
            f"({self.created:,} admissions created, {self.updated:,} updated), {self.superseded:,} superseded since, "
            f"{self.quarantined:,} still faulty."
            + (f" {self.corrected:,} were corrected in the quarantine's file." if self.corrected else "")
        )


def requeue(lake: Lake, delivery_id: str, *, corrected: Path | None = None) -> Requeued:
    """Take the open rows of ``delivery_id`` again: from the file that is kept, with what was changed in the
    quarantine's own file, or from ``corrected``, in which these rows alone may differ. ``corrected`` may be a copy of
    the quarantine's file, too. May be repeated; what was loaded is not taken again.

    Raises NoDataError for an unknown delivery or a file that is not kept, NotRequeuedError, DeliveryRefusedError.
    """
    lake.settings.make_folders()
    with _alone(lake, delivery_id):
        rows = lake.query("FROM clinical.deliveries WHERE delivery_id = ?", [delivery_id])
        if not rows:
            raise NoDataError(f"There is no delivery {delivery_id}.", hint="medisync status lists the last ones.")
        original = rows[0]
        if original["status"] == "repeat":
            raise NotRequeuedError(f"{delivery_id} repeats {original['reason']}.", hint="Requeue that one.")
        if original["status"] == "refused":
            return _deliver_again(lake, original, corrected)
        number = lake.query(
            "SELECT count(DISTINCT (concat('', part), row_number)) AS n FROM clinical.quarantine "
            "WHERE delivery_id = ? AND resolved_by IS NULL",
            [delivery_id],
        )[0]["n"]
        if not number:
            return Requeued(delivery_id, None, 0, 0, 0, 0)
        kept = _kept(lake, original)
        if kept is None and corrected is None:
            raise NoDataError(
                f"The file of {delivery_id} is not kept.", hint=f"medisync requeue {delivery_id} --with FILE"
            )
        return _take(lake, original, corrected, kept)


def _deliver_again(lake: Lake, original: dict[str, Any], corrected: Path | None) -> Requeued:
    """All of a refused file; a second time it is a repeat, and changes nothing."""
    if corrected is not None and read_corrections(corrected) is not None:
        raise NotRequeuedError(
            "A refused delivery is delivered again as a whole, not by its quarantined rows.",
            hint=f"Correct the file itself: medisync requeue {original['delivery_id']} --with FILE",
        )
    kept = corrected or _kept(lake, original)
    if kept is None:
        raise NoDataError(f"The file of {original['delivery_id']} is not kept.", hint="Deliver it again.")
    with tempfile.TemporaryDirectory(dir=lake.settings.quarantine) as folder:
        report = ingest(lake, _under_its_name(kept, original, Path(folder)), source=original["source"])
    with lake.transaction(f"delivery {report.delivery_id} requeues {original['delivery_id']}") as transaction:
        _link(transaction, report.delivery_id, original["delivery_id"])
    if report.status.value == "refused":
        raise DeliveryRefusedError(str(report.message), reason=str(report.reason))
    return Requeued(
        original["delivery_id"],
        report.delivery_id,
        taken=report.rows_read,
        loaded=report.rows_read - report.quarantined,
        superseded=0,
        quarantined=report.quarantined,
        created=report.created,
        updated=report.updated,
        changed_tables=report.changed_tables,
    )


def _take(lake: Lake, original: dict[str, Any], corrected: Path | None, kept: Path | None) -> Requeued:
    first_id, source = original["delivery_id"], original["source"]
    described = described_source(lake, source)
    keys = rekeying.keys_in_force(lake)
    corrections = None if corrected is None else read_corrections(corrected)
    if corrections is not None:
        corrected = None
        if kept is None:
            raise NoDataError(f"The file of {first_id} is not kept; its rows alone do not say how it was written.")
    elif corrected is None:
        corrections = read_corrections(lake.settings.quarantine / f"{first_id}.csv")
    changed = 0
    with (
        tempfile.TemporaryDirectory(dir=lake.settings.quarantine) as folder,
        closing(staging.open_desk(lake)) as cursor,
    ):
        work = Work(
            arrival.new_delivery_id(), source, corrected or kept or Path(), Path(folder), original["file_label"] or ""
        )
        work.keys = keys

        def opened(path: Path, desk: duckdb.DuckDBPyConnection, room: Path) -> tuple[Feed, ...]:
            """Read and check a whole file on ``desk``; its rows other than the open ones are only compared."""
            nonlocal changed
            room.mkdir()
            pieces = parts.parts_of(_under_its_name(path, original, room), room / "unpacked")
            work.contents = contents_of(desk, pieces, described, Room(room / "room"), lake.settings)
            _want(desk, first_id)
            found = work.contents.feeds
            if corrections is not None:
                found, changed = applied(desk, found, corrections, room / "corrections")
            work.counts = staging.check(
                desk,
                found,
                work.received_at,
                source=source,
                key=keys,
                birth_dates=births.store(lake.settings, source),
            )
            return found

        if corrected is not None and kept is not None:
            with closing(staging.open_desk(lake)) as other:
                before = _others(other, opened(kept, other, Path(folder) / "before"))
            feeds = opened(corrected, cursor, Path(folder) / "now")
            if _others(cursor, feeds) != before:
                raise NotRequeuedError(
                    "Other rows than the quarantined ones differ from the file delivered first.",
                    hint="Deliver the corrected file as a new one: medisync ingest FILE",
                )
        else:
            feeds = opened(work.path, cursor, Path(folder) / "now")
        superseded = _limit(cursor, feeds, original)
        assert work.counts is not None  # noqa: S101 - opened() has set it
        faulty = _number(cursor, "SELECT count(*) FROM (SELECT DISTINCT part, row_number FROM faults)")
        passing = sum(
            _number(cursor, f"SELECT count(*) FROM keyed_{n} WHERE faults IS NULL") for n in range(len(feeds))
        )
        reasons = dict(cursor.execute("SELECT reason, count(*) FROM faults GROUP BY reason ORDER BY 1").fetchall())
        work.counts = replace(work.counts, rows_read=passing + faulty, quarantined=faulty, faults=reasons, notices={})
        report = None
        if passing:
            work.staged = staging.stage(cursor, feeds)
            work.counts = staging.count(cursor, feeds, work.counts)
        with lake.transaction(
            f"delivery {work.delivery_id} requeues {first_id}",
            extra={"delivery_id": work.delivery_id, "requeue_of": first_id, "version": __version__},
            cursor=cursor,
        ) as transaction:
            rekeying.confirm(transaction, keys)
            if passing:
                dates = births.store(lake.settings, source)
                report = merge(lake, transaction, work, described, DeliveryMode.UPSERT, birth_dates=dates)
                next_versions(transaction, [report], now())
                insert(transaction, report)
                _link(transaction, work.delivery_id, first_id)
            _settle(transaction, first_id, work.delivery_id)
        _rewrite(lake, cursor, feeds, first_id, faulty)
    if report is not None:
        write_pages(lake, [report])
    return Requeued(
        first_id,
        report.delivery_id if report else None,
        taken=passing + faulty + superseded,
        loaded=passing,
        superseded=superseded,
        quarantined=faulty,
        created=report.created if report else 0,
        updated=report.updated if report else 0,
        changed_tables=report.changed_tables if report else (),
        corrected=changed,
    )


def _want(cursor: duckdb.DuckDBPyConnection, delivery_id: str) -> None:
    """``wanted(part, row_number)``: the delivery's open rows; ``ever``: with those that were taken before."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE wanted AS SELECT DISTINCT concat('', part) AS part, row_number "
        "FROM lake.clinical.quarantine WHERE delivery_id = ? AND resolved_by IS NULL",
        [delivery_id],
    )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE ever AS SELECT DISTINCT concat('', part) AS part, row_number "
        "FROM lake.clinical.quarantine WHERE delivery_id = ?",
        [delivery_id],
    )


def _find_places(cursor: duckdb.DuckDBPyConnection, number: int, feed: Feed) -> None:
    row = "rowid + 1" if feed.reader else "row_number"
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE places AS SELECT {text(feed.part)} AS part, {row} AS row_number, "
        f"rowid AS place FROM keyed_{number}"
    )
    if feed.reader:
        feed.reader.number(cursor, "places")


def _others(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...]) -> list[tuple[Any, ...]]:
    """A digest of all rows that never were in quarantine, and of where they stand."""
    found = []
    for number, feed in enumerate(feeds):
        _find_places(cursor, number, feed)
        row = cursor.execute(
            "SELECT count(*), bit_xor(hash(places.row_number, keyed.row_hash)) "
            f"FROM (SELECT rowid AS place, row_hash FROM keyed_{number}) AS keyed JOIN places USING (place) "
            "ANTI JOIN ever USING (part, row_number)"
        ).fetchone()
        found.append((feed.part, *(row or ())))
    return found


def _limit(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], original: dict[str, Any]) -> int:
    """Leave only the wanted rows, and of those that pass only such as no later delivery has told anew; returns how many
    that leaves out. ``settled(part, row_number)``: the wanted rows that pass."""
    cursor.execute("SET VARIABLE source = ?", [original["source"]])
    cursor.execute("SET VARIABLE first_received_at = ?::TIMESTAMP", [original["received_at"]])
    cursor.execute("CREATE OR REPLACE TEMP TABLE settled (part VARCHAR, row_number BIGINT)")
    cursor.execute(
        "DELETE FROM faults WHERE (concat('', part), row_number) NOT IN (SELECT part, row_number FROM wanted)"
    )
    later = (
        "SELECT delivery_id FROM lake.clinical.deliveries WHERE source = getvariable('source') AND status = 'loaded' "
        "AND received_at > getvariable('first_received_at')"
    )
    told_anew = (
        "admission_key IN (SELECT admission_key FROM lake.clinical.admissions WHERE source = getvariable('source') "
        f"AND delivery_id IN ({later})) OR (EXISTS (FROM lake.clinical.deliveries WHERE mode = 'snapshot' "
        f"AND delivery_id IN ({later})) AND admission_key NOT IN (SELECT admission_key FROM lake.clinical.admissions "
        "WHERE source = getvariable('source')))"
    )
    superseded = 0
    for number, feed in enumerate(feeds):
        _find_places(cursor, number, feed)
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE all_rows AS SELECT *, rowid AS place FROM keyed_{number}")
        cursor.execute(
            "INSERT INTO settled SELECT part, places.row_number FROM places SEMI JOIN wanted USING (part, row_number) "
            "JOIN all_rows USING (place) WHERE faults IS NULL"
        )
        cursor.execute(f"DROP TABLE temp.keyed_{number}")
        is_late = f"(faults IS NULL AND ({told_anew}))" if feed.admission else "false"
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE limited AS SELECT *, {is_late} AS is_late FROM all_rows WHERE place IN "
            "(SELECT place FROM places SEMI JOIN wanted USING (part, row_number)) ORDER BY place"
        )
        superseded += _number(cursor, "SELECT count(*) FROM limited WHERE is_late")
        cursor.execute(
            f"CREATE TEMP TABLE keyed_{number} AS SELECT * EXCLUDE (place, is_late) FROM limited WHERE NOT is_late "
            "ORDER BY place"
        )
    return superseded


def _settle(transaction: duckdb.DuckDBPyConnection, first_id: str, delivery_id: str) -> None:
    """Rows that pass are marked as taken; those that do not have the reasons they have now."""
    open_rows = "delivery_id = getvariable('first_id') AND resolved_by IS NULL AND (concat('', part), row_number)"
    transaction.execute("SET VARIABLE first_id = ?", [first_id])
    transaction.execute(
        f"UPDATE lake.clinical.quarantine SET resolved_by = ? WHERE {open_rows} IN (FROM settled)",
        [delivery_id],
    )
    still = "SELECT concat('', part), row_number FROM faults"
    transaction.execute(f"DELETE FROM lake.clinical.quarantine WHERE {open_rows} IN ({still})")
    rejects.keep_faults(transaction, first_id)


def _link(transaction: duckdb.DuckDBPyConnection, delivery_id: str, first_id: str) -> None:
    transaction.execute(
        "UPDATE lake.clinical.deliveries SET requeue_of = ? WHERE delivery_id = ?", [first_id, delivery_id]
    )


def _rewrite(
    lake: Lake, cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], first_id: str, faulty: int
) -> None:
    """The raw rejected rows: only those that are still open stay."""
    path = lake.settings.quarantine / f"{first_id}.csv"
    if faulty:
        rejects.write_quarantine(cursor, feeds, path)
    else:
        path.unlink(missing_ok=True)


def _kept(lake: Lake, original: dict[str, Any]) -> Path | None:
    """The delivered file or folder, where it is still kept."""
    settings, names = lake.settings, f"{original['delivery_id']}-*"
    folders = [settings.refused] if original["status"] == "refused" else [settings.archive / original["source"]]
    found = [one for folder in folders for one in folder.glob(names) if not one.name.endswith(arrival.NOTE_ENDING)]
    return found[0] if found else None


def _under_its_name(path: Path, original: dict[str, Any], folder: Path) -> Path:
    """``path`` in ``folder`` under the name it was delivered by: layouts may go by it."""
    target = folder / path.name.removeprefix(f"{original['delivery_id']}-")
    if path.is_dir():
        shutil.copytree(path, target)
        return target
    with suppress(OSError):
        os.link(path, target)
        return target
    shutil.copyfile(path, target)
    return target


@contextmanager
def _alone(lake: Lake, delivery_id: str) -> Iterator[None]:
    """One process at a time takes rows again; the lock goes with its holder."""
    with ExitStack() as held:
        try:
            held.enter_context(lake.backend.lock(Lock.REQUEUE, seconds=0))
        except LockBusyError:
            raise NotRequeuedError(f"Rows are being taken again just now; try {delivery_id} later.") from None
        yield


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = cursor.execute(sql).fetchone()
    return int(row[0]) if row else 0
