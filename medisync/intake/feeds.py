"""What a delivery says, table by table: the contract between formats (which make feeds) and staging (which reads them).

A delivery consists of one or more feeds. A wide file such as the healthcare CSV is one feed that carries patients,
admissions, conditions and prescriptions in each row; a set such as Synthea's is one feed for each of its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medisync.intake.reasons import RowFault

if TYPE_CHECKING:
    import duckdb


class Kind(StrEnum):
    """The lake's tables that a row may speak of."""

    PATIENTS = "patients"
    ADMISSIONS = "admissions"
    CONDITIONS = "conditions"
    PRESCRIPTIONS = "prescriptions"


@dataclass(frozen=True)
class Check:
    """A row fault: ``condition`` is SQL over the feed's text columns and ``typed`` values, true for a faulty row."""

    column: str
    fault: RowFault
    condition: str


class Reader(Protocol):
    """Reads a part whose text is too large to be put into a table first: it is read while staging works on it.

    ``odd``: SQL over the feed's table; false proves that no value of the row is too long or holds a NUL. ``is_large``:
    what is made of it had better not lie in memory.
    """

    @property
    def odd(self) -> str: ...

    @property
    def is_large(self) -> bool: ...

    def read(self, cursor: duckdb.DuckDBPyConnection, target: str | Path, select: str) -> None:
        """Make the temporary table or Parquet file ``target`` from ``select``, a query over the feed's table, in the
        file's order; rows that are none go to ``malformed``. Raises DeliveryRefusedError."""

    def number(self, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        """In ``table``, turn the ``row_number`` of the part's rows, counted from 1 without malformed ones, into the
        file's."""

    def rows(self, numbers: str) -> str:
        """The feed's text again, as a query with ``row_number``: the rows whose number ``numbers``, a query, gives."""


@dataclass(frozen=True)
class Feed:
    """One table of text rows, and how it maps to the lake.

    ``table`` is a temporary table or view of the delivery's cursor with ``row_number BIGINT`` (in its part, the first
    row below the header is 1; with a ``reader`` there is none, rows stand in the file's order), ``row_hash UBIGINT``
    over all columns of the part, and ``columns``, each VARCHAR, trimmed, NULL when empty. All else is SQL over it:

    - ``typed``: name (``v_...``, so that it never hides a column) -> expression over ``columns``.
    - ``checks``, ``notices``: over ``columns`` and ``typed``.
    - ``admission``, ``patient``, ``practitioner``: the text that makes two of them the same one; NULL where the row
      does not tell. They are pseudonymised in staging and then gone.
    - ``told_by_patient``: the columns of patients whose values the text of ``patient`` contains, so that all rows of a
      patient agree about them.
    - ``values``: for each kind the feed carries, the lake's column -> expression over ``columns`` and ``typed``.
      Columns it leaves out stay as the lake has them; keys are not listed. Patients may have a ``birth_date``: it never
      reaches the lake; birth year and age at admission follow from it.
    - ``deleted``: true for a row that says its record no longer exists.
    - ``passed_over``: true for a condition or prescription of no admission, as standards allow; it is only counted.
    - ``names``: the columns that hold people's names, for the check of file names.

    Of rows with one key the last wins, by ``row_number``. A feed that carries admissions together with conditions or
    prescriptions says all there is of these for its admissions: what it says replaces what was known. A feed of
    conditions or prescriptions alone adds to what is known; its rows' keys are all their values.
    """

    part: str
    table: str
    columns: tuple[str, ...]
    typed: Mapping[str, str]
    values: Mapping[Kind, Mapping[str, str]]
    checks: tuple[Check, ...] = ()
    notices: Mapping[str, str] = field(default_factory=dict)
    admission: str | None = None
    patient: str | None = None
    told_by_patient: frozenset[str] = frozenset()
    practitioner: str | None = None
    deleted: str | None = None
    passed_over: str | None = None
    names: tuple[str, ...] = ()
    reader: Reader | None = None

    @property
    def carries(self) -> tuple[Kind, ...]:
        return tuple(self.values)
