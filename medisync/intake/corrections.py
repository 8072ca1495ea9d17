"""Rows that somebody corrected where they were set aside: in ``data/quarantine/<delivery>.csv`` itself.

Everything else of such a row, and how its file's dates and numbers are written, still comes from the delivered file. A
row stands there once for each of its faults; it may be corrected in any of its lines, or in all alike.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.errors import UserError
from medisync.intake.delimited import text
from medisync.intake.feeds import Feed
from medisync.intake.reading import DELIMITERS, identifier
from medisync.intake.rejects import LEAD

if TYPE_CHECKING:
    import duckdb


class NotRequeuedError(UserError):
    """The rows of a delivery cannot be taken again."""

    code = "not-requeued"
    exit_code = 30
    http_status = 409


@dataclass(frozen=True)
class Corrections:
    """``lines``: for each part its columns, and (row number, values) of each of its lines."""

    parts: dict[str, tuple[list[str], list[tuple[int, list[str]]]]]


def read_corrections(path: Path) -> Corrections | None:
    """What a quarantine's file says now, also after a spreadsheet saved it; None when ``path`` is no such file.

    Raises NotRequeuedError for one whose lines cannot be read any more.
    """
    raw = path.read_bytes() if path.is_file() else b""
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        content = raw.decode("cp1252", errors="replace")
    first = content.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    parts: dict[str, tuple[list[str], list[tuple[int, list[str]]]]] = {}
    header: list[str] | None = None
    width = len(LEAD)
    lines = csv.reader(content.splitlines(keepends=True), delimiter=delimiter)
    for number, line in enumerate(lines, start=1):
        if not any(line):
            continue
        if line[: len(LEAD)] == LEAD or line[1 : len(LEAD) + 1] == LEAD:
            width = len(LEAD) + (line[0] != LEAD[0])
            header = line[width:]
            continue
        if header is None:
            return None
        place = line[width - len(LEAD)]
        part = line[0] if width > len(LEAD) else ""
        if not place.isdecimal() or len(line) > width + len(header):
            raise NotRequeuedError(
                f"Line {number} of the quarantine's file is no row any more.",
                hint="Change values only: columns, row numbers and the lines with names stay as they are.",
            )
        values = [value.strip() for value in line[width:]]
        known, rows = parts.setdefault(part, (header, []))
        if known != header:
            raise NotRequeuedError(
                f"Line {number} of the quarantine's file stands below other columns than its part's."
            )
        rows.append((int(place), values + [""] * (len(header) - len(values))))
    return Corrections(parts) if header is not None else None


def applied(
    cursor: duckdb.DuckDBPyConnection, feeds: Sequence[Feed], corrections: Corrections, room: Path
) -> tuple[tuple[Feed, ...], int]:
    """``feeds`` over their rows in ``wanted(part, row_number)`` alone, with the corrections; and how many rows these
    change.

    Raises NotRequeuedError when two lines of a row disagree, or one is of a row that is not open.
    """
    room.mkdir(exist_ok=True)
    found, changed = [], 0
    for number, feed in enumerate(feeds):
        table = _open_rows(cursor, number, feed)
        columns, rows = corrections.parts.get(feed.part if len(feeds) > 1 else "", ([], []))
        if rows:
            changed += _correct(cursor, feed, table, columns, rows, room / f"{number}.csv")
        found.append(replace(feed, table=table, reader=None))
    return tuple(found), changed


def _open_rows(cursor: duckdb.DuckDBPyConnection, number: int, feed: Feed) -> str:
    """A table of the feed's wanted rows, as they were delivered."""
    table = f"open_{number}"
    if feed.reader:
        select = f"SELECT row_number() OVER () AS row_number, {text(feed.part)} AS part, * FROM {feed.table}"
        feed.reader.read(cursor, table, select)
        feed.reader.number(cursor, table)
        cursor.execute(f"ALTER TABLE temp.{table} DROP COLUMN part")
    else:
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS FROM {feed.table}")
    cursor.execute(
        f"DELETE FROM {table} WHERE row_number NOT IN (SELECT row_number FROM wanted WHERE part = {text(feed.part)})"
    )
    return table


