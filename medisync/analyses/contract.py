"""What every analysis takes and gives back.

An analysis is a module of :mod:`medisync.analyses` with these names, and nothing else is needed of it::

    ANALYSIS = "patient_demographics"           # its name everywhere: CLI, API, notebook, tables
    TITLE = "Patient demographics"
    class Params(AnalysisParams): ...           # validated before a kernel starts
    class Inputs: ...                           # a frozen dataclass of frames
    def load(snapshot, params) -> Inputs        # the only place with SQL
    def compute(inputs, params) -> Result       # pure: no I/O, no clock, no global random state
    def figures(result) -> list[Figure]         # drawn from the result's tables and metrics alone
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medisync.analyses.meaning import Disclosure
from medisync.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

RESULT_SCHEMA_VERSION = 1
"""Raised when a field of :class:`Result` changes its meaning."""

Scalar = str | int | float | bool | None


class SnapshotReader(Protocol):
    """The part of an open snapshot an analysis may use."""

    @property
    def snapshot_id(self) -> int: ...

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame: ...


class AnalysisParams(BaseModel):
    """Base of all parameter models: frozen, unknown names refused, every field described."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def checked(cls, values: dict[str, Any]) -> Self:
        """Validate ``values``; raises :class:`~medisync.errors.ParameterError` naming each wrong parameter."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(str(part) for part in one['loc']) or cls.__name__}: {one['msg']}"
                for one in error.errors(include_url=False, include_input=False)
            )
            known = ", ".join(cls.model_fields)
            raise ParameterError(f"Wrong parameters: {wrong}.", hint=f"Known parameters: {known}.") from None


class Finding(StrEnum):
    """What a result amounts to; pages show it beside the headline, in words and not by colour alone."""

    SIGNAL = "signal"  # there is something to see, and it survived the tests
    NOTHING = "nothing"  # looked properly, found nothing
    DESCRIPTION = "description"  # a description of the data, no claim was tested
    TOO_LITTLE = "too-little-data"  # not enough data to say either


class Table(BaseModel):
    """A small frame that travels as JSON. ``columns`` and every row of ``rows`` have the same length."""

    model_config = ConfigDict(frozen=True)

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    @classmethod
    def from_frame(cls, title: str, frame: pd.DataFrame) -> Self:
        """A table of ``frame``'s columns in order, without its index; dates become ISO text, NaN becomes null."""
        columns = [[_scalar(value) for value in frame[name].tolist()] for name in frame.columns]
        rows = tuple(zip(*columns, strict=True)) if columns else ()
        return cls(title=title, columns=tuple(str(name) for name in frame.columns), rows=rows)

    def to_frame(self) -> pd.DataFrame:
        """The table as a frame; dates stay ISO text."""
        import pandas as pd

        return pd.DataFrame([list(row) for row in self.rows], columns=list(self.columns))


class Figure(BaseModel):
    """One drawing: self-contained SVG, and what it shows in words for those who do not see it."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    alt: str
    svg: str
    table: str | None = Field(default=None, description="name of the table in the result that holds its data")


class Result(BaseModel):
    """What an analysis found. Everything a page, report or program shows comes from here."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = RESULT_SCHEMA_VERSION
    analysis: str
    title: str
    headline: str = Field(description="one honest sentence for a person who reads nothing else")
    finding: Finding
    data_from: dt.date | None = Field(default=None, description="first day the data cover")
    data_until: dt.date | None = Field(default=None, description="last day the data cover")
    metrics: dict[str, Scalar] = Field(default_factory=dict)
    tables: dict[str, Table] = Field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    warnings: tuple[str, ...] = ()
    lake_rows: dict[Literal["forecasts", "surges"], Table] = Field(
        default_factory=dict,
        description="rows that are also kept typed, in analytics.forecasts and analytics.surges: the columns of those "
        "tables without run_id",
    )
    disclosure: Disclosure = Field(
        default_factory=Disclosure,
        description="what the numbers are; what is not declared is not released (docs/disclosure.md)",
    )

    def frame(self, name: str) -> pd.DataFrame:
        """Table ``name`` as a frame."""
        return self.tables[name].to_frame()

    def with_figures(self, figures: Sequence[Figure]) -> Self:
        """A copy that carries ``figures``."""
        return self.model_copy(update={"figures": tuple(figures)})


def _scalar(value: Any) -> Scalar:
    """A JSON scalar for one cell of a frame."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (dt.datetime, dt.date)):  # NaT is a datetime, too
        if value != value:
            return None
        is_midnight = isinstance(value, dt.datetime) and value.time() == dt.time() and value.tzinfo is None
        return value.date().isoformat() if is_midnight else value.isoformat()  # type: ignore[attr-defined]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    if value != value:  # pandas' NA and friends
        return None
    return str(value)
