"""What a delivery holds: from its parts over their tables to feeds. Nothing here touches the lake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from medisync.errors import DeliveryRefusedError
from medisync.intake import layouts, references
from medisync.intake.feeds import Feed
from medisync.intake.formats import Room, Table, tables_of
from medisync.intake.layouts import Layout, Reading
from medisync.intake.parts import Part
from medisync.intake.reasons import FileFault
from medisync.intake.sources import Source
from medisync.settings import Settings

if TYPE_CHECKING:
    import duckdb

DATA_ENDINGS = (".csv", ".tsv", ".json", ".ndjson", ".jsonl", ".parquet", ".xlsx", ".xls", ".ods", ".gz", ".zst")
PASSING_FAULTS = frozenset({FileFault.UNKNOWN_LAYOUT, FileFault.EMPTY_FILE, FileFault.MALFORMED, FileFault.NOT_UTF8})
"""What may be said of a read-me or a picture: in a set such a file is passed over, unless it is called like data."""


@dataclass(frozen=True)
class Contents:
    """``feeds`` are what it says to the lake; none when it only names what other deliveries refer to."""

    layout: Layout
    tables: tuple[Table, ...]
    readings: tuple[Reading, ...]
    feeds: tuple[Feed, ...]
    left_out: dict[str, int] = field(default_factory=dict)

    def notices(self) -> dict[str, int]:
        """What is worth telling about the files themselves; complete after the feeds were read."""
        found = dict(self.left_out)
        for table in self.tables:
            for name, number in table.notices.items():
                found[name] = found.get(name, 0) + number
        return found


def contents_of(
    cursor: duckdb.DuckDBPyConnection, parts: Sequence[Part], source: Source, room: Room, settings: Settings
) -> Contents:
    """Open, recognise and read ``parts``; raises DeliveryRefusedError, which names the part it is about."""
    tables, unread = tables_of(parts, source, cursor, room)
    for part, error in unread:
        if not _is_passed_over(part, error, len(parts)):
            raise about(part.label, error)
    if not tables:
        raise unread[0][1]
    recognised = layouts.recognise(tables, source, skipped_files=len(unread))
    readings = layouts.read(cursor, recognised, source)
    readings += references.kept(cursor, settings, source.name, recognised.layout, readings)
    feeds = layouts.feeds_of(cursor, recognised.layout, readings, source)
    used = tuple(match.table for match in recognised.matches)
    return Contents(recognised.layout, used, tuple(readings), feeds, dict(recognised.notices))


def about(label: str, error: DeliveryRefusedError) -> DeliveryRefusedError:
    """``error`` with the part it is about before its message."""
    if not label or error.message.startswith(label):
        return error
    return DeliveryRefusedError(f"{label}: {error.message}", reason=error.reason, column=error.column, hint=error.hint)


def _is_passed_over(part: Part, error: DeliveryRefusedError, number_of_parts: int) -> bool:
    if number_of_parts == 1 or error.reason not in PASSING_FAULTS:
        return False
    is_data = PurePosixPath(part.name).suffix.casefold() in DATA_ENDINGS
    return not is_data or error.reason == FileFault.UNKNOWN_LAYOUT
