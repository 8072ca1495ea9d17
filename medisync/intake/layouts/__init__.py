"""Layouts: what the tables of a delivery are, told by their columns, and how they map to the lake.

A layout is a set of roles, one for each kind of file. Recognising gives every table its role; reading brings the
columns that role uses into DuckDB; the layout then makes feeds of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from medisync.intake.feeds import Feed, Kind
from medisync.intake.formats import Table
from medisync.intake.layouts import mending, values
from medisync.intake.layouts.dates import dates_of, is_plain
from medisync.intake.layouts.fhir import FHIR_R4
from medisync.intake.layouts.healthcare import HEALTHCARE_CSV
from medisync.intake.layouts.layout import Layout, Reading, Role
from medisync.intake.layouts.mapped import NAME as MAPPED
from medisync.intake.layouts.mapped import layout_of
from medisync.intake.layouts.omop import OMOP
from medisync.intake.layouts.synthea import SYNTHEA_CSV
from medisync.intake.reading import identifier, refused
from medisync.intake.reasons import FileFault, Notice
from medisync.intake.sources import Source, SourceError

if TYPE_CHECKING:
    import duckdb

__all__ = ["LAYOUTS", "Layout", "Reading", "Recognised", "Role", "feeds_of", "read", "recognise"]

LAYOUTS: tuple[Layout, ...] = (HEALTHCARE_CSV, SYNTHEA_CSV, FHIR_R4, OMOP)
RECOGNISED_SHARE = 0.5
"""A file with at least this share of a layout's columns is meant to be of that layout."""

NAMED_SHARE = 0.75
"""Files of a set share columns with each other: of these one is only meant when it is also called so."""


@dataclass(frozen=True)
class Match:
    """A table and the role it plays; ``positions`` are the role's columns in it."""

    table: Table
    role: Role
    positions: Mapping[str, int]


@dataclass(frozen=True)
class Recognised:
    """What a delivery is. ``notices`` count what is left out of it."""

    layout: Layout
    matches: tuple[Match, ...]
    notices: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_names_only(self) -> bool:
        """Whether it only names what other deliveries refer to."""
        return all(match.role.names_only for match in self.matches)


def recognise(tables: Sequence[Table], source: Source, *, skipped_files: int = 0) -> Recognised:
    """The layout of ``tables``. Raises DeliveryRefusedError when there is none, or more than one.

    Columns that belong to no layout are never named: in a file without a header they would be a patient's values.
    """
    layouts = _candidates(source)
    found: list[tuple[Layout, Match]] = []
    unknown: list[Table] = []
    for table in tables:
        best = _match(table, layouts)
        if best is None:
            unknown.append(table)
        else:
            found.append(best)
    if not found:
        raise _unknown(tables[0] if tables else None, layouts)
    names = sorted({layout.name for layout, _ in found})
    if len(names) > 1:
        raise refused(
            FileFault.MIXED_LAYOUTS,
            f"Its files are of different layouts: {', '.join(names)}.",
            hint="Deliver each layout by itself.",
        )
    layout, matches = found[0][0], _first_sheets([match for _, match in found])
    notices: dict[str, int] = {}
    parts = {match.table.part.path for match in matches}
    if skipped := skipped_files + len({table.part.path for table in unknown} - parts):
        notices[Notice.SKIPPED_FILES.value] = skipped
    extra = sum(len(match.table.columns) - len(match.positions) for match in matches)
    if extra and (layout is HEALTHCARE_CSV or layout.name == MAPPED):  # of the others every file has more columns
        notices[Notice.EXTRA_COLUMNS.value] = extra
    return Recognised(layout, matches, notices)


def read(cursor: duckdb.DuckDBPyConnection, recognised: Recognised, source: Source) -> list[Reading]:
    """Read the tables into temporary ones of ``cursor``; raises DeliveryRefusedError.

    A wide file of plain dates is only made ready: staging reads it. Whatever has to be joined or looked at whole is
    read here.
    """
    return [
        _read_one(cursor, recognised, match, f"read_{number}", source)
        for number, match in enumerate(recognised.matches)
    ]


