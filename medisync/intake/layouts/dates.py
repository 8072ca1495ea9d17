"""How a column's dates are written: ISO, or with the day or the month first, with or without a time and an offset.

Whether 03/04/2024 is in March or April no single value tells. The whole column may: a first number above 12 is a day,
a second one above 12 shows that the first is a month. When both occur, or neither does, the file is refused, unless its
source says which it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medisync.intake.reading import identifier, refused
from medisync.intake.reasons import FileFault
from medisync.intake.sources import DateOrder, Source

if TYPE_CHECKING:
    import duckdb

ISO = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
PLAIN = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}:\d{2})?")
ISO_LIKE = re.compile(r"\d{4}([-/.]?\d{1,2}([-/.]?\d{1,2}([ T]|$)|$)|$)")
NUMERIC = r"^\d{1,2}[-/. ]\d{1,2}[-/. ](\d{4}|\d{2})(\D|$)"
OFFSET = r"\d\s*(Z|z|[+-]\d{2}(:?\d{2})?)$"
SERIAL = r"^[1-9]\d{4}(\.\d+)?$"
"""A spreadsheet's day as a number: since the end of 1899, the time as its fraction."""

CLOCKS = ("", "-%H:%M", "-%H:%M:%S", "-%I:%M-%p", "-%I:%M:%S-%p")
DAYS = {
    # Two digits of a year before four: '%Y' would take 22 for the year 22.
    DateOrder.DAY: ("%d-%m-%y", "%d-%m-%Y"),
    DateOrder.MONTH: ("%m-%d-%y", "%m-%d-%Y"),
    DateOrder.YEAR: ("%y-%m-%d",),
}
NAMED = re.compile(r"\d{1,2}[-/. ]*[A-Za-z]{3,9}[-/., ]+\d{2,4}(\D|$)|[A-Za-z]{3,9}[. ]+\d{1,2}, *\d{4}(\D|$)")
NAMED_MONTHS = ("%d-%b-%y", "%d-%b-%Y", "%d-%B-%y", "%d-%B-%Y", "%b-%d,-%Y", "%B-%d,-%Y")


@dataclass(frozen=True)
class Dates:
    """How one column's dates are written; the default is plain ISO.

    ``zone``: timestamps with an offset are converted to it; without one their local time is kept as written.
    """

    order: DateOrder = DateOrder.YEAR
    formats: tuple[str, ...] = ()
    is_plain: bool = True
    zone: str | None = None
    is_serial: bool = False

    def sql(self, text: str) -> str:
        """The expression ``text`` as TIMESTAMP; NULL where it is no date."""
        if self.formats:
            return f"coalesce(try_strptime({text}, {_list(self.formats)}), {_iso(text, self.zone)})"
        if self.is_serial:
            seconds = f"to_seconds(round(try_cast({text} AS DOUBLE) * 86400)::BIGINT)"
            serial = f"CASE WHEN regexp_matches({text}, '{SERIAL}') THEN TIMESTAMP '1899-12-30' + {seconds} END"
            return f"coalesce({serial}, {_iso(text, self.zone)})"
        if self.is_plain:
            return f"try_strptime({text}, {_list(ISO)})"
        if self.order is DateOrder.YEAR:
            days: tuple[str, ...] = NAMED_MONTHS
        else:
            days = (*DAYS[self.order], "%Y-%m-%d", *NAMED_MONTHS)
        formats = [day + clock for clock in CLOCKS for day in days]
        plain = f"regexp_replace(regexp_replace({text}, '(\\d)T(\\d)', '\\1-\\2'), '[-/. ]+', '-', 'g')"
        return f"coalesce({_iso(text, self.zone)}, try_strptime({plain}, {_list(formats)}))"


def _list(formats: Iterable[str]) -> str:
    return "[" + ", ".join("'" + one.replace("'", "''") + "'" for one in formats) + "]"


def _iso(text: str, zone: str | None) -> str:
    """ISO 8601 with a time of any precision and an offset, also FHIR's dates without a day or month."""
    has_offset = f"regexp_matches({text}, ':\\d\\d(\\.\\d+)?\\s*(Z|z|[+-]\\d\\d(:?\\d\\d)?)$')"
    local = f"try_cast(regexp_replace({text}, '\\s*(Z|z|[+-]\\d\\d(:?\\d\\d)?)$', '') AS TIMESTAMP)"
    at_offset = f"timezone('{zone}', try_cast({text} AS TIMESTAMPTZ))" if zone else local
    return (
        f"CASE WHEN regexp_matches({text}, '^\\d{{4}}[-/.]\\d{{1,2}}[-/.]\\d{{1,2}}([ T].*)?$') "
        f"THEN CASE WHEN {has_offset} THEN {at_offset} "
        f"ELSE try_cast(regexp_replace({text}, '[/.](\\d{{1,2}})[/.](\\d)', '-\\1-\\2') AS TIMESTAMP) END "
        f"WHEN regexp_matches({text}, '^\\d{{4}}-\\d{{2}}$') THEN try_cast({text} || '-01' AS TIMESTAMP) "
        f"WHEN regexp_matches({text}, '^\\d{{4}}$') THEN try_cast({text} || '-01-01' AS TIMESTAMP) "
        f"WHEN regexp_matches({text}, '^\\d{{8}}$') THEN try_strptime({text}, '%Y%m%d') END"
    )


