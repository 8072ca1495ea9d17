"""Text as values, in SQL: dates, numbers, words. And the checks that come with them, the same in every layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from medisync.intake.feeds import Check
from medisync.intake.layouts.dates import Dates
from medisync.intake.reading import identifier
from medisync.intake.reasons import EARLIEST_ADMISSION, OLDEST_AGE_YEARS, RowFault

THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+\.\d+|[-+]?\d{1,3}(,\d{3}){2,}")
COMMA_DECIMAL = re.compile(
    r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d{1,2}|[-+]?\d+,\d{4,}|[-+]?0,\d+|[-+]?\d{1,3}(\.\d{3})+,\d+"
)
CURRENCY = re.compile(r"[€$£¥\s]|USD|EUR|GBP|CHF")


def literal(text: str) -> str:
    """``text`` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def lower(column: str) -> str:
    return f"lower({identifier(column)})"


def number(column: str, sample: Iterable[str], decimal: str | None = None) -> str:
    """A column of numbers, with its decimal sign and thousands as the sample shows them where ``decimal`` is None."""
    texts = [CURRENCY.sub("", text) for text in sample if text]
    has_currency = any(CURRENCY.search(text.strip()) for text in sample)
    column = identifier(column)
    if has_currency:
        column = f"regexp_replace({column}, '[€$£¥\\s]|USD|EUR|GBP|CHF', '', 'g')"
    if decimal == "," or (decimal is None and any(COMMA_DECIMAL.fullmatch(text) for text in texts)):
        column = f"replace(replace({column}, '.', ''), ',', '.')"
    elif decimal == "." or any(THOUSANDS.fullmatch(text) for text in texts):
        column = f"replace({column}, ',', '')"
    return f"try_cast({column} AS DOUBLE)"


def gender(column: str) -> str:
    """female, male, other or unknown, from words, letters and OMOP's concept ids."""
    cases = {"male": ("male", "m", "8507"), "female": ("female", "f", "8532"), "unknown": ("unknown", "u", "")}
    whens = " ".join(f"WHEN {literal(word)} THEN '{value}'" for value, words in cases.items() for word in words)
    return (
        f"CASE {lower(column)} {whens} ELSE CASE WHEN {identifier(column)} IS NULL THEN 'unknown' ELSE 'other' END END"
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


def discharged(column: str, value: str, admitted_at: str) -> tuple[Check, ...]:
    before = Check(column, RowFault.DISCHARGE_BEFORE_ADMISSION, f"{value} < {admitted_at}")
    return (*dated(column, value), before)


def aged(column: str, value: str) -> tuple[Check, ...]:
    """A column of ages in whole years."""
    is_number = f"{value} IS NOT NULL AND {value} = floor({value}) AND NOT isnan({value})"
    return (
        Check(column, RowFault.BAD_NUMBER, f"{identifier(column)} IS NOT NULL AND NOT ({is_number})"),
        Check(column, RowFault.NEGATIVE_AGE, f"{value} < 0"),
        Check(column, RowFault.IMPLAUSIBLE_AGE, f"{value} > {OLDEST_AGE_YEARS} AND NOT isnan({value})"),
    )


def born(column: str, birth: str, admitted_at: str) -> tuple[Check, ...]:
    """An admission's patient, joined to it by his date of birth."""
    return (
        Check(column, RowFault.BIRTH_AFTER_ADMISSION, f"{birth}::DATE > {admitted_at}::DATE"),
        Check(
            column,
            RowFault.IMPLAUSIBLE_AGE,
            f"date_sub('year', {birth}::TIMESTAMP, {admitted_at}::TIMESTAMP) > {OLDEST_AGE_YEARS}",
        ),
    )


def priced(column: str, value: str) -> tuple[Check, ...]:
    """A column of amounts of money."""
    return (
        Check(
            column,
            RowFault.BAD_NUMBER,
            f"{identifier(column)} IS NOT NULL AND ({value} IS NULL OR NOT isfinite({value}) "
            f"OR abs(round({value}, 2)) >= 1e12)",
        ),
    )


def moment(column: str, dates: Mapping[str, Dates]) -> str:
    """A column of dates as TIMESTAMP, read as ``dates`` says of it; NULL where it is none."""
    return dates.get(column, Dates()).sql(identifier(column))
