"""Delimited text in bulk: read while staging works on it, rows numbered as in the file, malformed ones set aside."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from medisync.intake.reading import CHUNK_BYTES, DelimitedFile, content_hash, identifier, open_stream, refused
from medisync.intake.reasons import LONGEST_VALUE, FileFault, RowFault

if TYPE_CHECKING:
    import duckdb

LARGE_BYTES = 64 * 1024**2
COMPRESSED_TO = 8
"""A compressed table is about so many times as large as its file."""

BUFFER_BYTES = 4 * 1024**2
"""DuckDB reads text in pieces, each by one thread, of 32 MB unless told otherwise: with smaller ones a file of a few
megabytes is read by all of them, and a large one takes less memory. The longest line has half of it."""

SHELVED = "FORMAT parquet, COMPRESSION uncompressed, DICTIONARY_SIZE_LIMIT 1000"
"""How a large part is written that is read a few times and then deleted. Half of what it holds are pseudonyms, which
neither shrink nor repeat; unless told otherwise DuckDB tries for a fifth of them whether they do."""

BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")


def read_delimited(
    cursor: duckdb.DuckDBPyConnection,
    file: DelimitedFile,
    positions: Mapping[str, int],
    *,
    table: str = "raw",
    part: str = "",
) -> DelimitedReader:
    """Make the temporary view ``table`` over ``file``: ``row_hash`` over all columns, and one VARCHAR column per entry
    of ``positions`` (column name -> index in the file). Give the reader returned to the feed over it. Raises
    DeliveryRefusedError when the file cannot be read.
    """
    reader = DelimitedReader(file, dict(positions), table, part)
    prepare(cursor)
    with reader.errors():
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {reader.text()}")
    return reader


@dataclass(frozen=True)
class DelimitedReader:
    """Reads one delimited file while staging works on its rows.

    Rows that are no rows (wrong number of fields, broken quotes, not UTF-8) go to ``malformed(part, row_number,
    column_name, reason, line)``, which all parts of a delivery share. Row numbers count the file's rows below the
    header from 1; blank lines are no rows.
    """

    file: DelimitedFile
    positions: Mapping[str, int]
    table: str
    part: str

    @property
    def odd(self) -> str:
        return "is_odd"

    @property
    def is_large(self) -> bool:
        return is_large(self.file.path, self.file.compression)

    def text(self, *, with_rejects: bool = False, paths: Sequence[Path] = ()) -> str:
        """The query behind the view; over the files ``paths``, written in the same way, it has their ``filename``, too.

        Trimming is dear, and hardly a row needs it: one look at the whole row tells. What is empty is NULL already.
        """
        file = self.file
        files = ", ".join(text(without_patterns(path)) for path in paths)
        types = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(file.columns)))
        rejects = (
            ", store_rejects = true, rejects_table = 'malformed_lines', rejects_scan = 'malformed_scan'"
            if with_rejects
            else ""
        )
        scan = (
            f"read_csv({f'[{files}]' if files else text(without_patterns(file.path))}, auto_detect = false, "
            f"header = false, {'filename = true, ' if files else ''}"
            f"skip = {file.lines_before_rows}, delim = {text(file.delimiter)}, quote = '\"', escape = '\"', "
            f"columns = {{{types}}}, compression = {text(file.compression)}, strict_mode = true, "
            f"ignore_errors = true, buffer_size = {BUFFER_BYTES}{rejects})"
        )
        whole = "chr(31), ".join(f"c{index}, " for index in range(len(file.columns)))
        kept = ", ".join(
            f"CASE WHEN is_blank_at_an_end THEN nullif(trim(c{index}), '') ELSE c{index} END AS {identifier(name)}"
            for name, index in self.positions.items()
        )
        return (
            f"SELECT {'filename, ' if files else ''}hash(whole_row) AS row_hash, "
            f"contains(whole_row, chr(0)) OR strlen(whole_row) > {LONGEST_VALUE} AS is_odd, {kept} "
            "FROM (SELECT *, contains(whole_row, ' ' || chr(31)) "
            "OR contains(whole_row, chr(31) || ' ') OR strlen(whole_row) <> length(whole_row) AS is_blank_at_an_end "
            f"FROM (SELECT *, concat(chr(31), {whole}chr(31)) AS whole_row FROM {scan}))"
        )

    def read(self, cursor: duckdb.DuckDBPyConnection, target: str | Path, select: str) -> None:
        """Raises DeliveryRefusedError when the file is no table, and when a quote never closed swallows rows."""
        _forget_rejects(cursor)
        with self.errors():
            cursor.execute(f"CREATE OR REPLACE TEMP VIEW {self.table} AS {self.text(with_rejects=True)}")
            if isinstance(target, Path):
                cursor.execute(f"COPY ({select}) TO {text(str(target))} ({SHELVED})")
            else:
                cursor.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {select}")
            cursor.execute(f"CREATE OR REPLACE TEMP VIEW {self.table} AS {self.text()}")
        if _count(cursor, "malformed_lines"):
            _set_malformed_aside(cursor, self.file, self.part)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """The driver's messages may quote the file's text, so none of it is passed on."""
        import duckdb

        try:
            yield
        except (duckdb.OutOfMemoryException, duckdb.ConversionException):
            raise
        except duckdb.Error:
            content_hash(self.file.path)  # says so when the file is gone or cannot be read
            raise refused(
                FileFault.DAMAGED if self.file.compression == "gzip" else FileFault.MALFORMED,
                "It cannot be split into rows and columns.",
                hint="Is it complete, one table with one header, and with one kind of line ends?",
            ) from None

    def number(self, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        """Move each row past the malformed ones before it."""
        part = text(self.part)
        if _count(cursor, f"(SELECT 1 FROM malformed WHERE part = {part} LIMIT 1)"):
            cursor.execute(
                f"UPDATE {table} SET row_number = numbered.file_row FROM (SELECT row_number, {self._in_file()} FROM "
                f"(SELECT DISTINCT row_number FROM {table} WHERE part = {part}) AS known {self._gaps()}) AS numbered "
                f"WHERE {table}.part = {part} AND {table}.row_number = numbered.row_number"
            )

    def rows(self, numbers: str) -> str:
        """Reads the file again."""
        return (
            f"SELECT * EXCLUDE (row_number, starts_at, shift, file_row), file_row AS row_number FROM "
            f"(SELECT known.*, {self._in_file()}, starts_at, shift FROM (SELECT row_number() OVER () AS row_number, * "
            f"FROM {self.table}) AS known {self._gaps()}) WHERE file_row IN ({numbers})"
        )

    def _in_file(self) -> str:
        return "known.row_number + coalesce(shift, 0) AS file_row"

    def _gaps(self) -> str:
        """Behind which well-formed row how many malformed ones have gone by."""
        ordered = "row_number() OVER (ORDER BY row_number)"
        return (
            f"ASOF LEFT JOIN (SELECT starts_at, max(shift) AS shift FROM (SELECT row_number - {ordered} + 1 "
            f"AS starts_at, {ordered} AS shift FROM malformed WHERE part = {text(self.part)}) GROUP BY starts_at) "
            "AS gaps ON known.row_number >= gaps.starts_at"
        )


def read_together(cursor: duckdb.DuckDBPyConnection, readers: Sequence[DelimitedReader], table: str) -> int:
    """Make the temporary table ``table`` of the rows of small files that are written in the same way: what each one's
    view has, ``file`` (its place among ``readers``), and ``row_number``, counted from 1 through all of them.

    Returns how many files come before the first that has a row which is none. Raises DeliveryRefusedError when one of
    them is no table.
    """
    first = readers[0]
    paths = [reader.file.path for reader in readers]
    places = f"list_position([{', '.join(text(str(path)) for path in paths)}], {{}}) - 1"
    _forget_rejects(cursor)
    with first.errors():
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT row_number() OVER () AS row_number, "
            f"({places.format('filename')})::INTEGER AS file, * EXCLUDE (filename) "
            f"FROM ({first.text(with_rejects=True, paths=paths)})"
        )
    row = cursor.execute(
        f"SELECT min({places.format('file_path')}) FROM malformed_scan WHERE (scan_id, file_id) IN "
        "(SELECT (scan_id, file_id) FROM malformed_lines)"
    ).fetchone()
    return len(paths) if row is None or row[0] is None else int(row[0])


def _forget_rejects(cursor: duckdb.DuckDBPyConnection) -> None:
    for old in ("malformed_scan", "malformed_lines"):
        cursor.execute(f"DROP TABLE IF EXISTS temp.{old}")


def is_large(path: Path, compression: str) -> bool:
    """Whether what is made of a text had better not lie in memory."""
    return path.stat().st_size * (1 if compression == "none" else COMPRESSED_TO) >= LARGE_BYTES


def prepare(cursor: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``malformed``, unless it is there: staging expects one, also of formats without malformed rows."""
    cursor.execute(
        "CREATE TEMP TABLE IF NOT EXISTS malformed "
        "(part VARCHAR, row_number BIGINT, column_name VARCHAR, reason VARCHAR, line VARCHAR)"
    )


def _set_malformed_aside(cursor: duckdb.DuckDBPyConnection, file: DelimitedFile, part: str) -> None:
    """Fill ``malformed`` from DuckDB's list of rejected lines.

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


def without_patterns(path: Path) -> str:
    """``path`` for DuckDB, which would take ``*``, ``?`` and ``[`` in it as patterns."""
    return re.sub(r"[*?\[]", lambda sign: f"[{sign.group()}]", str(path))


def text(value: str) -> str:
    """``value`` as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0
