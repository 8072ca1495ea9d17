"""The ledger's rows copied from an SQLite file into a schema of Postgres or back, and both compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from medisync.backend.database import Address
from medisync.ledger.engine import metadata
from medisync.upkeep.catalog_copy import DifferenceError

BATCH = 1_000


def copy(file: Path, address: Address, schema: str) -> None:
    """Make the ledger's tables in ``schema`` and fill them, in one transaction; without a file they stay empty."""
    with _both(file, address, schema) as (old, new), new.begin() as target:
        metadata.create_all(target)
        with old.connect() as source:
            _fill(source, target, _held(old))


def copy_out(address: Address, schema: str, file: Path) -> None:
    """The other way: the ledger as it is at one moment, as the new SQLite file ``file``."""
    with _both(file, address, schema, makes=True) as (old, new), old.begin() as target, new.connect() as source:
        source = source.execution_options(isolation_level="REPEATABLE READ")
        metadata.create_all(target)
        _fill(source, target, _held(new))


def _fill(source: sa.Connection, target: sa.Connection, tables: Iterable[sa.Table]) -> None:
    for table in tables:
        for rows in source.execute(sa.select(table)).partitions(BATCH):
            target.execute(table.insert(), [dict(row._mapping) for row in rows])


def compare(file: Path, address: Address, schema: str) -> dict[str, int]:
    """Rows of each table, when both have the same; raises DifferenceError."""
    counted = {}
    with _both(file, address, schema) as (old, new), old.connect() as source, new.connect() as target:
        held = _held(old)
        for table in metadata.sorted_tables:
            here = Counter(map(tuple, source.execute(sa.select(table)))) if table in held else Counter()
            there = Counter(map(tuple, target.execute(sa.select(table))))
            if here != there:
                raise DifferenceError(f"{(here - there).total()} rows of the ledger's {table.name} differ")
            counted[table.name] = here.total()
    return counted


@contextmanager
def _both(file: Path, address: Address, schema: str, *, makes: bool = False) -> Iterator[tuple[sa.Engine, sa.Engine]]:
    old = sa.create_engine(f"sqlite:///{file}" if makes or file.exists() else "sqlite://")
    new = sa.create_engine("postgresql+psycopg://", creator=lambda: address.open(schema=schema))
    try:
        yield old, new
    finally:
        old.dispose()
        new.dispose()


def _held(engine: sa.Engine) -> list[sa.Table]:
    """Our tables that an older ledger has, too."""
    names = set(sa.inspect(engine).get_table_names())
    return [table for table in metadata.sorted_tables if table.name in names]
