"""What programs write into a table that means something else: words for nothing, and numbers of things with a fraction.

SQL's exports write NULL, R's NA, spreadsheets #N/A; pandas writes a column of ids with a gap in it as 12.0, which would
be another id than 12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from medisync.intake.layouts.layout import Layout
from medisync.intake.layouts.omop import OMOP
from medisync.intake.reading import identifier
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

MISSING = ("null", "(null)", "<null>", "\\n", "na", "n/a", "#n/a", "<na>", "nat")
"""Words that are no value in any column, in whatever case."""

WHOLE = re.compile(r"\d+\.0+")
Samples = Mapping[str, Sequence[str]]


def without_missing(samples: Samples, source: Source) -> dict[str, list[str]]:
    """The samples with nothing in the place of words for it."""
    words = _words(source)
    return {name: ["" if text.casefold() in words else text for text in texts] for name, texts in samples.items()}


def over(cursor: duckdb.DuckDBPyConnection, table: str, samples: Samples, source: Source, layout: Layout) -> str:
    """``table``, or a view over it that mends the columns whose ``samples``, as they stand in the file, need it."""
    words = _words(source)
    listed = ", ".join("'" + word.replace("'", "''") + "'" for word in sorted(words))
    mended = {}
    for name, texts in samples.items():
        sql = column = identifier(name)
        if layout is OMOP and name.endswith("_id") and any(WHOLE.fullmatch(text) for text in texts):
            sql = f"regexp_replace({sql}, '^(\\d+)\\.0+$', '\\1')"
        if source.missing or any(text.casefold() in words for text in texts):
            sql = f"CASE WHEN lower({column}) NOT IN ({listed}) THEN {sql} END"
        if sql != column:
            mended[column] = sql
    if not mended:
        return table
    replaced = ", ".join(f"{sql} AS {column}" for column, sql in mended.items())
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table}_mended AS SELECT * REPLACE ({replaced}) FROM {table}")
    return f"{table}_mended"


def _words(source: Source) -> frozenset[str]:
    given: Iterable[str] = source.missing
    return frozenset((*MISSING, *(word.casefold() for word in given)))
