"""Several deliveries of one source into the lake by one merge, each with its own counts.

What is staged are the rows of all of them. No admission is in two of them, and where a patient is, all say the same of
the patient; so it makes no difference whether they are merged one after the other or at once. Which row is whose stands
in ``owners(owned, file, delivery_id)``; of a patient in several deliveries it is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.intake import events
from medisync.intake.events import MINE, has, number_of
from medisync.intake.feeds import Kind
from medisync.intake.merging import KEYS, DeliveryMode, MergeCounts, apply, mark, settle
from medisync.intake.staging import Staged

if TYPE_CHECKING:
    import duckdb

NOWHERE = Path("/nonexistent")
"""Of such deliveries no date of birth is known."""


class NotTogetherError(Exception):
    """The deliveries cannot be loaded together; the first ``at`` of them might be."""

    def __init__(self, at: int) -> None:
        super().__init__(f"Only the first {at} might be loaded together.")
        self.at = at


def merge_together(
    cursor: duckdb.DuckDBPyConnection,
    staged: Staged,
    *,
    source: str,
    delivery_ids: Sequence[str],
    mode: DeliveryMode,
    full_extract_share: float,
) -> list[MergeCounts]:
    """What each of ``delivery_ids`` changed. Raises NotTogetherError, and the caller takes the transaction back, when
    one of them would be a full extract, or moves an admission to another patient."""
    cursor.execute("SET VARIABLE source = ?", [source])
    cursor.execute(
        "CREATE OR REPLACE TEMP MACRO delivery_of(any_key) AS "
        "(SELECT delivery_id FROM temp.owners WHERE owned = any_key)"
    )
    if has(cursor, "lake.clinical.waiting", MINE):
        raise NotTogetherError(0)
    kinds = [kind for kind in KEYS if kind in staged.columns]
    for kind in kinds:
        mark(cursor, kind, staged.columns[kind], NOWHERE)
    _refuse_moved(cursor)
    if mode is DeliveryMode.AUTO:
        _refuse_full_extracts(cursor, len(delivery_ids), full_extract_share)
        mode = DeliveryMode.UPSERT
    for kind in kinds:
        settle(cursor, kind, mode, staged)
        apply(cursor, kind, staged.columns[kind])
    events.merge(cursor, staged, mode.value)
    counts = _counts(cursor)
    changed = _changed_tables(cursor, delivery_ids)
    events.drop(cursor, *(f"{what}_{kind}" for kind in Kind for what in ("old", "marked", "aged")))
    return [
        MergeCounts(
            mode=mode,
            created=counts.get((file, "created"), 0),
            updated=counts.get((file, "updated"), 0),
            deleted=0,
            unchanged=counts.get((file, "unchanged"), 0),
            changed_tables=tuple(sorted(changed.get(delivery_id, ()))),
        )
        for file, delivery_id in enumerate(delivery_ids)
    ]


def _refuse_moved(cursor: duckdb.DuckDBPyConnection) -> None:
    """The patient an admission is taken from may have been left without one, by this or by a later delivery."""
    row = cursor.execute(
        "SELECT min(file) FROM aged_admissions AS new JOIN old_admissions AS old USING (admission_key) "
        "JOIN owners ON owned = admission_key WHERE old.patient_key <> new.patient_key"
    ).fetchone()
    if row is not None and row[0] is not None:
        raise NotTogetherError(int(row[0]))


def _refuse_full_extracts(cursor: duckdb.DuckDBPyConnection, files: int, full_extract_share: float) -> None:
    """Each is held against what is known when its turn comes: what the lake has and those before it bring."""
    counts = _counts(cursor)
    known = number_of(cursor, f"SELECT count(*) FROM lake.clinical.{Kind.ADMISSIONS} WHERE {MINE}")
    for file in range(files):
        seen = counts.get((file, "updated"), 0) + counts.get((file, "unchanged"), 0)
        if known and seen >= full_extract_share * known:
            raise NotTogetherError(file)
        known += counts.get((file, "created"), 0)


def _counts(cursor: duckdb.DuckDBPyConnection) -> dict[tuple[int, str], int]:
    """(file, state) -> admissions."""
    rows = "(SELECT key AS admission_key, state FROM marked_admissions)"
    if not has(cursor, "marked_admissions", "true"):  # nothing is known of the source yet
        rows = "(SELECT admission_key, 'created' AS state FROM staged_admissions)"
    found = cursor.execute(
        f"SELECT file, state, count(*) FROM {rows} JOIN owners ON owned = admission_key GROUP BY ALL"
    ).fetchall()
    return {(file, state): number for file, state, number in found}


def _changed_tables(cursor: duckdb.DuckDBPyConnection, delivery_ids: Sequence[str]) -> dict[str, set[str]]:
    """Delivery -> the tables that hold a row it made so, or an earlier version that it superseded."""
    found: dict[str, set[str]] = {}
    ids = list(delivery_ids)
    for kind in Kind:
        for table, column in ((kind.value, "delivery_id"), (f"superseded_{kind}", "superseded_by")):
            # The bounds let DuckLake leave out the files of other deliveries.
            rows = cursor.execute(
                f"SELECT DISTINCT {column} FROM lake.clinical.{table} WHERE {column} BETWEEN ? AND ? "
                f"AND {column} IN (SELECT unnest(?::VARCHAR[]))",
                [min(ids), max(ids), ids],
            ).fetchall()
            for (delivery_id,) in rows:
                found.setdefault(delivery_id, set()).add(kind.value)
    return found
