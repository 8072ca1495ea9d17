"""What staging leaves behind for people: the rejected rows' text and the reasons."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake.delimited import text
from medisync.intake.feeds import Feed
from medisync.intake.reading import identifier

if TYPE_CHECKING:
    import duckdb


LEAD = ["row", "column", "reason", "malformed line"]
"""What stands before a rejected row's own columns."""


def write_quarantine(cursor: duckdb.DuckDBPyConnection, feeds: tuple[Feed, ...], path: Path) -> None:
    """The raw rejected rows with their reasons, for the owner alone; the only place that keeps them.

    Of several feeds each has a header of its own, and the part's name stands before each row.
    """
    lead = ["part"] if len(feeds) > 1 else []
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", newline="") as file:
        writer = csv.writer(file)
        for feed in feeds:
            columns = ", ".join(f"source.{identifier(name)}" for name in feed.columns)
            part = text(feed.part)
            wanted = f"SELECT row_number FROM faults WHERE part = {part}"
            rows = cursor.execute(
                f"SELECT {'faults.part, ' if lead else ''}faults.row_number, faults.column_name, faults.reason, "
                f"malformed.line, {columns} FROM faults "
                f"LEFT JOIN ({feed.reader.rows(wanted) if feed.reader else f'FROM {feed.table}'}) AS source "
                f"USING (row_number) LEFT JOIN malformed USING (part, row_number) WHERE faults.part = {part} "
                "ORDER BY faults.row_number, faults.column_name, faults.reason"
            )
            writer.writerow([*lead, *LEAD, *feed.columns])
            while chunk := rows.fetchmany(1000):
                writer.writerows(chunk)
    draft.replace(path)


def keep_faults(transaction: duckdb.DuckDBPyConnection, delivery_id: str) -> None:
    """Row, column and reason of every fault into the lake, without a value; also of a delivery that is refused."""
    if transaction.execute("FROM temp.faults LIMIT 1").fetchone():
        transaction.execute(
            "INSERT INTO lake.clinical.quarantine (delivery_id, part, row_number, column_name, reason) "
            "SELECT ?, part, row_number, column_name, reason FROM temp.faults",
            [delivery_id],
        )
