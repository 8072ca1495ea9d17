"""Parquet files: DuckDB reads them, every value as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from medisync.intake import delimited
from medisync.intake.delimited import without_patterns
from medisync.intake.formats.tables import SAMPLE_ROWS, Table
from medisync.intake.formats.text import MOST_COLUMNS
from medisync.intake.parts import Part
from medisync.intake.reading import identifier, refused
from medisync.intake.reasons import FileFault

if TYPE_CHECKING:
    import duckdb

MAGIC = b"PAR1"
NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION)\(")
READ = "read_parquet(?, hive_partitioning = false)"


def table_of(part: Part, cursor: duckdb.DuckDBPyConnection) -> Table:
    """The table of a Parquet file; raises DeliveryRefusedError."""
    import duckdb

    path = without_patterns(part.path)
    try:
        described = cursor.execute(f"DESCRIBE FROM {READ}", [path]).fetchall()
        if len(described) > MOST_COLUMNS:
            raise refused(
                FileFault.MALFORMED, f"It has {len(described):,} columns; more than {MOST_COLUMNS:,} are no table."
            )
        names = [row[0] for row in described]
        texts = [_text(name, type_name) for name, type_name, *_ in described]
        values = ", ".join(f"coalesce({one}, '')" for one in texts)
        sample = cursor.execute(f"SELECT {values} FROM {READ} LIMIT {SAMPLE_ROWS}", [path]).fetchall()
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, UnicodeDecodeError):
        raise _damaged() from None

    def read(cursor: duckdb.DuckDBPyConnection, positions: Mapping[str, int], table: str) -> None:
        delimited.prepare(cursor)
        for name, index in positions.items():
            if NESTED.search(described[index][1]):
                raise refused(
                    FileFault.MALFORMED,
                    f"Column {name} holds lists or structures instead of one value.",
                    column=name,
                    hint="Write a row for each value, or a column for each field.",
                )
        kept = "".join(f", nullif(trim({texts[index]}), '') AS {identifier(name)}" for name, index in positions.items())
        hashed = ", ".join(identifier(name) for name in names)
        try:
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT row_number() OVER () AS row_number, "
                f"hash({hashed}) AS row_hash{kept} FROM {READ}",
                [path],
            )
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            raise _damaged() from None

    return Table(part, "parquet", tuple(name.strip() for name in names), tuple(sample), read)


def _text(name: str, type_name: str) -> str:
    """A column as canonical text: a whole number without a fraction, also where it was stored as a floating one."""
    column = identifier(name)
    if type_name in ("DOUBLE", "FLOAT"):
        is_whole = f"{column} = trunc({column}) AND abs({column}) < 9007199254740992"
        return f"CASE WHEN {is_whole} THEN {column}::BIGINT::VARCHAR ELSE {column}::VARCHAR END"
    return f"{column}::VARCHAR"


def _damaged() -> Exception:
    return refused(FileFault.DAMAGED, "The Parquet file is damaged or cut short.", hint="Transfer it again.")
