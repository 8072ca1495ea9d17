"""The parts every result has."""

from __future__ import annotations

import datetime as dt
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from medisync.analyses.contract import Finding


class Part(BaseModel):
    """A part whose names are all documented."""

    model_config = ConfigDict(extra="forbid")


Count = int | None
Number = float | None
Text = str | None
Flag = bool | None

RowT = TypeVar("RowT")
MetricsT = TypeVar("MetricsT")
TablesT = TypeVar("TablesT")


class TableOf(Part, Generic[RowT]):
    """A table: ``columns`` in their order, and each row as an object of them."""

    title: str
    columns: list[str]
    rows: list[RowT]


class ScoreboardRow(Part):
    """Forecasts published earlier against what came."""

    step: Count
    forecasts: Count
    mean_absolute_error: Number
    weighted_interval_score: Number
    inside_95_percent: Number
    inside_80_percent: Number
    inside_50_percent: Number
    skill_against_mean_percent: Number


class FigureInfo(Part):
    """A drawing. ``svg`` comes only when asked for with ``figures=true``."""

    name: str
    title: str
    alt: str = Field(description="what the drawing shows, in words")
    table: str | None = Field(default=None, description="the table that holds its data")
    svg: str | None = None


class ResultOf(Part, Generic[MetricsT, TablesT]):
    """A result. When the data are too few, metrics and tables are left out, never invented."""

    schema_version: int = Field(description="version of the contract all results share")
    analysis: str
    title: str
    headline: str = Field(description="one honest sentence for a person who reads nothing else")
    finding: Finding
    data_from: dt.date | None = Field(default=None, description="first day the data cover")
    data_until: dt.date | None = Field(default=None, description="last day the data cover")
    metrics: MetricsT
    tables: TablesT
    figures: list[FigureInfo] = []
    warnings: list[str] = []


class Withheld(BaseModel):
    """What stands in a released result where a number does not; never a zero."""

    withheld: str = Field(description="why: small, protected, dominated or undeclared")
    below: int | None = None
    text: str = Field(description="what a person reads in its place")


class ReleasedTable(BaseModel):
    """A table whose cells may be markers; columns nothing may be shown of are left out."""

    title: str
    columns: list[str]
    rows: list[dict[str, Withheld | str | int | float | bool | None]]


class ReleasedResult(BaseModel):
    """A result after disclosure control, as docs/disclosure.md describes it: the same names as the full one, where a
    number that must not be shown is a marker, never a zero."""

    model_config = ConfigDict(extra="allow")

    audience: Literal["released"]
    schema_version: int
    analysis: str
    title: str
    headline: str
    finding: Finding
    data_from: dt.date | None = None
    data_until: dt.date | None = None
    metrics: dict[str, Withheld | str | int | float | bool | None]
    tables: dict[str, ReleasedTable]
    figures: list[FigureInfo] = []
    warnings: list[str] = []


Value = str | bool | int | float | None
"""What a cell or metric of an analysis of your own may hold."""


class AnyResult(ResultOf[dict[str, Value], dict[str, TableOf[dict[str, Value]]]]):
    """The result of an analysis of your own: the same parts, without promises about their names."""
