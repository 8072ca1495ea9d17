"""What a file says, whatever it is packed in: text to be searched, piece by piece.

Every file is read as bytes, databases and Parquet files by their rows as well. Packed contents (gzip, zip, zlib inside
a PDF) are unpacked, text in UTF-16, base64, URL, HTML and JSON escapes is read as what it stands for.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import html
import re
import shutil
import sqlite3
import tempfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    import duckdb

PIECE_BYTES = 4 << 20
OVERLAP_BYTES = 1 << 12
"""A name at the border of two pieces stands whole in one of them."""

DEEPEST = 3
MOST_UNPACKED_BYTES = 8 << 30
SPOOLED_BYTES = 64 << 20
ROWS = 20_000

_UTF16 = (re.compile(rb"(?:[^\0]\0){5,}"), re.compile(rb"(?:\0[^\0]){5,}"))
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}(?:\\?n?\r?\n?[A-Za-z0-9+/_-]{16,})*={0,2}")
_LONG_BASE64 = 4096
_URL = re.compile(r"%[0-9A-Fa-f]{2}")
_HTML = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|[a-zA-Z]+);")
_JSON = re.compile(r'\\+(?:u([0-9a-fA-F]{4})|[nrtbf"/])')
_JOINED = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_INFLATED = re.compile(rb"\x78[\x01\x5e\x9c\xda]")


def texts(path: Path) -> Iterator[str]:
    """All that ``path`` says. Never open a file here that this process has open as a database with locks: closing it
    drops them; open databases are searched by a process of its own."""
    with path.open("rb") as file:
        yield from _stream(cast(IO[bytes], file), path, depth=0)


def _stream(file: IO[bytes], path: Path | None, *, depth: int) -> Iterator[str]:
    """The texts of an open file; ``path`` is where it lies, None when it was unpacked from another."""
    start = file.read(16)
    file.seek(0)
    if depth < DEEPEST:
        if start[:2] == b"\x1f\x8b":
            yield from _unpacked(cast(IO[bytes], gzip.GzipFile(fileobj=file)), depth + 1)
            return
        if start[:2] == b"PK":
            with suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    yield from _strings(member.filename.encode(), depth)
                    with suppress(RuntimeError, zipfile.BadZipFile, NotImplementedError), archive.open(member) as inner:
                        yield from _unpacked(inner, depth + 1)
            return
    reader = {b"PAR1": _parquet, b"SQLi": _sqlite}.get(start[:4]) or (_duckdb if start[8:12] == b"DUCK" else None)
    if reader is not None:
        with _lying(file, path) as lying:
            yield from reader(Path(lying))
        if reader is _parquet:
            # Its pages are packed and were read as rows; what lies open is the end, with least and greatest values.
            file.seek(-8, 2)
            length = int.from_bytes(file.read(4), "little") + 8
            file.seek(-min(length, file.seek(0, 2)), 2)
            yield from _strings(file.read(), depth)
            return
        file.seek(0)
    kept = b""
    while piece := file.read(PIECE_BYTES):
        yield from _strings(kept + piece, depth)
        kept = piece[-OVERLAP_BYTES:]


def _unpacked(inner: IO[bytes], depth: int) -> Iterator[str]:
    """What was packed, unpacked into memory or, when it is large, into a file without a name."""
    size = 0
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES) as copy:
        with suppress(EOFError, OSError, zlib.error, zipfile.BadZipFile):  # as far as it can be read
            while (chunk := inner.read(1 << 20)) and size < MOST_UNPACKED_BYTES:
                size += len(chunk)
                copy.write(chunk)
        copy.seek(0)
        yield from _stream(cast(IO[bytes], copy), None, depth=depth)


class _lying:  # noqa: N801 - a context manager that reads like a word
    """A copy of a database with its write-ahead log: what is open elsewhere is not touched."""

    def __init__(self, file: IO[bytes], path: Path | None) -> None:
        self._file, self._path = file, path

    def __enter__(self) -> str:
        self._folder = tempfile.TemporaryDirectory()
        target = Path(self._folder.name) / "copy"
        with target.open("wb") as copy:
            shutil.copyfileobj(self._file, copy)
        for ending in ("-wal", ".wal"):
            if self._path is not None and (beside := Path(f"{self._path}{ending}")).is_file():
                shutil.copyfile(beside, f"{target}{ending}")
        return str(target)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _parquet(path: Path) -> Iterator[str]:
    import duckdb

    with suppress(duckdb.Error), duckdb.connect() as connection:
        relation = f"read_parquet('{_quoted(path)}')"
        yield from _rows(connection, relation)


def _duckdb(path: Path) -> Iterator[str]:
    import duckdb

    with suppress(duckdb.Error), duckdb.connect() as connection:
        connection.execute(f"ATTACH '{_quoted(path)}' AS found (READ_ONLY)")
        names = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'found'"
        ).fetchall()
        for schema, table in names:
            relation = f'found."{schema}"."{table}"'
            yield from _rows(connection, relation)


def _rows(connection: duckdb.DuckDBPyConnection, relation: str) -> Iterator[str]:
    """Rows as lines, values apart by bars. Numbers with decimals, times and truth values identify nobody."""
    columns = connection.execute(f"DESCRIBE FROM {relation}").fetchall()
    kept = [
        f'"{name.replace(chr(34), chr(34) * 2)}"::VARCHAR'
        for name, kind, *_ in columns
        if not re.match(r"(DECIMAL|DOUBLE|FLOAT|BOOLEAN|TIME$)", kind)
    ]
    if not kept:
        return
    result = connection.execute(f"SELECT DISTINCT concat_ws(' | ', {', '.join(kept)}) FROM {relation}")
    while rows := result.fetchmany(ROWS):
        text = "\n".join(value for (value,) in rows)
        yield text
        yield from _read_as(text, DEEPEST)


def _sqlite(path: Path) -> Iterator[str]:
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as database:
        database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            with suppress(sqlite3.Error):  # a virtual table of an extension
                cursor = database.execute(f'SELECT * FROM "{table}"')
                while rows := cursor.fetchmany(ROWS):
                    yield from rows_as_text(rows)


def rows_as_text(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Rows of a database as lines, values apart by bars, bytes as the text they may be; and what that stands for."""
    lines = (
        " | ".join(
            bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)
            for value in row
            if value is not None
        )
        for row in rows
    )
    text = "\n".join(lines)
    yield text
    yield from _read_as(text, 1)


