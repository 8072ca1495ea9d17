"""Which counts were shown or withheld in released results: what a later release is compared with.

True values are kept, also of what was withheld; the ledger is for its owner alone.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from medisync.disclosure.document import ReleasedCell
from medisync.ledger.engine import metadata

released_cells = sa.Table(
    "released_cells",
    metadata,
    sa.Column("counted", sa.String, primary_key=True),
    sa.Column("cell", sa.String, primary_key=True),
    sa.Column("value", sa.Float, primary_key=True),
    sa.Column("is_shown", sa.Boolean, primary_key=True),
    sa.Column("is_small", sa.Boolean, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("released_at", sa.DateTime, nullable=False),
)


def released_before(ledger: sa.Engine, counted: Sequence[str]) -> list[ReleasedCell]:
    """Every cell of these counts that any release showed or withheld, oldest first."""
    query = (
        sa.select(released_cells)
        .where(released_cells.c.counted.in_(list(counted)))
        .order_by(released_cells.c.released_at, released_cells.c.cell)
    )
    with ledger.begin() as connection:
        return [
            ReleasedCell(
                of=row.counted,
                dimensions=tuple((name, value) for name, value in json.loads(row.cell)),
                value=row.value,
                is_shown=row.is_shown,
                is_small=row.is_small,
            )
            for row in connection.execute(query)
        ]


def number_known(ledger: sa.Engine, counted: Sequence[str]) -> int:
    """How many cells of these counts are remembered; they are only ever added to."""
    query = sa.select(sa.func.count()).select_from(released_cells).where(released_cells.c.counted.in_(list(counted)))
    with ledger.begin() as connection:
        return int(connection.execute(query).scalar_one())


def remember(ledger: sa.Engine, run_id: str, cells: Iterable[ReleasedCell], known: Iterable[ReleasedCell]) -> int:
    """Add what is new; the number of rows added. What is known already stays as it was first."""
    names = {(one.of, one.name, one.value, one.is_shown) for one in known}
    at = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    rows = [
        {
            "counted": one.of,
            "cell": one.name,
            "value": one.value,
            "is_shown": one.is_shown,
            "is_small": one.is_small,
            "run_id": run_id,
            "released_at": at,
        }
        for one in cells
        if (one.of, one.name, one.value, one.is_shown) not in names
    ]
    if rows:
        with ledger.begin() as connection:
            connection.execute(released_cells.insert(), rows)
    return len(rows)
