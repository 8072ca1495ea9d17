"""What the numbers of a result are: without it disclosure control cannot tell a count of patients from a p-value.

An analysis declares its tables' columns and its metrics once (``Result.disclosure``). Whatever is not declared is
withheld in the released document: forgetting a declaration hides a number, it never shows one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Meaning(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Label(_Meaning):
    """A name, date, parameter, rank of a public kind or verdict: nothing that counts people. Always shown."""

    kind: Literal["label"] = "label"


class Count(_Meaning):
    """A number of patients or admissions (or an estimate of one).

    ``of`` names what is counted, the same in every analysis that counts the same; ``by`` maps each dimension to the
    column of the row that holds its value; ``where`` gives dimensions the same value in all rows. Texts may hold
    ``{metric}``, ``{column}`` (of the same row), ``{data_from}`` and ``{data_until}``. A value among ``everything``
    stands for all values: that dimension is left out. Two cells with the same ``of`` and dimensions are the same
    number, wherever they stand; one with fewer dimensions is taken for a total of those that have more.
    """

    kind: Literal["count"] = "count"
    of: str
    by: dict[str, str] = Field(default_factory=dict)
    where: dict[str, str] = Field(default_factory=dict)
    everything: tuple[str, ...] = ()


class Share(_Meaning):
    """A share or percentage from which, with its total, a count follows: shown when the count may be.

    In a table ``of`` names the column with the count; for a metric ``count`` says which count it is. ``total`` lists
    the dimensions the denominator keeps: none for a share of everything.
    """

    kind: Literal["share"] = "share"
    of: str | None = None
    count: Count | None = None
    total: tuple[str, ...] = ()


class Money(_Meaning):
    """A sum of money. ``count`` names the column with the number of contributions, ``largest`` and ``second`` those
    with the two largest ones; these two are never shown."""

    kind: Literal["money"] = "money"
    of: str
    by: dict[str, str] = Field(default_factory=dict)
    where: dict[str, str] = Field(default_factory=dict)
    count: str
    largest: str
    second: str


class Derived(_Meaning):
    """Computed from counts: shown, to ``digits`` significant digits, when nothing it comes from is withheld.

    ``sources`` are columns (or, for a metric, metrics) from which it could be worked out or which could be worked out
    from it; ``whole`` are tables and metrics of which no count may be withheld. With neither it sums up everybody.
    """

    kind: Literal["derived"] = "derived"
    sources: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    digits: int | None = 3


Meaning = Annotated[Label | Count | Share | Money | Derived, Field(discriminator="kind")]


class TableMeaning(_Meaning):
    """The meanings of a table's columns; ``others`` is that of columns whose names depend on the data."""

    columns: dict[str, Meaning] = Field(default_factory=dict)
    others: Meaning | None = None
    ordered_by: Literal["labels", "values"] = Field(
        default="values",
        description="rows sorted by values say something about the withheld ones: these go last, by name",
    )


class Disclosure(_Meaning):
    """What a whole result declares. The default declares nothing, so that nothing is released."""

    tables: dict[str, TableMeaning] = Field(default_factory=dict)
    metrics: dict[str, Meaning] = Field(default_factory=dict)
    population: str | None = Field(default=None, description="the metric or table that counts those summed up")
    headline_uses: tuple[str, ...] | None = Field(
        default=None,
        description="metrics, tables and columns (table.column) whose numbers the headline holds; None: unknown",
    )
    figures_use: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="per figure what it is drawn from, named the same way; others are left out"
    )


LABEL = Label()
SUMMARY = Derived()
"""A statistic of everybody: a test's p-value, say."""