def _strings(raw: bytes, depth: int) -> Iterator[str]:
    """What a piece of bytes says as text, in every encoding it could be in."""
    text = raw.decode("utf-8", "replace")
    is_text = "\0" not in text
    if "\ufffd" in text[4:-4]:  # else it is a letter cut in two by a piece's border
        yield raw.decode("latin-1")
        is_text = is_text and text.count("\ufffd") * 10 < len(text)
    yield text
    if not is_text:
        yield _JOINED.sub("\n", text)  # in a database's pages one text begins where another ends
        for pattern, encoding in zip(_UTF16, ("utf-16-le", "utf-16-be"), strict=True):
            found = [match.group().decode(encoding, "replace") for match in pattern.finditer(raw)]
            if found:
                yield "\n".join(found)
        if depth < DEEPEST and raw[:5] == b"%PDF-":
            yield from _inflated(raw, depth)
    else:
        yield from _read_as(text, depth)


def _inflated(raw: bytes, depth: int) -> Iterator[str]:
    for match in _INFLATED.finditer(raw):
        with suppress(zlib.error):
            inflated = zlib.decompressobj().decompress(raw[match.start() :], PIECE_BYTES)
            if len(inflated) > 16:
                yield from _strings(inflated, depth + 1)


def _read_as(text: str, depth: int) -> Iterator[str]:
    """``text`` with its escapes undone, and what stands in it in base64."""
    read = text
    for _ in range(2):  # HTML in JSON, JSON in JSON
        before = read
        if "\\" in read:
            read = _JSON.sub(lambda match: chr(int(match[1], 16)) if match[1] else " ", read)
        if "&" in read and _HTML.search(read):
            read = html.unescape(read)
        if "%" in read and _URL.search(read):
            read = urllib.parse.unquote(read)
        if read == before:
            break
    if read is not text and read != text:
        yield read
    if depth < DEEPEST:
        decoded = b"\n".join(_decoded(text))
        if decoded:
            yield from _strings(decoded, DEEPEST)


def _decoded(text: str) -> Iterator[bytes]:
    for match in _BASE64.finditer(text):
        run = re.sub(r"\\n|\s", "", match.group()).rstrip("=").replace("-", "+").replace("_", "/")
        for start in range(4 if len(run) <= _LONG_BASE64 else 1):  # it may begin within a longer word
            whole = run[start : len(run) - (len(run) - start) % 4] if (len(run) - start) % 4 == 1 else run[start:]
            with suppress(binascii.Error, ValueError):
                raw = base64.b64decode(whole + "=" * (-len(whole) % 4))
                if raw[:2] == b"\x1f\x8b" or raw[:1] == b"\x78":
                    with suppress(zlib.error):
                        raw = zlib.decompressobj(47).decompress(raw, PIECE_BYTES)
                yield raw


def _quoted(path: Path) -> str:
    return re.sub(r"[*?\[]", lambda sign: f"[{sign.group()}]", str(path)).replace("'", "''")
