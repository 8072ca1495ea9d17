"""Large parts on their way: what is made of one is kept as Parquet, and may become a file of the lake as it is.

Ten million rows take gigabytes as a temporary table, most of which DuckDB writes to the disk as they are and reads
again for each statement; as Parquet they take a tenth. Their columns have the names and types of the lake's, so where a
source had nothing in the lake before, nobody writes them again: the file is given to admissions, conditions and
prescriptions, each of which sees its own columns of it. Rows that are not to be loaded are left out by their number.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake.delimited import SHELVED, text, without_patterns
from medisync.intake.feeds import Feed, Kind
from medisync.intake.keying import EVENTS, LAKE_COLUMNS, keyed_columns

if TYPE_CHECKING:
    import duckdb

MOST_LEFT_OUT = 0.02
"""Whoever reads a file of which rows are left out reads these, too, and their numbers: of more, the rest is written."""


@dataclass(frozen=True)
class Shelf:
    """Where the large parts of one delivery are kept: in ``folder``, beside the raw file, until it is put away.

    ``lake_files``: the folder of the lake's files; None where they lie elsewhere than on this machine's disk, and
    nothing can become one of them.
    """

    folder: Path
    source: str
    delivery_id: str
    lake_files: Path | None = None

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def clear(self) -> None:
        """Take away what an earlier try left. Its files may have second names, so none is written over."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def holds(self, number: int) -> bool:
        """Whether the feed of that number is kept here."""
        return self.file(f"keyed_{number}").exists()

    def ready(self, name: str, kind: Kind, rows: int, left_out: str | None = None) -> Ready | None:
        """The file ``name`` for the lake's table ``kind``, if it can become one of the lake's."""
        if self.lake_files is None:
            return None
        place = self.lake_files / "clinical" / kind / f"{self.delivery_id}-{uuid.uuid4()}.parquet"
        return Ready(self.file(name), place, rows, left_out)


@dataclass(frozen=True)
class Ready:
    """A file that may be given to a table of the lake: its ``rows`` but for those whose numbers, from 0, the query
    ``left_out`` gives."""

    file: Path
    place: Path  # in the lake's folder, and nobody's yet
    rows: int
    left_out: str | None = None


ReadyFiles = Mapping[Kind, tuple[Ready, ...]]


def shared_kinds(feed: Feed) -> tuple[Kind, ...]:
    """The kinds that can share one file of the feed's rows: what two of them call alike is the same in both."""
    if Kind.ADMISSIONS not in feed.carries or not feed.patient or feed.deleted:
        return ()
    taken = {name: feed.values[Kind.ADMISSIONS].get(name) for name in LAKE_COLUMNS[Kind.ADMISSIONS]}
    kinds = [Kind.ADMISSIONS]
    for kind in EVENTS:
        if kind in feed.carries:
            own = {name: feed.values[kind].get(name) for name in LAKE_COLUMNS[kind]}
            if all(taken.get(name, sql) == sql for name, sql in own.items()):
                taken |= own
                kinds.append(kind)
    return tuple(kinds)


def _names(feed: Feed) -> dict[str, str]:
    """Column of ``keyed(feed)`` -> column of the file."""
    shared = {f"{kind}_{name}": name for kind in shared_kinds(feed) for name in feed.values[kind]}
    return {name: shared.get(name, name) for name in keyed_columns(feed) if name != "row_hash"}


def query(shelf: Shelf, feed: Feed, select: str) -> str:
    """What to write of ``select``, which is ``keyed(feed)``: not the hash of a row's text, from which people could be
    found by trying names."""
    columns = {of_file: name for name, of_file in _names(feed).items()}  # of two with one name, which are alike, one
    return _owned(shelf, ", ".join(f"{name} AS {of_file}" for of_file, name in columns.items()), select)


