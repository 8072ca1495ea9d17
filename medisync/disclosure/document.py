"""The released document: a result as those may see it who may not see patients' data."""

from __future__ import annotations

import datetime as dt
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medisync.analyses.contract import Figure, Finding, Scalar
from medisync.disclosure.markers import Withheld
from medisync.disclosure.policy import Policy

ReleasedValue = Withheld | Scalar


class ReleasedTable(BaseModel):
    """A table whose cells may be markers. Columns nothing may be shown of are left out and named in the note."""

    model_config = ConfigDict(frozen=True)

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[ReleasedValue, ...], ...]


class Note(BaseModel):
    """What disclosure control did, in numbers and in sentences."""

    model_config = ConfigDict(frozen=True)

    sentences: tuple[str, ...]
    counts_shown: int
    counts_small: int = Field(description="counts of some people, but fewer than the threshold")
    counts_held_back: int = Field(description="held back because of what was released before")
    counts_complementary: int = Field(description="withheld only so that others cannot be worked out")
    counts_exposed_before: int = Field(description="small ones that earlier releases give away already")
    money_withheld: int
    undeclared: tuple[str, ...] = Field(description="tables, columns and metrics without a declared meaning")
    figures_left_out: tuple[str, ...]


class ReleasedCell(BaseModel):
    """One count as a release left it; the true ``value`` is for the memory of releases alone."""

    model_config = ConfigDict(frozen=True)

    of: str
    dimensions: tuple[tuple[str, str], ...]
    value: float
    is_shown: bool
    is_small: bool = Field(default=False, description='whether the marker said "fewer than"')

    @property
    def name(self) -> str:
        """The dimensions as one text, the same for the same cell."""
        return json.dumps(self.dimensions, ensure_ascii=False)


class ReleasedDocument(BaseModel):
    """Same shape as a result; ``cells`` is never part of its JSON."""

    model_config = ConfigDict(frozen=True)

    audience: Literal["released"] = "released"
    schema_version: int
    analysis: str
    title: str
    headline: str
    finding: Finding
    data_from: dt.date | None = None
    data_until: dt.date | None = None
    metrics: dict[str, ReleasedValue] = Field(default_factory=dict)
    tables: dict[str, ReleasedTable] = Field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    warnings: tuple[str, ...] = ()
    policy: Policy
    note: Note
    cells: tuple[ReleasedCell, ...] = Field(default=(), exclude=True, repr=False)


def shown_text(value: ReleasedValue) -> str:
    """One value as text for a CSV: numbers in full, a marker in words, nothing for null."""
    if isinstance(value, Withheld):
        return value.text
    return "" if value is None else str(value)