def dates_of(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    columns: Sequence[str],
    odd: Sequence[str],
    source: Source,
) -> dict[str, Dates]:
    """How the ``columns`` of ``table`` write their dates; of these the ``odd`` ones are looked at whole.

    Raises DeliveryRefusedError (MIXED_DATES, AMBIGUOUS_DATES) when day and month cannot be told apart.
    """
    if source.date_formats:
        return {name: Dates(formats=source.date_formats, is_plain=False, zone=source.time_zone) for name in columns}
    serial = {name for name in odd if _are_serial(cursor, table, name)}
    dates = {name: Dates(is_plain=False, zone=source.time_zone, is_serial=True) for name in serial}
    odd = [name for name in odd if name not in serial]
    evidence = {name: _evidence(cursor, table, name) for name in odd}
    if source.date_order is not None:
        return dates | {name: Dates(source.date_order, is_plain=False, zone=source.time_zone) for name in odd}
    for name, (_, day_first, month_first) in evidence.items():
        if day_first and month_first:
            raise refused(
                FileFault.MIXED_DATES,
                f"Column {name} has {day_first:,} dates with the day first and {month_first:,} with the month first.",
                column=name,
                hint='Say date_order = "day" or "month" in the source\'s file; see docs/sources.md.',
            )
    telling = [(day_first, month_first) for _, day_first, month_first in evidence.values() if day_first or month_first]
    told = {DateOrder.DAY if day_first else DateOrder.MONTH for day_first, month_first in telling}
    for name, (numeric, day_first, month_first) in evidence.items():
        order = DateOrder.YEAR
        if numeric:
            if not (day_first or month_first) and len(told) != 1:
                raise refused(
                    FileFault.AMBIGUOUS_DATES,
                    f"No date of column {name} tells whether day or month comes first.",
                    column=name,
                    hint='Say date_order = "day" or "month" in the source\'s file; see docs/sources.md.',
                )
            # A column that does not tell is written as the others of its table are.
            order = DateOrder.DAY if day_first else DateOrder.MONTH if month_first else next(iter(told))
        dates[name] = Dates(order, is_plain=False, zone=source.time_zone)
    return dates


def is_plain(sample: Sequence[str]) -> bool:
    """Whether these values are plain ISO dates, or so few are not that these are faults rather than a way to write."""
    texts = [text for text in sample if text]
    odd = [text for text in texts if not PLAIN.fullmatch(text)]
    others = sum(bool(re.match(NUMERIC, text) or NAMED.match(text) or re.match(SERIAL, text)) for text in odd)
    return 2 * others < max(len(texts), 1) and not any(ISO_LIKE.match(text) for text in odd)


def _are_serial(cursor: duckdb.DuckDBPyConnection, table: str, column: str) -> bool:
    """Whether most values of ``column`` are a spreadsheet's numbers of days; a few among others are faults."""
    text = identifier(column)
    row = cursor.execute(
        f"SELECT 2 * count(*) FILTER (regexp_matches({text}, '{SERIAL}')) > count({text}) FROM {table}"
    ).fetchone()
    return bool(row and row[0])


def _evidence(cursor: duckdb.DuckDBPyConnection, table: str, column: str) -> tuple[int, int, int]:
    """Dates of ``column`` in numbers without the year first; those with a first number above 12; with a second one.

    When most dates are written otherwise these are single faults, and tell nothing of the column.
    """
    text = identifier(column)
    first = f"try_cast(regexp_extract({text}, '^(\\d{{1,2}})', 1) AS INTEGER)"
    second = f"try_cast(regexp_extract({text}, '^\\d{{1,2}}[-/. ](\\d{{1,2}})', 1) AS INTEGER)"
    row = cursor.execute(
        f"SELECT count(*), count(*) FILTER ({first} > 12 AND {second} <= 12), "
        f"count(*) FILTER ({second} > 12 AND {first} <= 12), (SELECT count({text}) FROM {table}) FROM {table} "
        f"WHERE regexp_matches({text}, '{NUMERIC}') AND {first} BETWEEN 1 AND 31 AND {second} BETWEEN 1 AND 31"
    ).fetchone()
    if row is None or 2 * row[0] < row[3]:
        return 0, 0, 0
    return int(row[0]), int(row[1]), int(row[2])
