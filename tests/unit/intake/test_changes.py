"""The change feed of two snapshots, compared with what the files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medisync import intake
from medisync.cli.main import app
from medisync.errors import ParameterError
from medisync.intake import rekeying
from medisync.intake.changes import KeysDifferError, SnapshotExpiredError, changed_rows, changes
from medisync.intake.delivery import DeliveryMode
from medisync.lake import Lake
from medisync.runs import registry, story
from medisync.settings import Settings
from tests.support.admissions_csv import admission, admissions, write_csv

Counts = dict[str, tuple[int, int, int]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, list[intake.DeliveryReport]]]:
    """Four full extracts: forty admissions; one more, two with another bill, one medication changed, three gone; a
    bill changed back; nothing but a medication."""
    folder = tmp_path_factory.mktemp("changes")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    first = admissions(40)
    second = [admission(40), *(admission(number, Billing_Amount="1.5") for number in (0, 1))]
    second += [admission(2, Medication="Lipitor Forte"), *first[3:37]]
    third = [admission(40), *first[:2], second[3], *first[3:37]]
    fourth = [admission(40, Medication="Aspirin Forte"), *third[1:]]
    reports = []
    for rows in (first, second, third, fourth):
        path = write_csv(folder / "extract.csv", rows)
        reports.append(intake.ingest(lake, path, mode=DeliveryMode.SNAPSHOT))
    yield lake, reports
    lake.close()


def snapshots(reports: list[intake.DeliveryReport]) -> list[int]:
    return [report.snapshot or 0 for report in reports]


def counted(lake: Lake, first: int, last: int) -> Counts:
    return {one.table: (one.created, one.updated, one.deleted) for one in changes(lake, first, last).tables}


def test_counts_of_two_neighbours(told: tuple[Lake, list[intake.DeliveryReport]]) -> None:
    lake, reports = told
    one, two, three, _ = snapshots(reports)
    assert counted(lake, one, two) == {
        "patients": (1, 0, 3),
        "admissions": (1, 2, 3),
        "conditions": (1, 0, 3),
        "prescriptions": (2, 0, 4),
    }
    assert counted(lake, two, three) == dict.fromkeys(("patients", "conditions", "prescriptions"), (0, 0, 0)) | {
        "admissions": (0, 2, 0)
    }
    assert changes(lake, one, three).deliveries == (reports[1].delivery_id, reports[2].delivery_id)


def test_what_was_changed_back_in_between_does_not_count(told: tuple[Lake, list[intake.DeliveryReport]]) -> None:
    lake, reports = told
    one, _, three, four = snapshots(reports)
    assert counted(lake, one, three)["admissions"] == (1, 0, 3)
    assert counted(lake, one, four)["prescriptions"] == (2, 0, 4)
    assert counted(lake, one, one) == dict.fromkeys(
        ("patients", "admissions", "conditions", "prescriptions"), (0, 0, 0)
    )
    assert counted(lake, 0, four)["admissions"] == (38, 0, 0)  # before the tables were made there was nothing


def test_rows_are_told_with_their_delivery(told: tuple[Lake, list[intake.DeliveryReport]]) -> None:
    lake, reports = told
    one, two, *_ = snapshots(reports)
    rows = list(changed_rows(lake, one, two, "admissions"))
    bills = sorted(str(row["billing_amount"]) for row in rows if row["change"] == "updated")
    assert bills == ["1.50", "1.50"]
    made_by = {row["change"]: row["delivery_id"] for row in rows}
    assert made_by == {
        "created": reports[1].delivery_id, "updated": reports[1].delivery_id, "deleted": reports[0].delivery_id
    }  # fmt: skip
    medications = {(row["change"], row["medication"]) for row in changed_rows(lake, one, two, "prescriptions")}
    assert ("created", "Lipitor Forte") in medications


def test_the_command_prints_the_same(
    told: tuple[Lake, list[intake.DeliveryReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, reports = told
    monkeypatch.setenv("MEDISYNC_DATA", str(lake.settings.data))
    monkeypatch.setenv("MEDISYNC_REPORTS", str(lake.settings.reports))
    one, two, *_ = (str(number) for number in snapshots(reports))
    done = CliRunner().invoke(app, ["changes", one, two, "--table", "admissions", "--json", "--rows"])
    head, *rows = [json.loads(line) for line in done.output.splitlines()]
    assert head["tables"] == [{"table": "admissions", "created": 1, "updated": 2, "deleted": 3}]
    assert len(rows) == 6


def test_bad_questions_are_refused(told: tuple[Lake, list[intake.DeliveryReport]]) -> None:
    lake, reports = told
    one, two, *_ = snapshots(reports)
    with pytest.raises(ParameterError):
        changes(lake, two, one)
    with pytest.raises(ParameterError):
        changes(lake, one, two, ["runs"])
    with pytest.raises(SnapshotExpiredError, match="no snapshot 9999"):
        changes(lake, one, 9999)


def keys_of(lake: Lake) -> dict[str, str]:
    return {one.analysis: one.run_key for one in story.plan(lake)}


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ({"Medication": "Paracetamol Forte"}, {"prescriptions"}),
        ({"Medical_Condition": "Gout"}, {"conditions"}),
        ({"Billing_Amount": "77.5"}, {"admissions"}),
        (None, {"admissions", "conditions", "patients", "prescriptions"}),
    ],
)
def test_exactly_the_analyses_that_read_a_changed_table_have_no_answer(
    told: tuple[Lake, list[intake.DeliveryReport]], tmp_path: Path, change: dict[str, str] | None, tables: set[str]
) -> None:
    """A run is looked up by its run key: with another one it runs again."""
    lake, _ = told
    source = f"plan-{'-'.join(sorted(tables))}"
    before_rows = admissions(12)
    intake.ingest(lake, write_csv(tmp_path / "a.csv", before_rows), source=source, mode=DeliveryMode.SNAPSHOT)
    before = keys_of(lake)
    rows = before_rows[1:] if change is None else [admission(0, **change), *before_rows[1:]]
    report = intake.ingest(lake, write_csv(tmp_path / "b.csv", rows), source=source, mode=DeliveryMode.SNAPSHOT)
    after = keys_of(lake)
    assert set(report.changed_tables) == tables
    reads = {one.analysis: set(one.reads) for one in registry.chosen(lake.settings, [])}
    assert {name for name in before if before[name] != after[name]} == {
        name for name, read in reads.items() if read & tables
    }
    assert len(before) >= 6


def test_an_expired_snapshot_is_said_to_be_and_others_go_on(told: tuple[Lake, list[intake.DeliveryReport]]) -> None:
    lake, reports = told
    one, two, three, four = snapshots(reports)
    expected = counted(lake, one, four)
    cursor = lake.cursor()
    cursor.execute("CALL ducklake_expire_snapshots('lake', versions => ?)", [[two]])
    cursor.close()
    with pytest.raises(SnapshotExpiredError, match=f"Snapshot {two} has expired"):
        changes(lake, two, three)
    assert counted(lake, one, four) == expected


def test_across_a_rotation_nothing_is_compared(told: tuple[Lake, list[intake.DeliveryReport]]) -> None:
    lake, reports = told
    four = snapshots(reports)[3]
    rotation = rekeying.rotate(lake)
    with pytest.raises(KeysDifferError):
        changes(lake, four, rotation.snapshot)
    assert counted(lake, rotation.snapshot, lake.last_snapshot_id() or 0)["admissions"] == (0, 0, 0)
