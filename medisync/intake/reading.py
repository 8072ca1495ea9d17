"""From a file to a table of text: every column VARCHAR, every row numbered, malformed rows set aside."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from medisync.errors import DeliveryRefusedError
from medisync.intake.reasons import FileFault, RowFault

if TYPE_CHECKING:
    import duckdb

HEADER_BYTES = 1 << 20
"""A header longer than this is no header."""

DELIMITERS = (",", ";", "\t", "|")
CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"

_REJECTS = {
    "INVALID ENCODING": FileFault.NOT_UTF8.value,
    "MISSING COLUMNS": RowFault.MALFORMED_ROW.value,
    "TOO MANY COLUMNS": RowFault.MALFORMED_ROW.value,
    "UNQUOTED VALUE": RowFault.MALFORMED_ROW.value,
    "LINE SIZE OVER MAXIMUM": RowFault.MALFORMED_ROW.value,
}


@dataclass(frozen=True)
class DelimitedFile:
    """What was found out about a delimited text file before reading it."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    compression: str  # as DuckDB calls it


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
        with cast(IO[bytes], gzip.open(path) if compressed else path.open("rb")) as file:
            start = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise refused(FileFault.DISAPPEARED, "It disappeared while it was read.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise refused(FileFault.DAMAGED, "Its compressed data are damaged or cut short.") from None
    except OSError as error:
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({error.strerror}).") from None
    if not start.strip():
        raise refused(FileFault.EMPTY_FILE, "It is empty.")
    line = start.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n").splitlines()[0]
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
    return DelimitedFile(path, columns, delimiter, "gzip" if compressed else "none")


def read_delimited(cursor: duckdb.DuckDBPyConnection, file: DelimitedFile, positions: dict[str, int]) -> None:
    """Read ``file`` into the temporary table ``raw``: ``row_number``, ``row_hash`` over all columns, and one VARCHAR
    column per entry of ``positions`` (column name -> index in the file).

    Rows that are no rows (wrong number of fields, broken quotes, not UTF-8) go to ``malformed(row_number,
    column_name, reason, line)`` instead. Row numbers count the file's rows below the header from 1.
    """
    all_columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(file.columns)))
    kept = ", ".join(f"nullif(trim(c{index}), '') AS {identifier(name)}" for name, index in positions.items())
    hashed = ", ".join(f"c{index}" for index in range(len(file.columns)))
    for table in ("raw", "malformed", "malformed_scan", "malformed_lines"):
        cursor.execute(f"DROP TABLE IF EXISTS temp.{table}")
    import duckdb

    try:
        cursor.execute(
            f"CREATE TEMP TABLE raw AS SELECT row_number() OVER () AS row_number, hash({hashed}) AS row_hash, {kept} "
            f"FROM read_csv(?, auto_detect = false, header = false, skip = 1, delim = ?, quote = '\"', escape = '\"', "
            f"columns = {{{all_columns}}}, compression = ?, strict_mode = true, ignore_errors = true, "
            f"store_rejects = true, rejects_table = 'malformed_lines', rejects_scan = 'malformed_scan')",
            [str(file.path), file.delimiter, file.compression],
        )
    except duckdb.Error:
        # The driver's message may quote the file's text, so none of it is passed on.
        raise refused(
            FileFault.DAMAGED if file.compression == "gzip" else FileFault.MALFORMED,
            "It cannot be split into rows and columns.",
            hint="Is it complete, and one table with one header?",
        ) from None
    reasons = " ".join(f"WHEN '{error}' THEN '{reason}'" for error, reason in _REJECTS.items())
    names = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}'" for name in file.columns)
    cursor.execute(
        f"CREATE TEMP TABLE malformed AS SELECT line - 1 AS row_number, "
        f"any_value([{names}][column_idx::BIGINT]) AS column_name, "
        f"any_value(CASE error_type::VARCHAR {reasons} ELSE '{RowFault.MALFORMED_ROW.value}' END) AS reason, "
        f"any_value(csv_line) AS line FROM malformed_lines GROUP BY line"
    )
    if _count(cursor, "malformed"):
        # row_number() counted only the well-formed rows: move each past the malformed ones before it.
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE raw AS "
            "WITH gaps AS (SELECT row_number - row_number() OVER (ORDER BY row_number) + 1 AS starts_at, "
            "                     row_number() OVER (ORDER BY row_number) AS shift FROM malformed), "
            "     last_gaps AS (SELECT starts_at, max(shift) AS shift FROM gaps GROUP BY starts_at) "
            "SELECT raw.* REPLACE (raw.row_number + coalesce(last_gaps.shift, 0) AS row_number) "
            "FROM raw ASOF LEFT JOIN last_gaps ON raw.row_number >= last_gaps.starts_at"
        )


def identifier(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0
