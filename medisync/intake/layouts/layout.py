"""What a layout is: the files it consists of, by their columns, and how these map to the lake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medisync.intake.feeds import Feed, Reader
from medisync.intake.layouts.dates import Dates
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Role:
    """One kind of file of a layout. Columns are compared without regard to case.

    ``foreign``: columns that show a file with all ``required`` ones to be something else. ``stems``: where a file of
    another kind has the very same columns, the beginnings of names by which those are told. ``dates`` are columns of
    dates. ``names_only``: its rows name what other files refer to, and are no rows of the lake themselves.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    foreign: frozenset[str] = frozenset()
    other_stems: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    resource: str | None = None
    names_only: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.required, *self.optional)


@dataclass(frozen=True)
class Reading:
    """A table that was read: ``table`` has every column of its role, those the file lacks without a value.

    ``present`` are the columns the file has; ``samples`` the first values of each. With a ``reader`` the table is a
    view over a file that staging will read.
    """

    role: Role
    part: str
    table: str
    present: frozenset[str]
    samples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    dates: Mapping[str, Dates] = field(default_factory=dict)
    reader: Reader | None = None

    def sample(self, column: str) -> Sequence[str]:
        return self.samples.get(column, ())


@dataclass(frozen=True)
class Layout:
    """One known layout. ``feeds`` turns the tables read of it into what they say to the lake."""

    name: str
    roles: tuple[Role, ...]
    feeds: Callable[[duckdb.DuckDBPyConnection, Sequence[Reading], Source], list[Feed]]


def named(readings: Sequence[Reading], role: str) -> list[Reading]:
    return [reading for reading in readings if reading.role.name == role]
