"""Formats: delimited text, workbooks, Parquet and FHIR's JSON, each told by its content and turned into tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync.errors import DeliveryRefusedError
from medisync.intake.formats import fhir, foreign, parquet, text, workbook, zstandard
from medisync.intake.formats.tables import Room, Table
from medisync.intake.parts import ZIP_MAGIC, Part
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

__all__ = ["Room", "Table", "tables_of"]


def tables_of(
    parts: Sequence[Part], source: Source, cursor: duckdb.DuckDBPyConnection, room: Room
) -> tuple[list[Table], list[tuple[Part, DeliveryRefusedError]]]:
    """The tables the files hold, whatever their names, and the files that are of no format we read, with the reason."""
    tables: list[Table] = []
    unread: list[tuple[Part, DeliveryRefusedError]] = []
    documents: list[Part] = []
    for part in parts:
        try:
            start, compression = text.start_of(part)
            if start.startswith(zstandard.MAGIC):
                part = zstandard.unpacked(part, cursor, room)
                start, compression = text.start_of(part)
            if fhir.is_document(start):
                documents.append(part)
            else:
                tables += _tables_of(part, start, compression, source, cursor, room)
        except DeliveryRefusedError as error:
            unread.append((part, error))
    if documents:  # a folder may hold thousands of bundles, so they are read as one
        together = fhir.together(documents, room)
        try:
            tables += fhir.tables_of(together, "none", cursor, room)
        except DeliveryRefusedError as error:
            unread.append((documents[0] if len(documents) == 1 else together, error))
    return tables, unread


def _tables_of(
    part: Part, start: bytes, compression: str, source: Source, cursor: duckdb.DuckDBPyConnection, room: Room
) -> list[Table]:
    if compression == "none" and start.startswith(parquet.MAGIC):
        return [parquet.table_of(part, cursor)]
    if compression == "none" and start.startswith((ZIP_MAGIC, workbook.OLE_MAGIC)):
        return workbook.tables_of(part, source, room)
    if fhir.is_json(start):
        return fhir.tables_of(part, compression, cursor, room)
    foreign.refuse(start)
    return [text.table_of(part, start, compression, source, room)]
