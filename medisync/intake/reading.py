"""From a file to a table of text: every column VARCHAR, every row numbered, malformed rows set aside."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from medisync.errors import DeliveryRefusedError
from medisync.intake.reasons import FileFault, RowFault

if TYPE_CHECKING:
    import duckdb

csv.field_size_limit(1 << 30)  # the standard library's limit of 131,072 characters holds for the whole process
HEADER_BYTES = 1 << 20
"""A header of so many bytes is no header."""

DELIMITERS = (",", ";", "\t", "|")
CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")


@dataclass(frozen=True)
class DelimitedFile:
    """What was found out about a delimited text file before reading it."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    compression: str  # as DuckDB calls it
    lines_before_rows: int = 1  # the header and blank lines above it


def refused(
    reason: FileFault, message: str, *, column: str | None = None, hint: str | None = None
) -> DeliveryRefusedError:
    return DeliveryRefusedError(message, reason=reason.value, column=column, hint=hint)


def content_hash(path: Path) -> str:
    """SHA-256 of a regular file's bytes; raises DeliveryRefusedError for anything that cannot be read."""
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise refused(FileFault.NOT_A_FILE, "It is not a regular file.", hint="Deliver one file, or a .gz of one.")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        raise refused(FileFault.DISAPPEARED, "It disappeared before it was read.") from None
    except OSError as error:
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({error.strerror}).") from None
    return digest.hexdigest()


def look_at(path: Path) -> DelimitedFile:
    """Find compression, delimiter and header of a delimited file; raises DeliveryRefusedError when there is none."""
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP_MAGIC
        with _open(path, compressed) as file:
            start = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise refused(FileFault.DISAPPEARED, "It disappeared while it was read.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise refused(FileFault.DAMAGED, "Its compressed data are damaged or cut short.") from None
    except OSError as error:
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({error.strerror}).") from None
    if not start.strip():
        raise refused(FileFault.EMPTY_FILE, "It is empty.")
    lines = start.removeprefix(codecs.BOM_UTF8).splitlines()
    blank = next(number for number, line in enumerate(lines) if line.strip())
    line = lines[blank]
    if len(line) >= HEADER_BYTES - len(codecs.BOM_UTF8):
        raise refused(FileFault.MALFORMED, f"Its first line has {HEADER_BYTES:,} bytes or more: it is no header.")
    try:
        header = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(
            FileFault.NOT_UTF8, f"Its header is not UTF-8 text (byte {error.start + 1}).", hint="Save it as UTF-8."
        ) from None
    if "\0" in header:
        raise refused(FileFault.MALFORMED, "Its header holds NUL bytes: it is no text table.")
    delimiter = max(DELIMITERS, key=header.count)
    columns = tuple(name.strip() for name in next(csv.reader(io.StringIO(header), delimiter=delimiter)))
    return DelimitedFile(path, columns, delimiter, "gzip" if compressed else "none", blank + 1)


def read_delimited(cursor: duckdb.DuckDBPyConnection, file: DelimitedFile, positions: dict[str, int]) -> None:
    """Read ``file`` into the temporary table ``raw``: ``row_number``, ``row_hash`` over all columns, and one VARCHAR
    column per entry of ``positions`` (column name -> index in the file).

    Rows that are no rows (wrong number of fields, broken quotes, not UTF-8) go to ``malformed(row_number,
    column_name, reason, line)`` instead. Row numbers count the file's rows below the header from 1; blank lines are no
    rows. Raises DeliveryRefusedError when the file is no table, and when a quote that is never closed swallows rows.
    """
    import duckdb

    all_columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(file.columns)))
    kept = ", ".join(f"nullif(trim(c{index}), '') AS {identifier(name)}" for name, index in positions.items())
    hashed = ", ".join(f"c{index}" for index in range(len(file.columns)))
    for table in ("raw", "malformed", "malformed_scan", "malformed_lines"):
        cursor.execute(f"DROP TABLE IF EXISTS temp.{table}")
    try:
        cursor.execute(
            f"CREATE TEMP TABLE raw AS SELECT row_number() OVER () AS row_number, hash({hashed}) AS row_hash, {kept} "
            f"FROM read_csv(?, auto_detect = false, header = false, skip = ?, delim = ?, quote = '\"', escape = '\"', "
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
        _set_malformed_aside(cursor, file)
    else:
        cursor.execute(
            "CREATE TEMP TABLE malformed (row_number BIGINT, column_name VARCHAR, reason VARCHAR, line VARCHAR)"
        )


def _set_malformed_aside(cursor: duckdb.DuckDBPyConnection, file: DelimitedFile) -> None:
    """Make ``malformed`` from DuckDB's list of rejected lines, and give the rows of ``raw`` their numbers in the file.

    DuckDB counts blank lines and header in a rejected line's number, and gives blank lines before it as its text.
    """
    cursor.execute("CREATE OR REPLACE TEMP TABLE blank AS SELECT unnest(?::BIGINT[]) AS line", [_blank_lines(file)])
    names = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}'" for name in file.columns)
    cursor.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE malformed AS
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
                   AS lines FROM malformed)
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
        "CREATE OR REPLACE TEMP TABLE raw AS "
        "WITH gaps AS (SELECT row_number - row_number() OVER (ORDER BY row_number) + 1 AS starts_at, "
        "                     row_number() OVER (ORDER BY row_number) AS shift FROM malformed), "
        "     last_gaps AS (SELECT starts_at, max(shift) AS shift FROM gaps GROUP BY starts_at) "
        "SELECT raw.* REPLACE (raw.row_number + coalesce(last_gaps.shift, 0) AS row_number) "
        "FROM raw ASOF LEFT JOIN last_gaps ON raw.row_number >= last_gaps.starts_at"
    )


def _blank_lines(file: DelimitedFile) -> list[int]:
    """Numbers of the file's blank lines, where a row that spans several lines counts as one."""
    above_rows = list(range(1, file.lines_before_rows))
    with _open(file.path, file.compression == "gzip") as stream:
        if not any(BLANK_LINE.search(window) for window in _windows(stream)):
            return above_rows
    with (
        _open(file.path, file.compression == "gzip") as stream,
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


def _open(path: Path, is_compressed: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path) if is_compressed else path.open("rb"))


def _without_patterns(path: Path) -> str:
    """``path`` for DuckDB, which would take ``*``, ``?`` and ``[`` in it as patterns."""
    return re.sub(r"[*?\[]", lambda sign: f"[{sign.group()}]", str(path))


def identifier(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0
