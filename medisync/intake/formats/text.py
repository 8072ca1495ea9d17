"""Delimited text: compression, encoding, delimiter and header are found out by looking at its beginning."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.errors import DeliveryRefusedError
from medisync.intake import delimited
from medisync.intake.feeds import Reader
from medisync.intake.formats import encodings, titles
from medisync.intake.formats.tables import SAMPLE_ROWS, Room, Table
from medisync.intake.parts import Part
from medisync.intake.reading import DELIMITERS, HEADER_BYTES, DelimitedFile, is_gzip, open_stream, refused
from medisync.intake.reasons import FileFault, Notice, RowFault
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

MOST_COLUMNS = 5_000
SEPARATOR = re.compile(rb"(?i)sep=([,;\t|])")


def start_of(part: Part) -> tuple[bytes, str]:
    """The first bytes of a part's text, decompressed, and its compression; raises DeliveryRefusedError."""
    try:
        compression = "gzip" if is_gzip(part.path) else "none"
        with open_stream(part.path, compression == "gzip") as file:
            return file.read(HEADER_BYTES), compression
    except FileNotFoundError:
        raise refused(FileFault.DISAPPEARED, "It disappeared while it was read.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise refused(FileFault.DAMAGED, "Its compressed data are damaged or cut short.") from None
    except OSError as error:
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({error.strerror}).") from None


def table_of(part: Part, start: bytes, compression: str, source: Source, room: Room) -> Table:
    """The table a text begins with ``start``; raises DeliveryRefusedError when it is none."""
    encoding = source.encoding or encodings.encoding_of(start)
    file = DelimitedFile(part.path, (), ",", compression)
    notices: dict[str, int] = {}
    if encoding != encodings.UTF8:
        file = _as_utf8(file, encoding, room)
        notices[Notice.TRANSCODED.value] = 1
        start = file.path.read_bytes()[:HEADER_BYTES] if file.path.stat().st_size <= HEADER_BYTES else _head(file)
    file, sample, titles_above = _dialect(file, start.removeprefix(codecs.BOM_UTF8), source)
    if titles_above:
        notices[Notice.TITLE_LINES.value] = titles_above
    return _table(part, file, sample, notices, room)


def _head(file: DelimitedFile) -> bytes:
    with file.path.open("rb") as stream:
        return stream.read(HEADER_BYTES)


def _dialect(
    file: DelimitedFile, start: bytes, source: Source
) -> tuple[DelimitedFile, tuple[tuple[str, ...], ...], int]:
    """``file`` with its delimiter and header, its first rows, and how many lines of text stand above the header."""
    if not start.strip():
        raise refused(FileFault.EMPTY_FILE, "It is empty.")
    lines = start.splitlines()
    blank = next(number for number, line in enumerate(lines) if line.strip())
    declared = SEPARATOR.fullmatch(lines[blank].strip())
    if declared and len(lines) > blank + 1:  # Excel's first line: which delimiter follows
        blank += 1
    above = titles.lines_above(lines[blank:], source.delimiter)
    blank += above
    titles_above = sum(bool(one.strip()) for one in lines[blank - above : blank])
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
    delimiter: str = source.delimiter or (
        declared.group(1).decode() if declared else max(DELIMITERS, key=lambda sign: titles.rank(header, sign))
    )
    columns = tuple(name.strip() for name in next(csv.reader(io.StringIO(header), delimiter=delimiter)))
    if len(columns) > MOST_COLUMNS:
        raise refused(
            FileFault.MALFORMED, f"Its header has {len(columns):,} columns; more than {MOST_COLUMNS:,} are no table."
        )
    text = io.StringIO(b"\n".join(lines[blank + 1 : blank + 1 + 2 * SAMPLE_ROWS]).decode("utf-8", errors="replace"))
    rows = []
    for row in csv.reader((one.replace("\0", "") for one in text), delimiter=delimiter):
        if len(row) == len(columns):
            rows.append(tuple(value.strip() for value in row))
        if len(rows) == SAMPLE_ROWS:
            break
    return replace(file, columns=columns, delimiter=delimiter, lines_before_rows=blank + 1), tuple(rows), titles_above


def _as_utf8(file: DelimitedFile, encoding: str, room: Room) -> DelimitedFile:
    target = room.file(".utf8")
    encodings.write_as_utf8(file.path, file.compression, encoding, target)
    return replace(file, path=target, compression="none")


def _table(
    part: Part, file: DelimitedFile, sample: tuple[tuple[str, ...], ...], notices: dict[str, int], room: Room
) -> Table:
    def read(cursor: duckdb.DuckDBPyConnection, positions: Mapping[str, int], table: str) -> Reader:
        return MendingReader(cursor, file, positions, table, part, notices, room)

    return Table(part, "text", file.columns, sample, read, notices=notices)


class MendingReader:
    """Reads delimited text, and once more when only the whole of it shows what its beginning hid: line ends of two
    kinds, or that it is Windows-1252."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        file: DelimitedFile,
        positions: Mapping[str, int],
        table: str,
        part: Part,
        notices: dict[str, int],
        room: Room,
    ) -> None:
        self._file, self._positions, self._table, self._part = file, positions, table, part
        self._notices, self._room = notices, room
        self._reader = self._over(cursor, file)

    def _over(self, cursor: duckdb.DuckDBPyConnection, file: DelimitedFile) -> delimited.DelimitedReader:
        return delimited.read_delimited(cursor, file, self._positions, table=self._table, part=self._part.label)

    def read(self, cursor: duckdb.DuckDBPyConnection, target: str | Path, select: str) -> None:
        try:
            self._reader.read(cursor, target, select)
        except DeliveryRefusedError as error:
            # Line ends of two kinds are the one fault of a whole text that can be mended without a guess.
            if error.reason != FileFault.MALFORMED.value or not _has_mixed_line_ends(self._file):
                raise
            self._read_again(cursor, target, select, encodings.UTF8, Notice.LINE_ENDS_MIXED)
        if _is_other_encoding(cursor, self._file, self._part):
            self._read_again(cursor, target, select, encodings.WINDOWS, Notice.TRANSCODED)

    def _read_again(
        self, cursor: duckdb.DuckDBPyConnection, target: str | Path, select: str, encoding: str, notice: Notice
    ) -> None:
        cursor.execute("DELETE FROM malformed WHERE part = ?", [self._part.label])
        self._file = _as_utf8(self._file, encoding, self._room)
        self._notices[notice.value] = 1
        self._reader = self._over(cursor, self._file)
        self._reader.read(cursor, target, select)

    @property
    def plain(self) -> delimited.DelimitedReader:
        """The reader of the file as it is, or as it was mended."""
        return self._reader

    @property
    def odd(self) -> str:
        return self._reader.odd

    @property
    def is_large(self) -> bool:
        return self._reader.is_large

    def number(self, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        self._reader.number(cursor, table)

    def rows(self, numbers: str) -> str:
        return self._reader.rows(numbers)


def _has_mixed_line_ends(file: DelimitedFile) -> bool:
    kinds = set()
    with open_stream(file.path, file.compression == "gzip") as stream:
        rest = b""
        while chunk := stream.read(HEADER_BYTES):
            text = rest + chunk
            rest = b"\r" if text.endswith(b"\r") else b""
            pairs = text.count(b"\r\n")
            kinds |= {"crlf"} if pairs else set()
            kinds |= {"lf"} if text.count(b"\n") > pairs else set()
            kinds |= {"cr"} if text.count(b"\r") - len(rest) > pairs else set()
            if len(kinds) > 1:
                return True
    return False


def _is_other_encoding(cursor: duckdb.DuckDBPyConnection, file: DelimitedFile, part: Part) -> bool:
    """Whether the rows that are not UTF-8 are so because the file, behind its beginning, is Windows-1252."""
    row = cursor.execute(
        "SELECT count(*) FROM malformed WHERE part = ? AND reason = ?", [part.label, RowFault.NOT_UTF8.value]
    ).fetchone()
    if not row or not row[0]:
        return False
    is_windows = False
    with open_stream(file.path, file.compression == "gzip") as stream:
        while chunk := stream.read(HEADER_BYTES):
            if any(byte > 127 for byte in chunk):
                if encodings.encoding_of(chunk) != encodings.WINDOWS:
                    return False
                is_windows = True
    return is_windows
