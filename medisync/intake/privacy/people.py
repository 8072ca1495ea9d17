"""Who and what identifies people in a delivered file: read straight from the file, whatever the intake thinks of it.

The search must not trust the mapping it checks, so columns are judged by their names and FHIR resources by their types.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from medisync.intake.privacy.columns import kinds_of
from medisync.intake.privacy.identifiers import Collector, IdentifierKind, Identifiers

csv.field_size_limit(1 << 30)

DAMAGED = (EOFError, UnicodeError, csv.Error, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)

PERSONS = {"Patient", "Practitioner", "RelatedPerson", "Person"}
_PERSON_KEYS = """
subject patient individual actor performer requester provider recorder asserter member author collector who practitioner
"""
PERSON_KEYS = frozenset(_PERSON_KEYS.split())
"""Where FHIR refers to a person, with the name for display."""


def identifiers_of(paths: Iterable[Path]) -> Identifiers:
    """What identifies the people of these files; folders, .zip and .gz are looked into."""
    collector = Collector()
    for path in paths:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            with suppress(*DAMAGED):  # a refused file is looked into as far as it can be read
                _file(collector, file)
    return collector.identifiers()


def _file(collector: Collector, path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        if path.suffix.casefold() == ".xlsx":
            _workbook(collector, path)
        else:
            _archive(collector, path)
    elif start == b"PAR1":
        _parquet(collector, path)
    elif start[:2] == b"\x1f\x8b":
        with gzip.open(path) as stream:
            _text(collector, cast(IO[bytes], stream))
    else:
        with path.open("rb") as stream:
            _text(collector, stream)


def _archive(collector: Collector, path: Path) -> None:
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        if "[Content_Types].xml" in archive.namelist():
            _workbook(collector, path)
            return
        for number, member in enumerate(one for one in archive.infolist() if not one.is_dir()):
            target = Path(folder) / f"{number}{Path(member.filename).suffix}"
            with archive.open(member) as source, target.open("wb") as copy:
                while chunk := source.read(1 << 20):
                    copy.write(chunk)
            _file(collector, target)
            target.unlink()


def _text(collector: Collector, stream: IO[bytes]) -> None:
    start = stream.read(1 << 16)
    encoding = "utf-8-sig"
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        try:
            start.decode("utf-8")
        except UnicodeDecodeError as error:
            encoding = "utf-8-sig" if error.start > len(start) - 4 else "cp1252"
    whole = io.TextIOWrapper(cast(IO[bytes], _Again(start, stream)), encoding=encoding, errors="replace", newline="")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        _json(collector, whole)
        return
    header = next((line for line in whole if line.strip()), "")
    delimiter = max(",;\t|", key=header.count)
    columns = next(csv.reader([header], delimiter=delimiter), [])
    _table(collector, columns, csv.reader((line.replace("\0", "") for line in whole), delimiter=delimiter))


class _Again(io.RawIOBase):
    """A stream whose beginning was read already."""

    def __init__(self, start: bytes, stream: IO[bytes]) -> None:
        self._start, self._stream = start, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._start[: len(buffer)] or self._stream.read(len(buffer))
        self._start = self._start[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _table(collector: Collector, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Judge each column by its name, then take the values, each once."""
    kinds = kinds_of(list(columns))
    seen: list[set[str]] = [set() for _ in kinds]
    first = kinds.index("first") if "first" in kinds else None
    last = kinds.index("last") if "last" in kinds else None
    parts: set[tuple[str, str]] = set()
    take: dict[str, Callable[[str], None]] = {
        "name": collector.name,
        "number": collector.number,
        "either": collector.person,
        "birth": collector.birth_date,
        "plain": collector.plain,
        **{
            kind.name.lower(): functools.partial(collector.text, kind)
            for kind in (IdentifierKind.EMAIL, IdentifierKind.PHONE, IdentifierKind.ADDRESS, IdentifierKind.PLACE)
        },
    }
    for row in rows:
        if first is not None and last is not None and max(first, last) < len(row):
            parts.add((str(row[first] or ""), str(row[last] or "")))
        for known, raw in zip(seen, row, strict=False):
            if raw:
                known.add(raw if isinstance(raw, str) else str(raw))
    for one, other in parts:
        if one.strip() and other.strip():
            collector.name_parts(one, other)
    for kind, known in zip(kinds, seen, strict=True):
        for value in known if kind in take else ():
            if value.strip():
                take[kind](value.strip())


def _workbook(collector: Collector, path: Path) -> None:
    from python_calamine import CalamineWorkbook

    workbook = CalamineWorkbook.from_path(str(path))
    for name in workbook.sheet_names:
        rows = iter(workbook.get_sheet_by_name(name).to_python())
        header = next((row for row in rows if any(row)), [])
        _table(collector, [str(cell) for cell in header], rows)


def _parquet(collector: Collector, path: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        result = connection.execute("SELECT COLUMNS(*)::VARCHAR FROM read_parquet(?)", [str(path)])
        columns = [column[0] for column in result.description or []]

        def rows() -> Iterator[Sequence[Any]]:
            while chunk := result.fetchmany(10_000):
                yield from chunk

        _table(collector, columns, rows())


def _json(collector: Collector, text: io.TextIOWrapper) -> None:
    """A document, or one in each line."""
    first = text.readline()
    try:
        _resource(collector, json.loads(first), None)
    except ValueError:
        try:
            _resource(collector, json.loads(first + text.read()), None)
        except (ValueError, RecursionError):
            return
        return
    for line in text:
        try:
            _resource(collector, json.loads(line), None)
        except (ValueError, RecursionError):
            continue


def _resource(collector: Collector, value: Any, key: str | None) -> None:
    """Walk through FHIR: persons' own elements, references to them by name, and everything else as plain."""
    if isinstance(value, list):
        for one in value:
            _resource(collector, one, key)
    elif isinstance(value, dict):
        kind = value.get("resourceType")
        if kind in PERSONS:
            _person(collector, value)
            return
        if kind == "Encounter":
            collector.number(str(value.get("id", "")))
        for name, inner in value.items():
            if name == "display" and isinstance(inner, str):
                collector.name(inner) if key in PERSON_KEYS else collector.plain(inner)
            elif name != "text" and isinstance(inner, (dict, list)):
                _resource(collector, inner, name)
            elif name in ("name", "city") and isinstance(inner, str):
                collector.plain(inner)


def _person(collector: Collector, person: dict[str, Any]) -> None:
    collector.number(str(person.get("id", "")))
    for name in _objects(person.get("name")):
        given, family = name.get("given") or [""], name.get("family") or ""
        if isinstance(given, list) and given and isinstance(family, str):
            collector.name(f"{given[0]} {family}")
        if isinstance(name.get("text"), str):
            collector.name(name["text"])
    for identifier in _objects(person.get("identifier")):
        collector.number(str(identifier.get("value", "")))
    for contact in _objects(person.get("telecom")):
        kind = IdentifierKind.EMAIL if contact.get("system") == "email" else IdentifierKind.PHONE
        collector.text(kind, str(contact.get("value", "")))
    if person["resourceType"] != "Practitioner":  # whose address is the hospital's
        for address in _objects(person.get("address")):
            for line in address.get("line") or []:
                collector.text(IdentifierKind.ADDRESS, str(line))
    collector.birth_date(str(person.get("birthDate", "")))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