def _correct(
    cursor: duckdb.DuckDBPyConnection,
    feed: Feed,
    table: str,
    columns: list[str],
    rows: list[tuple[int, list[str]]],
    path: Path,
) -> int:
    """Bring ``table`` in line with the lines ``rows``; the number of rows changed."""
    used = [name for name in columns if name in feed.columns]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        places = [columns.index(name) for name in used]
        writer.writerows([row, *(values[place] for place in places)] for row, values in rows)
    types = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(used)))
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE lines AS SELECT row_number"
        + "".join(f", nullif(c{index}, '') AS {identifier(name)}" for index, name in enumerate(used))
        + f" FROM read_csv({text(str(path))}, auto_detect = false, header = false, delim = ',', quote = '\"', "
        f"escape = '\"', columns = {{'row_number': 'BIGINT', {types}}})"
    )
    strange = cursor.execute(
        "SELECT min(row_number) FROM lines WHERE row_number NOT IN "
        f"(SELECT row_number FROM wanted WHERE part = {text(feed.part)})"
    ).fetchone()
    if strange and strange[0] is not None:
        raise NotRequeuedError(f"Row {strange[0]} of the quarantine's file is not one that is open.")
    # What stands for nothing (NULL) is in the quarantine's file as it was written, and in the table as nothing.
    wanted = f"SELECT row_number FROM wanted WHERE part = {text(feed.part)}"
    written = feed.reader.rows(wanted) if feed.reader else f"FROM {table}"
    differs = {name: f"lines.{identifier(name)} IS DISTINCT FROM written.{identifier(name)}" for name in used}
    merged = ", ".join(
        f"CASE WHEN bool_or({differs[name]}) THEN any_value(lines.{identifier(name)}) FILTER ({differs[name]}) "
        f"ELSE any_value(known.{identifier(name)}) END AS {identifier(name)}"
        for name in used
    )
    answers = ", ".join(
        f"count(DISTINCT coalesce(lines.{identifier(name)}, '')) FILTER ({differs[name]})" for name in used
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE corrected AS SELECT row_number, {merged}, greatest({answers}, 0) AS answers, "
        f"bool_or({' OR '.join(differs.values())}) AS is_changed FROM lines LEFT JOIN {table} AS known "
        f"USING (row_number) LEFT JOIN ({written}) AS written USING (row_number) GROUP BY row_number"
    )
    torn = cursor.execute("SELECT min(row_number) FROM corrected WHERE answers > 1").fetchone()
    if torn and torn[0] is not None:
        raise NotRequeuedError(f"The lines of row {torn[0]} of the quarantine's file disagree about a value.")
    listed = ", ".join(identifier(name) for name in used)
    sets = ", ".join(f"{identifier(name)} = corrected.{identifier(name)}" for name in used)
    mark = f"hash(concat_ws(chr(31), {', '.join(f'coalesce({identifier(name)}, chr(30))' for name in used)}))"
    cursor.execute(
        f"UPDATE {table} SET {sets}, row_hash = corrected.mark FROM (SELECT *, {mark} AS mark FROM corrected "
        f"WHERE is_changed) AS corrected WHERE {table}.row_number = corrected.row_number"
    )
    # What was no row has become one.
    cursor.execute(
        f"INSERT INTO {table} BY NAME SELECT row_number, {mark} AS row_hash, {listed} FROM corrected "
        f"WHERE is_changed AND row_number NOT IN (SELECT row_number FROM {table})"
    )
    cursor.execute(
        f"DELETE FROM malformed WHERE part = {text(feed.part)} AND row_number IN (SELECT row_number FROM {table})"
    )
    row = cursor.execute("SELECT count(*) FROM corrected WHERE is_changed").fetchone()
    return int(row[0]) if row else 0
