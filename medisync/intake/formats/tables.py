"""Tables: what every format turns into. Text under column names, to be read into DuckDB when its layout is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medisync.intake.feeds import Reader
from medisync.intake.parts import Part

if TYPE_CHECKING:
    import duckdb

SAMPLE_ROWS = 200
"""Rows looked at before the whole is read."""


class Read(Protocol):
    """Brings a table's columns into DuckDB."""

    def __call__(self, cursor: duckdb.DuckDBPyConnection, positions: Mapping[str, int], table: str) -> Reader | None:
        """Make ``table`` as :class:`~medisync.intake.feeds.Feed` wants it, with the columns of ``positions`` (name ->
        index among the table's columns). A reader is returned when ``table`` is a view over a file that is read later.
        Raises DeliveryRefusedError."""


@dataclass(frozen=True)
class Table:
    """One table of a part. ``resource`` is its type when the columns are those of a FHIR resource.

    ``sample`` are its first rows as text, at most ``SAMPLE_ROWS``; ``notices`` what its format has to tell.
    """

    part: Part
    format: str
    columns: tuple[str, ...]
    sample: tuple[tuple[str, ...], ...]
    read: Read
    resource: str | None = None
    notices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """A folder of the delivery for what formats write on their way; it goes with the delivery."""

    folder: Path

    def file(self, ending: str) -> Path:
        """A path of its own, in which no delivered name plays a role."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        number = sum(1 for _ in self.folder.iterdir()) + 1
        return self.folder / f"{number:05d}{ending}"
