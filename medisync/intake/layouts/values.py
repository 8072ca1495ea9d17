"""Text as values, in SQL: dates, numbers, words. And the checks that come with them, the same in every layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from medisync.intake.feeds import Check
from medisync.intake.layouts.dates import Dates
from medisync.intake.reading import identifier, refused
from medisync.intake.reasons import EARLIEST_ADMISSION, OLDEST_AGE_YEARS, FileFault, RowFault

GROUPS_BY_COMMA = re.compile(r"\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,}")
POINT_DECIMAL = re.compile(r"\d+\.(\d{1,2}|\d{4,})|\d{4,}\.\d{3}|0\.\d+")
COMMA_DECIMAL = re.compile(
    r"(\d{1,3}(\.\d{3})+|\d+),\d{1,2}|\d+,\d{4,}|\d{4,},\d{3}|0,\d+|\d{1,3}(\.\d{3})+,\d+|\d{1,3}(\.\d{3}){2,}"
)
EITHER = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")
"""A thousand or a fraction: 1.000 and 1,000 do not tell."""

FAULTY_SHARE = 0.1
"""Up to so many numbers written otherwise are single faults rather than a second way to write."""

AROUND = re.compile(r"[€$£¥'’\s]|USD|EUR|GBP|CHF")
"""Currencies, and the spaces and apostrophes that set thousands apart."""

AROUND_SQL = "'[€$£¥''’\\s\\x{00A0}\\x{202F}]|USD|EUR|GBP|CHF'"
NEGATIVE = re.compile(r"\(.*\)|.*-")
"""Negative as bookkeepers write it: in brackets, or with the sign behind."""


def literal(text: str) -> str:
    """``text`` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def lower(column: str) -> str:
    return f"lower({identifier(column)})"


def number(column: str, sample: Iterable[str], decimal: str | None = None) -> str:
    """A column of numbers, with its decimal sign and thousands as the sample shows them where ``decimal`` is None.

    A value in another style than its column's is no number: it is never read as a hundred times what it is. Raises
    DeliveryRefusedError (AMBIGUOUS_NUMBERS) when the sample does not tell a thousand from a fraction.
    """
    raw = [text.strip() for text in sample if text and text.strip()]
    texts = [AROUND.sub("", text).strip("()-+") for text in raw]
    sql = identifier(column)
    if any(AROUND.search(text) for text in raw):
        sql = f"regexp_replace({sql}, {AROUND_SQL}, '', 'g')"
    if any(NEGATIVE.fullmatch(text) for text in raw):
        sql = f"regexp_replace(regexp_replace({sql}, '^\\((.*)\\)$', '-\\1'), '^(.*[^-])-$', '-\\1')"
    sign = decimal or _decimal_sign(column, texts)
    if sign == ",":
        is_number = f"regexp_matches({sql}, '^[-+]?(\\d{{1,3}}(\\.\\d{{3}})+|\\d*)(,\\d*)?$')"
        sql = f"CASE WHEN {is_number} THEN replace(replace({sql}, '.', ''), ',', '.') END"
    elif decimal == "." or any("," in text for text in texts):
        is_grouped = f"regexp_matches({sql}, '^[-+]?\\d{{1,3}}(,\\d{{3}})+(\\.\\d*)?$')"
        sql = f"CASE WHEN {is_grouped} THEN replace({sql}, ',', '') ELSE {sql} END"
    return f"try_cast({sql} AS DOUBLE)"


def _decimal_sign(column: str, texts: Sequence[str]) -> str | None:
    """The decimal sign that ``texts`` show, None where whole numbers need none."""
    points = sum(bool(POINT_DECIMAL.fullmatch(text) or GROUPS_BY_COMMA.fullmatch(text)) for text in texts)
    commas = sum(bool(COMMA_DECIMAL.fullmatch(text)) for text in texts)
    if points + commas and min(points, commas) <= FAULTY_SHARE * (points + commas):  # a few are faults of theirs
        return "." if points > commas else ","
    if points or any(EITHER.fullmatch(text) for text in texts):
        what = "both 12.5 and 12,5" if points else "1.000 or 1,000, which may be a thousand or one"
        raise refused(
            FileFault.AMBIGUOUS_NUMBERS,
            f"Column {column} has numbers such as {what}.",
            column=column,
            hint='Say decimal = "." or "," in the source\'s file; see docs/sources.md.',
        )
    return None


GENDERS = (
    ("male", "male m 8507"),
    ("female", "female f 8532"),
    ("unknown", "unknown u"),
    ("female", "w weiblich frau woman femme féminin femenino mujer femminile donna femmina vrouw feminino kvinna"),
    ("male", "männlich maennlich mann man homme masculin masculino hombre maschile uomo maschio hankön manlig"),
    ("unknown", "unbekannt inconnu desconocido sconosciuto onbekend desconhecido"),
)
"""Words for genders, the usual ones first. Letters that mean the one in one language and the other in another (h, v)
need a code list."""


