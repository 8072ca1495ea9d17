"""What identifies people in one delivery, in the forms in which it could turn up elsewhere.

Every rule that leaves something out says why, since a search that cries wolf is switched off:

- **Words that are said anyway.** A name that also stands in a value which is no person's (a hospital called "Thomas
  Martin and Sons", a city, an insurer) cannot be told from it.
- **Common words.** "Will May" or "Amber Fox" is a sentence's middle or a made-up name of a flow run.
- **Single words** are not searched one by one (surnames are hospitals, cities and colours), but a file that holds a
  quarter of all surnames of the delivery holds a column of them.
- **Short or dense numbers.** A patient number of four digits is a count in any report. A number is searched when fewer
  than one in 100,000 random numbers of its length would be one of those sought.
- **Birth dates** are dates: see :func:`medisync.intake.privacy.scan.identifying_dates`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from medisync.intake.privacy.common_words import common_words
from medisync.intake.privacy.folding import words
from medisync.intake.privacy.patterns import SHORTEST_BYTES


class IdentifierKind(StrEnum):
    NAME = "name"
    SURNAMES = "surnames"  # a column of them
    NUMBER = "number"  # of a patient, an admission, an insurance, a passport
    PHONE = "phone number"
    EMAIL = "email address"
    ADDRESS = "address"
    PLACE = "coordinates"
    BIRTH_DATE = "birth date"


TITLES = {"mr", "mrs", "ms", "miss", "dr", "prof", "md", "phd", "dds", "dvm", "jr", "sr", "ii", "iii", "iv", "v"}
CHANCE_OF_A_NUMBER = 1e-5
"""A random number of the same length may be one of those sought no more often than this."""

MOST_PLAIN_WORDS = 12
"""A longer value is a text; every two words of it would be taken for said anyway."""

SURNAME_LETTERS = 4


@dataclass(frozen=True)
class Identifiers:
    """``forms``: folded text -> what it identifies. ``left_out`` counts what cannot be searched, by reason."""

    forms: Mapping[bytes, IdentifierKind]
    birth_dates: frozenset[dt.date] = frozenset()
    surnames: frozenset[bytes] = frozenset()
    names_in_columns: bool = False  # first and last names come in columns of their own
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.forms) + len(self.birth_dates)


class Collector:
    """Takes the values of a delivery one by one; :meth:`identifiers` says what to search for."""

    def __init__(self) -> None:
        self._names: set[tuple[str, ...]] = set()
        self._numbers: set[str] = set()
        self._texts: dict[tuple[str, ...], IdentifierKind] = {}
        self._dates: set[dt.date] = set()
        self._plain: set[str] = set()
        self._in_columns = False

    def name(self, text: str) -> None:
        """A person's whole name in one value."""
        parts = words(text)
        while parts and parts[0] in TITLES:
            parts.pop(0)
        while parts and parts[-1] in TITLES:
            parts.pop()
        if parts:
            self._names.add(tuple(parts))

    def name_parts(self, first: str, last: str) -> None:
        """A person's first and last name from columns of their own."""
        self._in_columns = True
        self.name(f"{first} {last}")

    def number(self, text: str) -> None:
        self._numbers.add(text.strip())

    def text(self, kind: IdentifierKind, text: str) -> None:
        """A phone number, an address, an email address, coordinates."""
        self._texts[tuple(words(text))] = kind

    def birth_date(self, text: str) -> None:
        try:
            self._dates.add(dt.date.fromisoformat(text.strip()[:10]))
        except ValueError:
            return

    def plain(self, text: str) -> None:
        """A value that identifies nobody and may turn up anywhere."""
        if len(text) <= 200:
            self._plain.add(text)

    def person(self, text: str) -> None:
        """A value that is a person's name in some files and a number in others."""
        parts = words(text)
        if len(parts) > 1 and all(part.isalpha() for part in parts):
            self.name(text)
        else:
            self.number(text)

    def identifiers(self) -> Identifiers:
        left_out: Counter[str] = Counter()
        forms: dict[bytes, IdentifierKind] = {}
        said, pairs = self._said_anyway()
        self._add_names(forms, pairs, left_out)
        self._add_numbers(forms, said, left_out)
        for parts, kind in self._texts.items():
            self._add_text(forms, parts, kind, said, left_out)
        surnames = {name[-1] for name in self._names if len(name) > 1 and len(name[-1]) >= SURNAME_LETTERS}
        plain_words = {word for value in said for word in value}
        kept = {word.encode() for word in surnames - plain_words - common_words() if len(word) >= SHORTEST_BYTES}
        plain_dates = {_date(text) for text in self._plain}
        return Identifiers(
            forms,
            frozenset(one for one in self._dates - plain_dates if (one.month, one.day) != (1, 1)),
            frozenset(kept),
            self._in_columns,
            dict(left_out),
        )

    def _said_anyway(self) -> tuple[set[tuple[str, ...]], set[tuple[str, str]]]:
        """The plain values' words, and every two of them that stand in one value, in either order."""
        of_names = {word for name in self._names for word in (name[0], name[-1])}
        said = {tuple(words(text)) for text in self._plain}
        pairs = set()
        for value in said:
            known = [word for word in value if word in of_names] if len(value) <= MOST_PLAIN_WORDS else []
            pairs |= {(one, other) for one in known for other in known}
        return said, pairs

    def _add_names(
        self, forms: dict[bytes, IdentifierKind], pairs: set[tuple[str, str]], left_out: Counter[str]
    ) -> None:
        common = common_words()
        for name in self._names:
            first, last = name[0], name[-1]
            if len(name) == 1:
                # One word is a name where the script has no spaces; else it is a word like others.
                if not first.isascii() and len(first) >= 3:
                    forms[first.encode()] = IdentifierKind.NAME
                else:
                    left_out["a single word"] += 1
                continue
            if (first, last) in pairs:
                left_out["said anyway"] += 1
                continue
            if first in common and last in common:
                left_out["common words"] += 1
                continue
            bare = tuple(stripped for part in name if (stripped := re.sub(r"\d+$", "", part)))
            for parts in {name, bare}:
                for form in _orders(parts):
                    if len(form) >= SHORTEST_BYTES:
                        forms[form] = IdentifierKind.NAME

    def _add_numbers(
        self, forms: dict[bytes, IdentifierKind], said: set[tuple[str, ...]], left_out: Counter[str]
    ) -> None:
        digits = Counter(len(one) for one in map(_compact, self._numbers) if one.isdigit())
        for number in self._numbers:
            compact = _compact(number)
            if len(compact) < SHORTEST_BYTES or (
                compact.isdigit() and digits[len(compact)] / 10 ** len(compact) > CHANCE_OF_A_NUMBER
            ):
                left_out["a short or dense number"] += 1
                continue
            if not any(sign.isdigit() for sign in compact):
                left_out["a number without a digit"] += 1
                continue
            if tuple(words(number)) in said:
                left_out["said anyway"] += 1
                continue
            for form in (" ".join(words(number)), compact):
                forms[form.encode()] = IdentifierKind.NUMBER

    def _add_text(
        self,
        forms: dict[bytes, IdentifierKind],
        parts: tuple[str, ...],
        kind: IdentifierKind,
        said: set[tuple[str, ...]],
        left_out: Counter[str],
    ) -> None:
        form = " ".join(parts)
        digits = re.sub(r"\D", "", form)
        is_vague = {
            IdentifierKind.PHONE: len(digits) < 7,
            IdentifierKind.ADDRESS: not digits or len(parts) < 2 or len(form) < 8,
            IdentifierKind.PLACE: len(digits) < 8,
        }.get(kind, len(form) < 6)
        if is_vague or parts in said:
            left_out["said anyway" if parts in said else f"a vague {kind.value}"] += 1
            return
        forms[form.encode()] = kind
        if kind is IdentifierKind.PHONE:
            forms[digits.encode()] = kind
            if len(digits) == 10:  # as 5082225200 and as 508 222 5200, with or without stops
                groups = (digits[:3], digits[3:6], digits[6:])
                for between in (" ", "."):
                    forms[between.join(groups).encode()] = kind


def _orders(parts: tuple[str, ...]) -> Iterable[bytes]:
    """First name first, last name first, with and without those between, and written as one word."""
    if len(parts) < 2:
        return
    first, last = parts[0], parts[-1]
    for together in {parts, (last, *parts[:-1]), (first, last), (last, first)}:
        yield " ".join(together).encode()
    for one_word in (first + last, last + first):
        if len(one_word) >= 10:
            yield one_word.encode()


def _compact(text: str) -> str:
    return "".join(words(text)).replace(".", "")


def _date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        return None
