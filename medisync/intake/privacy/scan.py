"""Searching files and databases for identifiers. What is found is told by file and kind, never by value."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medisync.intake.privacy.contents import texts
from medisync.intake.privacy.folding import fold
from medisync.intake.privacy.identifiers import IdentifierKind, Identifiers
from medisync.intake.privacy.patterns import Patterns
from medisync.intake.privacy.tables import tables

if TYPE_CHECKING:
    from medisync.backend.database import Address

RAW_FOLDERS = ("inbox", "processing", "archive", "quarantine", "refused")
"""Of a workspace's data folder: where raw files lie for their owner alone."""

PROGRAMS = Path("prefect", "ui")
"""Of a workspace's data folder: the scripts of Prefect's UI, copied there from its package; they name their authors."""

FEWEST_SURNAMES, SURNAME_SHARE = 20, 0.25
"""So many different surnames of the delivery, and such a share of all, are a column of names."""

DAYS_OF_A_CENTURY = 36_525
FEWEST_BIRTH_DATES = 3

_DATE = re.compile(
    rb"(?:((?:19|20)\d\d) (\d\d) (\d\d)|(\d\d?)[ .](\d\d?)[ .]((?:19|20)\d\d)|((?:19|20)\d\d)(\d\d)(\d\d))(?![\d.])"
)


@dataclass(frozen=True)
class Finding:
    """``number`` different identifiers of one kind in one file, or in one table of a database."""

    file: str
    kind: IdentifierKind
    number: int

    def sentence(self) -> str:
        plural = "" if self.number == 1 else "s"
        return f"{self.file}: {self.number:,} {self.kind.value}{plural if not self.kind.value.endswith('s') else ''}"


@dataclass(frozen=True)
class ScanReport:
    files: int
    bytes: int
    sought: int
    findings: tuple[Finding, ...]
    unreadable: tuple[str, ...]
    left_out: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def scan(paths: Iterable[Path], identifiers: Identifiers, databases: Iterable[Address] = ()) -> ScanReport:
    """Search files and folders, a workspace's raw folders apart, and Postgres databases for ``identifiers``.

    Raises DatabaseAwayError.
    """
    search = _Search(identifiers)
    findings: list[Finding] = []
    unreadable: list[str] = []
    files = size = 0
    for path, shown in _files(paths):
        try:
            files, size = files + 1, size + path.stat().st_size
            findings += search.findings(shown, texts(path))
        except FileNotFoundError:  # removed meanwhile, as a log that was rotated
            continue
        except OSError:
            unreadable.append(shown)
    for address in databases:
        import psycopg

        for shown, rows in tables(address):
            files += 1
            try:
                findings += search.findings(shown, rows)
            except psycopg.errors.InsufficientPrivilege:
                unreadable.append(shown)
    return ScanReport(files, size, len(identifiers), tuple(findings), tuple(unreadable), dict(identifiers.left_out))


class _Search:
    """The patterns of ``identifiers``, made once."""

    def __init__(self, identifiers: Identifiers) -> None:
        self._identifiers = identifiers
        self._patterns, self._surnames = Patterns(identifiers.forms), Patterns(identifiers.surnames)

    def findings(self, shown: str, contents: Iterable[str]) -> Iterator[Finding]:
        """What of the identifiers is in a file or table, or in its name ``shown``."""
        identifiers = self._identifiers
        found: set[bytes] = set()
        names: set[bytes] = set()
        dates: set[dt.date] = set()
        for text in chain([shown], contents):
            folded = fold(text)
            found |= self._patterns.found(folded)
            if identifiers.names_in_columns:  # which stand in one column beside the other
                found |= self._patterns.found(folded.replace(b"\x01", b" "))
            names |= self._surnames.found(folded)
            if identifiers.birth_dates:
                dates |= _dates_in(folded, identifiers.birth_dates)
        counts: dict[IdentifierKind, set[bytes]] = {}
        for form in found:
            counts.setdefault(identifiers.forms[form], set()).add(form)
        yield from (Finding(shown, kind, len(forms)) for kind, forms in sorted(counts.items()))
        if len(names) >= max(FEWEST_SURNAMES, SURNAME_SHARE * len(identifiers.surnames)):
            yield Finding(shown, IdentifierKind.SURNAMES, len(names))
        if births := identifying_dates(dates, identifiers.birth_dates):
            yield Finding(shown, IdentifierKind.BIRTH_DATE, len(births))


def identifying_dates(found: set[dt.date], births: frozenset[dt.date]) -> set[dt.date]:
    """Those of ``found`` that must be birth dates.

    A date names nobody by itself, and a file full of admissions has all dates of its years. So a birth date counts only
    where the file has no other date within a year of it; and where births are on more than one day in a hundred of a
    century, so that a stray date would be one by chance, three of them are needed.
    """
    others = sorted(found - births)
    year = dt.timedelta(days=366)
    counted = {one for one in found & births if not any(abs(one - other) <= year for other in others)}
    needed = 1 if len(births) <= DAYS_OF_A_CENTURY / 100 else FEWEST_BIRTH_DATES
    return counted if len(counted) >= needed else set()


def _dates_in(folded: bytes, births: frozenset[dt.date]) -> set[dt.date]:
    """Every date, with the year first or last or in eight digits; of two ways to read one, that which is a birth's."""
    signs = np.frombuffer(folded + bytes(11), dtype=np.uint8)
    is_digit = (signs >= 48) & (signs <= 57)
    begins = is_digit[1:] & ~(is_digit | (signs == 46))[:-1]
    places = np.flatnonzero(begins[: len(folded)]) + 1
    if not len(places):
        return set()
    windows = np.lib.stride_tricks.sliding_window_view(signs, 11)[places[places < len(folded)]]
    apart = (windows == 32) | (windows == 46)
    digits = (windows >= 48) & (windows <= 57)
    is_likely = (
        (apart[:, 4] & apart[:, 7] & digits[:, 3])
        | ((apart[:, 1] | apart[:, 2]) & (apart[:, 3] | apart[:, 4] | apart[:, 5]) & (digits[:, 7] | digits[:, 8]))
        | digits[:, :8].all(axis=1)
    )
    windows = windows[is_likely]
    dates = set()
    for window in np.unique(np.ascontiguousarray(windows).view("S11")).tolist():
        if match := _DATE.match(window):
            year, month, day, one, other, last, *packed = match.groups()
            readings = [(year, month, day)] if year else [(last, other, one), (last, one, other)] if last else [packed]
            read = set()
            for y, m, d in readings:
                with suppress(ValueError):
                    read.add(dt.date(int(y), int(m), int(d)))
            dates |= read & births or read
    return dates


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Regular files with the names they are shown by, relative to the folder that was named."""
    for root in paths:
        if not root.is_dir():
            yield root, root.name
            continue
        is_workspace = (root / "lake").is_dir() and (root / "archive").is_dir()
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if is_workspace and (relative.parts[0] in (*RAW_FOLDERS, "keys") or relative.is_relative_to(PROGRAMS)):
                continue
            if path.is_file() and not path.is_symlink():
                yield path, str(relative)
