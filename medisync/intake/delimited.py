"""Delimited text in bulk: from a file to a table of text, every row numbered, malformed rows set aside."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from medisync.intake.reading import CHUNK_BYTES, DelimitedFile, content_hash, identifier, open_stream, refused
from medisync.intake.reasons import FileFault, RowFault

if TYPE_CHECKING:
    import duckdb

BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")


def read_delimited(
    cursor: duckdb.DuckDBPyConnection,
    file: DelimitedFile,
    positions: Mapping[str, int],
    *,
    table: str = "raw",
    part: str = "",
) -> None:
    """Read ``file`` into the temporary table ``table``: ``row_number``, ``row_hash`` over all columns, and one VARCHAR
    column per entry of ``positions`` (column name -> index in the file).

    Rows that are no rows (wrong number of fields, broken quotes, not UTF-8) go to ``malformed(part, row_number,
    column_name, reason, line)`` instead, which all parts of a delivery share. Row numbers count the file's rows below
    the header from 1; blank lines are no rows. Raises DeliveryRefusedError when the file is no table, and when a quote
    that is never closed swallows rows.
    """
    import duckdb

    all_columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(file.columns)))
    kept = ", ".join(f"nullif(trim(c{index}), '') AS {identifier(name)}" for name, index in positions.items())
    hashed = ", ".join(f"c{index}" for index in range(len(file.columns)))
    prepare(cursor)
    for old in (table, "malformed_scan", "malformed_lines"):
        cursor.execute(f"DROP TABLE IF EXISTS temp.{old}")
    try:
        cursor.execute(
            f"CREATE TEMP TABLE {table} AS "
            f"SELECT row_number() OVER () AS row_number, hash({hashed}) AS row_hash, {kept} FROM "
            f"read_csv(?, auto_detect = false, header = false, skip = ?, delim = ?, quote = '\"', escape = '\"', "
            f"columns = {{{all_columns}}}, compression = ?, strict_mode = true, ignore_errors = true, "
            f"store_rejects = true, rejects_table = 'malformed_lines', rejects_scan = 'malformed_scan')",
            [_without_patterns(file.path), file.lines_before_rows, file.delimiter, file.compression],
        )
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        # The driver's message may quote the file's text, so none of it is passed on.
        content_hash(file.path)  # says so when the file is gone or cannot be read
        raise refused(
            FileFault.DAMAGED if file.compression == "gzip" else FileFault.MALFORMED,
            "It cannot be split into rows and columns.",
            hint="Is it complete, one table with one header, and with one kind of line ends?",
        ) from None
    if _count(cursor, "malformed_lines"):
        _set_malformed_aside(cursor, file, table, part)


def prepare(cursor: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``malformed``, unless it is there: staging expects one, also of formats without malformed rows."""
    cursor.execute(
        "CREATE TEMP TABLE IF NOT EXISTS malformed "
        "(part VARCHAR, row_number BIGINT, column_name VARCHAR, reason VARCHAR, line VARCHAR)"
    )


def _set_malformed_aside(cursor: duckdb.DuckDBPyConnection, file: DelimitedFile, table: str, part: str) -> None:
    """Fill ``malformed`` from DuckDB's list of rejected lines, and number the rows of ``table`` as in the file.

    DuckDB counts blank lines and header in a rejected line's number, and gives blank lines before it as its text.
    """
    cursor.execute("CREATE OR REPLACE TEMP TABLE blank AS SELECT unnest(?::BIGINT[]) AS line", [_blank_lines(file)])
    names = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}'" for name in file.columns)
    cursor.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE malformed_rows AS
        SELECT line - 1 - (SELECT count(*) FROM blank WHERE blank.line < rejected.line) AS row_number,
               arg_min([{names}][column_idx::BIGINT + (kind = 'MISSING COLUMNS')::BIGINT], column_idx) AS column_name,
               CASE WHEN bool_or(kind = 'INVALID ENCODING') THEN '{RowFault.NOT_UTF8.value}'
                    ELSE '{RowFault.MALFORMED_ROW.value}' END AS reason,
               any_value(ltrim(csv_line, chr(10) || chr(13))) AS line,
               bool_or(kind = 'UNQUOTED VALUE') AS is_quoting_broken
        FROM (SELECT *, error_type::VARCHAR AS kind FROM malformed_lines) AS rejected GROUP BY rejected.line
        """
    )
    swallowing = cursor.execute(
        """
        SELECT min(row_number) FROM (
            SELECT row_number, is_quoting_broken, regexp_split_to_array(rtrim(line, chr(10) || chr(13)), '\r\n|\n|\r')
                   AS lines FROM malformed_rows)
        WHERE len(lines) > 1 AND (is_quoting_broken
              OR len(list_filter(lines[2:-2], lambda one: length(one) - length(replace(one, ?, '')) >= ?)) > 0)
        """,
        [file.delimiter, len(file.columns) - 1],
    ).fetchone()
    if swallowing and swallowing[0] is not None:
        raise refused(
            FileFault.MALFORMED,
            f"A quote opened in row {swallowing[0]} is not closed there: the rows after it cannot be told apart.",
            hint="Close the quote, or write quotes inside a value twice.",
        )
    # row_number() counted only the well-formed rows: move each past the malformed ones before it.
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} AS "
        "WITH gaps AS (SELECT row_number - row_number() OVER (ORDER BY row_number) + 1 AS starts_at, "
        "                     row_number() OVER (ORDER BY row_number) AS shift FROM malformed_rows), "
        "     last_gaps AS (SELECT starts_at, max(shift) AS shift FROM gaps GROUP BY starts_at) "
        "SELECT raw.* REPLACE (raw.row_number + coalesce(last_gaps.shift, 0) AS row_number) "
        f"FROM {table} AS raw ASOF LEFT JOIN last_gaps ON raw.row_number >= last_gaps.starts_at"
    )
    cursor.execute("INSERT INTO malformed SELECT ?, row_number, column_name, reason, line FROM malformed_rows", [part])


def _blank_lines(file: DelimitedFile) -> list[int]:
    """Numbers of the file's blank lines, where a row that spans several lines counts as one."""
    above_rows = list(range(1, file.lines_before_rows))
    with open_stream(file.path, file.compression == "gzip") as stream:
        if not any(BLANK_LINE.search(window) for window in _windows(stream)):
            return above_rows
    with (
        open_stream(file.path, file.compression == "gzip") as stream,
        io.TextIOWrapper(stream, encoding="latin-1", newline="") as text,
    ):
        rows = enumerate(csv.reader(text, delimiter=file.delimiter), start=1)
        return above_rows + [number for number, row in rows if not row and number > file.lines_before_rows]


def _windows(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream in chunks that overlap by three bytes, the first preceded by a line end."""
    end = b"\n"
    while chunk := stream.read(CHUNK_BYTES):
        yield end + chunk
        end = chunk[-3:]


def _without_patterns(path: Path) -> str:
    """``path`` for DuckDB, which would take ``*``, ``?`` and ``[`` in it as patterns."""
    return re.sub(r"[*?\[]", lambda sign: f"[{sign.group()}]", str(path))


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0
