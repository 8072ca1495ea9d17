"""A lake with whatever a copy of its catalog could get wrong."""

from __future__ import annotations

from pathlib import Path

from medisync import intake
from medisync.lake import Lake
from medisync.runs.publishing import publish
from tests.support.admissions_csv import admissions, write_csv
from tests.unit.disclosure.test_release import grid
from tests.unit.disclosure.test_releasing import record


def fill(lake: Lake, folder: Path) -> None:
    """Two deliveries, the second deleting rows of the first, two runs whose rows lie in the catalog, odd values."""
    for number, run_id in ((30, "r1"), (24, "r2")):
        intake.ingest(lake, write_csv(folder / f"{run_id}.csv", admissions(number)))
        publish(lake, record(lake, run_id), grid([[40 * number, 3]], margins=False))
    with lake.transaction("odd values") as transaction:
        transaction.execute(
            "INSERT INTO analytics.surges (run_id, unique_id, ds, observed, expected, threshold, p_value, state) "
            "VALUES ('r1', 'Zoë''s \\ \"x\"', DATE '2024-02-29', 0.1, 'nan', 'infinity', NULL, ''), "
            "('r1', '', DATE '0001-01-01', 1e-300, 1.0000000000000002, 5e-324, -0.0, 'surge')"
        )