def gender(column: str) -> str:
    """female, male, other or unknown, from words, letters and OMOP's concept ids."""
    whens = " ".join(f"WHEN {literal(word)} THEN '{value}'" for value, words in GENDERS for word in words.split())
    return (
        f"CASE {lower(column)} {whens} WHEN '' THEN 'unknown' "
        f"ELSE CASE WHEN {identifier(column)} IS NULL THEN 'unknown' ELSE 'other' END END"
    )


def full_years(birth: str, at: str) -> str:
    """Whole years from ``birth`` to ``at``; NULL when one of them is, or when the birth comes later."""
    return f"CASE WHEN {birth} <= {at} THEN date_sub('year', {birth}::TIMESTAMP, {at}::TIMESTAMP) END"


def scoped(expression: str, system: str | None, source: str) -> str:
    """An identifier with the system it is unique in: the one the source names, or the source itself."""
    return f"{literal(system or f'source:{source}')} || chr(31) || ({expression})"


def coded(expression: str, codes: Mapping[str, str]) -> str:
    """``expression`` translated by a code list; what is not in it stays."""
    if not codes:
        return expression
    whens = " ".join(f"WHEN {literal(code.casefold())} THEN {literal(name)}" for code, name in codes.items())
    return f"CASE lower({expression}) {whens} ELSE {expression} END"


def needed(*columns: str) -> tuple[Check, ...]:
    """Columns without which a row cannot be used."""
    return tuple(Check(column, RowFault.MISSING_VALUE, f"{identifier(column)} IS NULL") for column in columns)


def dated(column: str, value: str) -> tuple[Check, ...]:
    """A column of dates, read as ``value``."""
    return (
        Check(column, RowFault.BAD_DATE, f"{identifier(column)} IS NOT NULL AND {value} IS NULL"),
        Check(column, RowFault.DATE_IN_FUTURE, f"{value} > getvariable('received_at') + INTERVAL 1 DAY"),
    )


def admitted(column: str, value: str) -> tuple[Check, ...]:
    return (
        *dated(column, value),
        Check(column, RowFault.DATE_TOO_EARLY, f"{value} < TIMESTAMP '{EARLIEST_ADMISSION}'"),
    )


DISCHARGED_AT = "CASE WHEN v_discharged_at < v_admitted_at THEN v_admitted_at ELSE v_discharged_at END"
"""Of a stay that ended on the day it began, and of whose end only the day is known, the end is its beginning."""


def discharged(column: str, value: str, admitted_at: str) -> tuple[Check, ...]:
    """Discharged before admitted; but a day without a time may be that of the admission."""
    is_earlier_day = f"({value} <> {value}::DATE OR {value}::DATE < {admitted_at}::DATE)"
    before = Check(column, RowFault.DISCHARGE_BEFORE_ADMISSION, f"{value} < {admitted_at} AND {is_earlier_day}")
    return (*dated(column, value), before)


def aged(column: str, value: str, oldest_years: int | None = None) -> tuple[Check, ...]:
    """A column of ages in whole years, of at most ``oldest_years`` where the source says so."""
    is_number = f"{value} IS NOT NULL AND {value} = floor({value}) AND NOT isnan({value})"
    return (
        Check(column, RowFault.BAD_NUMBER, f"{identifier(column)} IS NOT NULL AND NOT ({is_number})"),
        Check(column, RowFault.NEGATIVE_AGE, f"{value} < 0"),
        Check(column, RowFault.IMPLAUSIBLE_AGE, f"{value} > {oldest_years or OLDEST_AGE_YEARS} AND NOT isnan({value})"),
    )


def born(column: str, birth: str, admitted_at: str, oldest_years: int | None = None) -> tuple[Check, ...]:
    """An admission's patient, joined to it by his date of birth."""
    return (
        Check(column, RowFault.BIRTH_AFTER_ADMISSION, f"{birth}::DATE > {admitted_at}::DATE"),
        Check(
            column,
            RowFault.IMPLAUSIBLE_AGE,
            f"date_sub('year', {birth}::TIMESTAMP, {admitted_at}::TIMESTAMP) > {oldest_years or OLDEST_AGE_YEARS}",
        ),
    )


def priced(column: str, value: str) -> tuple[Check, ...]:
    """A column of amounts of money."""
    return (
        Check(
            column,
            RowFault.BAD_NUMBER,
            f"{identifier(column)} IS NOT NULL AND ({value} IS NULL OR NOT isfinite({value}) "
            f"OR abs({value}) >= 999999999999.995)",  # what would be rounded to more digits than the lake's type has
        ),
    )


def moment(column: str, dates: Mapping[str, Dates]) -> str:
    """A column of dates as TIMESTAMP, read as ``dates`` says of it; NULL where it is none."""
    return dates.get(column, Dates()).sql(identifier(column))