def _read_one(
    cursor: duckdb.DuckDBPyConnection, recognised: Recognised, match: Match, name: str, source: Source
) -> Reading:
    role, part = match.role, match.table.part.label
    reader = match.table.read(cursor, match.positions, name)
    written = {column: [row[index] for row in match.table.sample] for column, index in match.positions.items()}
    samples = mending.without_missing(written, source)
    dated = [column for column in role.dates if column in match.positions]
    odd = [column for column in dated if role.resource or not is_plain(samples[column])]
    is_set = len(recognised.layout.roles) > 1 and recognised.layout.name != MAPPED
    if reader is not None and (is_set or odd):
        rows = f"{name}_rows"
        select = f"SELECT row_number() OVER () AS row_number, {values.literal(part)} AS part, * FROM {name}"
        reader.read(cursor, rows, select)
        reader.number(cursor, rows)
        cursor.execute(f"ALTER TABLE temp.{rows} DROP COLUMN part")
        name, reader = rows, None
    for column in role.columns:
        if column not in match.positions:
            cursor.execute(f"ALTER TABLE temp.{name} ADD COLUMN {identifier(column)} VARCHAR")
    name = mending.over(cursor, name, written, source, recognised.layout)
    dates = dates_of(cursor, name, dated, odd, source)
    return Reading(role, part, name, frozenset(match.positions), samples, dates, reader)


def feeds_of(
    cursor: duckdb.DuckDBPyConnection, layout: Layout, readings: Sequence[Reading], source: Source
) -> tuple[Feed, ...]:
    """What the tables of ``readings`` say to the lake, with the source's code lists and site."""
    return tuple(_as_source_says(feed, source) for feed in layout.feeds(cursor, readings, source))


def _candidates(source: Source) -> tuple[Layout, ...]:
    if source.mapped:
        return (layout_of(source),)
    if source.layout is None:
        return LAYOUTS
    named = tuple(layout for layout in LAYOUTS if layout.name == source.layout)
    if not named:
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise SourceError(
            f"Source file {source.name}.toml, key layout: there is no layout {source.layout}.", hint=f"Known: {known}."
        )
    return named


def _match(table: Table, layouts: Sequence[Layout]) -> tuple[Layout, Match] | None:
    """The role that fits best; None when none does. Raises DeliveryRefusedError when one nearly does."""
    positions = _positions(table.columns)
    best: tuple[tuple[float, int], Layout, Role] | None = None
    for layout in layouts:
        for role in layout.roles:
            if role.resource != table.resource or _is_other(role, table, positions):
                continue
            there = sum(_folded(column) in positions for column in role.required)
            share = there / len(role.required)
            if share < _enough(layout, role, table):
                continue
            score = (share, there)
            if best is None or score > best[0]:
                best = (score, layout, role)
    if best is None:
        return None
    _, layout, role = best
    missing = [column for column in role.required if _folded(column) not in positions]
    if missing:
        raise refused(
            FileFault.MISSING_COLUMN,
            f"{_called(table)} looks like {_role_name(layout, role)}, but lacks the column {', '.join(missing)}.",
            column=missing[0],
            hint="docs/intake.md lists the columns.",
        )
    exact, folded = [name.casefold() for name in table.columns], [_folded(name) for name in table.columns]
    for column in role.columns:
        if (exact if column.casefold() in exact else folded).count(
            column.casefold() if column.casefold() in exact else _folded(column)
        ) > 1:
            raise refused(FileFault.DUPLICATE_COLUMN, f"{_called(table)} has the column {column} twice.", column=column)
    places = {name: index for index, name in reversed(list(enumerate(exact)))}
    used = {
        column: places.get(column.casefold(), positions[_folded(column)])
        for column in role.columns
        if _folded(column) in positions
    }
    return layout, Match(table, role, used)