def _owned(shelf: Shelf, columns: str, select: str) -> str:
    """``columns`` of ``select`` with those that say whose the rows are, as all tables of the lake have them."""
    return f"SELECT {text(shelf.source)} AS source, {columns}, {text(shelf.delivery_id)} AS delivery_id FROM ({select})"


def keep_patients(
    cursor: duckdb.DuckDBPyConnection, shelf: Shelf, select: str, given: Sequence[str], absent: Mapping[str, str]
) -> Ready | None:
    """Make the view ``staged_patients`` over a file of ``select``: the key of each patient and the columns ``given``;
    ``absent`` are the others and what stands in them."""
    file = shelf.file("patients")
    cursor.execute(
        f"COPY ({_owned(shelf, ', '.join(('patient_key', *given)), select)}) TO {text(str(file))} ({SHELVED})"
    )
    listed = ", ".join(("patient_key", *given, *(f"{sql} AS {name}" for name, sql in absent.items())))
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW staged_patients AS SELECT {listed} FROM {parquet(file)}")
    row = cursor.execute("SELECT count(*) FROM staged_patients").fetchone()
    return shelf.ready("patients", Kind.PATIENTS, int(row[0]) if row else 0)


def view(shelf: Shelf, number: int, feed: Feed, *, is_faultless: bool = False) -> str:
    """``keyed(feed)`` again, from the file, but for ``row_hash``; ``rowid`` is that of the table it would be."""
    known = {"faults": "NULL::SMALLINT[]"} if is_faultless else {}  # then nobody has to read that column
    listed = ", ".join(f"{known.get(name, of_file)} AS {name}" for name, of_file in _names(feed).items())
    return f"SELECT file_row_number AS rowid, {listed} FROM {parquet(shelf.file(f'keyed_{number}'))}"


def filled(
    cursor: duckdb.DuckDBPyConnection, shelf: Shelf, number: int, columns: Sequence[str], feed: Feed
) -> list[int]:
    """How many rows ``keyed_<number>`` has, and how many of them have a value in each of ``columns``, as the file says
    of its pieces."""
    told = cursor.execute(
        "SELECT path_in_schema, sum(num_values)::BIGINT, sum(stats_null_count)::BIGINT FROM parquet_metadata(?) "
        "GROUP BY ALL",
        [without_patterns(shelf.file(f"keyed_{number}"))],
    ).fetchall()
    names = _names(feed)
    known = {of_file: (rows, rows - empty) for of_file, rows, empty in told}
    return [known["source"][0], *(known[names[column]][1] for column in columns)]


def parquet(file: Path) -> str:
    return f"read_parquet({text(without_patterns(file))}, file_row_number = true)"


def adopt(cursor: duckdb.DuckDBPyConnection, kind: Kind, ready: Ready) -> int:
    """Give the file to the lake's table ``kind``, within the transaction of ``cursor``; the number of rows it adds.

    The table gets a name of its own for it, or a copy where the disk knows no second names. Whoever's transaction fails
    calls :func:`giving_back`.
    """
    ready.place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.link(ready.file, ready.place)
    except OSError:
        shutil.copyfile(ready.file, ready.place)
    cursor.execute(
        f"CALL ducklake_add_data_files('lake', '{kind}', {text(without_patterns(ready.place))}, schema => 'clinical', "
        "allow_missing => true, ignore_extra_columns => true)"
    )
    if ready.left_out is None:
        return ready.rows
    gone = cursor.execute(
        f"DELETE FROM lake.clinical.{kind} WHERE filename = {text(str(ready.place))} "
        f"AND file_row_number IN ({ready.left_out})"
    ).fetchone()
    return ready.rows - (int(gone[0]) if gone else 0)


@contextmanager
def giving_back(files: ReadyFiles) -> Iterator[None]:
    """Take the files out of the lake's folder again when the block, which is inside a transaction, fails."""
    try:
        yield
    except BaseException:
        for ready in (one for of_kind in files.values() for one in of_kind):
            ready.place.unlink(missing_ok=True)
        raise