def _folded(name: str) -> str:
    """A column's name without regard to case, and to whether its words are apart by spaces, hyphens or underscores."""
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def _positions(columns: Sequence[str]) -> dict[str, int]:
    """Folded name -> where it stands first."""
    return {_folded(name): index for index, name in reversed(list(enumerate(columns)))}


def _enough(layout: Layout, role: Role, table: Table) -> float:
    """The share of a role's columns a table must have to be taken for it, if only to be refused for the others."""
    if len(layout.roles) == 1 or layout.name == MAPPED:
        return RECOGNISED_SHARE
    return NAMED_SHARE if _stem(table).startswith(role.name) else 1.0


def _stem(table: Table) -> str:
    return PurePosixPath(table.part.name).name.casefold()


def _is_other(role: Role, table: Table, positions: Mapping[str, int]) -> bool:
    """Whether a table with a role's columns shows by others, or by its name, to be something else."""
    is_foreign = any(_folded(column) in positions for column in role.foreign)
    return is_foreign or any(_stem(table).startswith(stem) for stem in role.other_stems)


def _called(table: Table) -> str:
    return table.part.label or "It"


def _role_name(layout: Layout, role: Role) -> str:
    return layout.name if len(layout.roles) == 1 else f"{role.name} of {layout.name}"


def _unknown(table: Table | None, layouts: Sequence[Layout]) -> Exception:
    hint = "medisync source draft FILE writes a first mapping of it; docs/intake.md describes the known layouts."
    if table is None:
        return refused(FileFault.UNKNOWN_LAYOUT, "It holds no table.", hint=hint)
    if len(table.columns) == 1:
        return refused(
            FileFault.UNKNOWN_LAYOUT,
            "Its first line is a single column.",
            hint="Is it a table with a line of names, apart by comma, semicolon, tab or bar? docs/intake.md has more.",
        )
    there = {_folded(name) for name in table.columns}
    roles = [(layout, role) for layout in layouts for role in layout.roles if role.resource is None]
    lacking = {
        (layout.name, role.name): [column for column in role.required if _folded(column) not in there]
        for layout, role in roles
    }
    layout, role = max(
        roles, key=lambda one: 1 - len(lacking[one[0].name, one[1].name]) / len(one[1].required), default=(None, None)
    )
    if layout is None or role is None:
        return refused(FileFault.UNKNOWN_LAYOUT, "It is of no known layout.", hint=hint)
    return refused(
        FileFault.UNKNOWN_LAYOUT,
        f"Its {len(table.columns)} columns are of no known layout; of {_role_name(layout, role)} it lacks "
        f"{', '.join(lacking[layout.name, role.name])}.",
        hint=hint,
    )


def _first_sheets(matches: Sequence[Match]) -> tuple[Match, ...]:
    """Of a workbook's sheets with one role the first: the others are earlier versions more often than more rows."""
    seen: set[tuple[object, str]] = set()
    kept = []
    for match in matches:
        mark = (match.table.part.name, match.role.name)
        if match.table.format != "workbook" or mark not in seen:
            kept.append(match)
        seen.add(mark)
    return tuple(kept)


def _as_source_says(feed: Feed, source: Source) -> Feed:
    """``feed`` with the source's code lists, and with its site where the file names none."""
    changed: dict[Kind, dict[str, str]] = {}
    for kind, columns in feed.values.items():
        changed[kind] = {
            name: values.coded(f"({sql})", source.codes.get(name, {})) if name != "gender" else sql
            for name, sql in columns.items()
        }
        if kind is Kind.ADMISSIONS and source.site:
            changed[kind]["site"] = f"coalesce({changed[kind].get('site', 'NULL')}, {values.literal(source.site)})"
    return replace(feed, values=changed)
