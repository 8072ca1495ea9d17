"""Deliveries: what a file makes of the lake, counted independently from the files themselves."""

from __future__ import annotations

import collections
import datetime as dt
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from medisync import intake
from medisync.intake import DeliveryReport, DeliveryStatus
from medisync.intake.merging import DeliveryMode
from medisync.lake import Lake
from medisync.settings import Settings
from tests.support.admissions_csv import admission, admissions, read_rows, write_csv

Row = dict[str, str]
ALL_TABLES = ("admissions", "conditions", "patients", "prescriptions")


def key_of(row: Row) -> tuple[str, str, str]:
    return row["Name"].lower(), row["Date of Admission"], row["Hospital"].lower()


def last_by_key(rows: list[Row]) -> dict[tuple[str, str, str], Row]:
    """What the file says of each admission: the later row wins."""
    return {key_of(row): row for row in rows}


def expected_counts(before: list[Row], after: list[Row]) -> dict[str, int]:
    """Created, updated, deleted and unchanged admissions of a full extract, computed from the two files alone."""
    old, new = last_by_key(before), last_by_key(after)

    def values(row: Row) -> list[str]:
        return [value for name, value in row.items() if name not in ("Name", "Hospital")]

    both = old.keys() & new.keys()
    updated = sum(values(old[key]) != values(new[key]) for key in both)
    return {
        "created": len(new.keys() - old.keys()),
        "updated": updated,
        "deleted": len(old.keys() - new.keys()),
        "unchanged": len(both) - updated,
    }


def counts_of(report: DeliveryReport) -> dict[str, int]:
    return {name: getattr(report, name) for name in ("created", "updated", "deleted", "unchanged")}


def number(lake: Lake, table: str, condition: str = "true", source: str = "default") -> int:
    rows = lake.query(f"SELECT count(*) AS n FROM clinical.{table} WHERE source = ? AND ({condition})", [source])
    return int(rows[0]["n"])


@dataclass(frozen=True)
class Desk:
    """One source of a lake that tests share: a test sees only its own source."""

    lake: Lake
    source: str

    def ingest(self, file: Path, *, mode: DeliveryMode = DeliveryMode.AUTO) -> DeliveryReport:
        return intake.ingest(self.lake, file, source=self.source, mode=mode)

    def number(self, table: str, condition: str = "true") -> int:
        return number(self.lake, table, condition, self.source)

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.lake.query(f"FROM clinical.{table} WHERE source = ?", [self.source])


@pytest.fixture(scope="module")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("shared")
    opened = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    yield opened
    opened.close()


@pytest.fixture
def desk(shared_lake: Lake) -> Desk:
    return Desk(shared_lake, f"source-{secrets.token_hex(4)}")


def versions(lake: Lake) -> dict[str, int]:
    return {row["table_name"]: row["version"] for row in lake.query("FROM clinical.table_versions")}


class TestSample:
    def test_counts(self, sample_delivery: tuple[Lake, DeliveryReport], sample: Path) -> None:
        _, report = sample_delivery
        rows = read_rows(sample)
        distinct_rows = {tuple(row.values()) for row in rows}
        assert (len(rows), len(last_by_key(rows))) == (55_500, 50_000)
        assert (len(rows) - len(distinct_rows), len(distinct_rows) - 50_000) == (534, 4_966)
        assert (report.status, report.rows_read, report.created) == (DeliveryStatus.LOADED, 55_500, 50_000)
        assert (report.duplicates_exact, report.duplicates_conflicting) == (534, 4_966)
        assert (report.updated, report.deleted, report.unchanged, report.quarantined) == (0, 0, 0, 0)
        assert report.notices == {"NEGATIVE_BILLING": 108}
        assert report.changed_tables == ALL_TABLES
        assert (report.admitted_from, report.admitted_until) == (dt.date(2019, 5, 8), dt.date(2024, 5, 7))

    def test_the_lake_reconciles_with_the_file(
        self, sample_delivery: tuple[Lake, DeliveryReport], sample: Path
    ) -> None:
        lake, _ = sample_delivery
        kept = list(last_by_key(read_rows(sample)).values())

        assert number(lake, "admissions") == number(lake, "conditions") == number(lake, "prescriptions") == 50_000
        people = {(row["Name"].lower(), row["Gender"], row["Blood Type"]) for row in kept}
        assert number(lake, "patients") == len(people)
        practitioners = lake.query("SELECT count(DISTINCT practitioner_key) AS n FROM clinical.admissions")[0]["n"]
        assert practitioners == len({row["Doctor"].lower() for row in kept})

        in_file = collections.Counter(
            (row["Date of Admission"][:7], row["Medical Condition"], row["Medication"], row["Gender"].lower())
            for row in kept
        )
        in_lake = lake.query(
            "SELECT strftime(admitted_at, '%Y-%m') AS month, condition, medication, gender, count(*) AS n "
            "FROM clinical.admissions JOIN clinical.conditions USING (source, admission_key) "
            "JOIN clinical.prescriptions USING (source, admission_key) "
            "JOIN clinical.patients ON patients.patient_key = admissions.patient_key GROUP BY ALL"
        )
        assert {tuple(list(row.values())[:4]): row["n"] for row in in_lake} == in_file

        bills: dict[str, Decimal] = collections.defaultdict(Decimal)
        days: dict[str, int] = collections.defaultdict(int)
        for row in kept:
            bills[row["Insurance Provider"]] += Decimal(row["Billing Amount"]).quantize(Decimal("0.01"), ROUND_HALF_UP)
            admitted, left = (dt.date.fromisoformat(row[name]) for name in ("Date of Admission", "Discharge Date"))
            days[row["Insurance Provider"]] += (left - admitted).days
        sums = lake.query(
            "SELECT insurer, sum(billing_amount) AS bills, sum(age_years) AS ages, "
            "sum(date_diff('day', admitted_at, discharged_at)) AS days FROM clinical.admissions GROUP BY insurer"
        )
        assert {row["insurer"]: row["days"] for row in sums} == days
        # A bill ending in exactly half a cent, of which the file has none, could be rounded either way.
        assert {row["insurer"]: row["bills"] for row in sums} == bills
        assert sum(row["ages"] for row in sums) == sum(int(row["Age"]) for row in kept)

    def test_hospitals_lose_stray_and_and_commas_only(self, sample_delivery: tuple[Lake, DeliveryReport]) -> None:
        lake, _ = sample_delivery
        assert number(lake, "admissions", "site IS NULL OR site = '' OR regexp_matches(site, '^[ ,]|[ ,]$')") == 0
        assert number(lake, "admissions", "site LIKE 'and %' OR site LIKE '% and' OR site = 'and'") == 0

    def test_again_is_a_repeat_and_a_changed_copy_is_counted_right(
        self, lake: Lake, tmp_path: Path, sample: Path
    ) -> None:
        first = intake.ingest(lake, sample)
        snapshot, before = lake.last_snapshot_id(), versions(lake)

        again = intake.ingest(lake, sample)
        assert (again.status, again.reason) == (DeliveryStatus.REPEAT, first.delivery_id)
        assert "nothing to do" in again.sentence()
        assert counts_of(again) == dict.fromkeys(("created", "updated", "deleted", "unchanged"), 0)
        assert not again.changed
        assert versions(lake) == before
        changes = lake.query(
            f"SELECT count(*) AS n FROM ducklake_table_changes('lake', 'clinical', 'admissions', {snapshot}, "
            f"{lake.last_snapshot_id()}) WHERE snapshot_id > {snapshot}"
        )
        assert changes[0]["n"] == 0

        rows = read_rows(sample)
        copy = changed_copy(rows)
        report = intake.ingest(lake, write_csv(tmp_path / "copy.csv.gz", copy))
        assert report.mode == "snapshot"
        assert counts_of(report) == expected_counts(rows, copy)
        assert min(counts_of(report).values()) > 300
        assert report.changed_tables == ALL_TABLES
        kept = last_by_key(copy).values()
        assert number(lake, "admissions") == number(lake, "conditions") == number(lake, "prescriptions") == len(kept)
        assert number(lake, "patients") == len({(r["Name"].lower(), r["Gender"], r["Blood Type"]) for r in kept})
        assert number(lake, "conditions", "condition = 'Gout'") == sum(r["Medical Condition"] == "Gout" for r in kept)


def changed_copy(rows: list[Row]) -> list[Row]:
    """A later extract: rows gone, new, and changed in every kind of column; some only written differently."""
    copy = [dict(row) for row in rows if int(row["Room Number"]) != 101 and not row["Name"].lower().startswith("zo")]
    for index, row in enumerate(copy):
        match index % 131:
            case 1:
                row["Billing Amount"] = str(Decimal(row["Billing Amount"]).quantize(Decimal("1"), ROUND_HALF_EVEN) + 7)
            case 2:
                row["Medical Condition"] = "Gout"
            case 3:
                row["Medication"] = "Colchicine"
            case 4:
                row["Age"] = str(int(row["Age"]) + 1)
            case 5:
                row["Name"] = row["Name"].swapcase()  # the same person
            case 6:
                row["Blood Type"] = "AB+" if row["Blood Type"] != "AB+" else "O-"  # another person
            case 7:
                row["Discharge Date"] = ""
            case 8:
                row["Date of Admission"] = "2018-01-01"  # another admission
            case _:
                pass
    return [*copy, *admissions(500)]


class TestModes:
    BEFORE = admissions(100)

    @pytest.fixture(autouse=True)
    def hundred(self, desk: Desk, tmp_path: Path) -> None:
        desk.ingest(write_csv(tmp_path / "first.csv", self.BEFORE))

    def test_a_small_file_in_mode_auto_deletes_nothing(self, desk: Desk, tmp_path: Path) -> None:
        changed = [*self.BEFORE[:10], *admissions(5, start=200)]
        changed[0] = admission(0, Billing_Amount="1.00")
        report = desk.ingest(write_csv(tmp_path / "part.csv", changed))
        assert (report.mode, counts_of(report)) == (
            "upsert",
            {"created": 5, "updated": 1, "deleted": 0, "unchanged": 9},
        )
        assert desk.number("admissions") == 105
        assert report.changed_tables == ALL_TABLES

    @pytest.mark.parametrize(("kept", "mode", "deleted"), [(80, "snapshot", 20), (79, "upsert", 0)])
    def test_mode_auto_deletes_from_the_full_extract_share_on(
        self, desk: Desk, tmp_path: Path, kept: int, mode: str, deleted: int
    ) -> None:
        report = desk.ingest(write_csv(tmp_path / "next.csv", self.BEFORE[:kept]))
        assert (report.mode, report.deleted, desk.number("admissions")) == (mode, deleted, 100 - deleted)

    def test_mode_snapshot_deletes_whatever_is_absent_and_its_patients(self, desk: Desk, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "few.csv", self.BEFORE[:3])
        report = desk.ingest(file, mode=DeliveryMode.SNAPSHOT)
        assert counts_of(report) == {"created": 0, "updated": 0, "deleted": 97, "unchanged": 3}
        assert [desk.number(table) for table in ALL_TABLES] == [3, 3, 3, 3]

    def test_mode_upsert_deletes_nothing(self, desk: Desk, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "most.csv", self.BEFORE[:95])
        report = desk.ingest(file, mode=DeliveryMode.UPSERT)
        assert counts_of(report) == {"created": 0, "updated": 0, "deleted": 0, "unchanged": 95}
        assert report.changed_tables == ()

    def test_only_the_tables_that_change_get_a_new_version(self, desk: Desk, tmp_path: Path) -> None:
        rows = [dict(row) for row in self.BEFORE]
        rows[0]["Medication"] = "Colchicine"
        before = versions(desk.lake)
        report = desk.ingest(write_csv(tmp_path / "one.csv", rows))
        assert counts_of(report) == {"created": 0, "updated": 1, "deleted": 0, "unchanged": 99}
        assert report.changed_tables == ("prescriptions",)
        assert versions(desk.lake) == before | {"prescriptions": before["prescriptions"] + 1}
        assert desk.number("prescriptions", "medication = 'Colchicine'") == 1

    def test_a_condition_that_is_taken_back_goes(self, desk: Desk, tmp_path: Path) -> None:
        rows = [dict(row) for row in self.BEFORE]
        rows[0]["Medical Condition"] = ""
        report = desk.ingest(write_csv(tmp_path / "one.csv", rows))
        assert (report.updated, report.changed_tables, desk.number("conditions")) == (1, ("conditions",), 99)

    def test_a_corrected_patient_replaces_the_wrong_one(self, desk: Desk, tmp_path: Path) -> None:
        rows = [dict(row) for row in self.BEFORE]
        rows[0]["Blood Type"] = "B-"
        report = desk.ingest(write_csv(tmp_path / "one.csv", rows))
        assert (report.updated, desk.number("patients"), desk.number("patients", "blood_type = 'B-'")) == (1, 100, 1)
        orphans = "patient_key NOT IN (SELECT patient_key FROM clinical.admissions)"
        assert desk.number("patients", orphans) == desk.number("conditions", orphans) == 0

    def test_a_faulty_row_does_not_delete_its_admission(self, desk: Desk, tmp_path: Path) -> None:
        """It says that the admission exists: with a bad age it is known which, with a bad date whose."""
        rows = [dict(row) for row in self.BEFORE[:98]]
        rows[0]["Age"] = "-4"
        rows[1]["Date of Admission"] = "some day"
        report = desk.ingest(write_csv(tmp_path / "next.csv", rows))
        assert (report.mode, report.quarantined) == ("snapshot", 2)
        assert counts_of(report) == {"created": 0, "updated": 0, "deleted": 2, "unchanged": 96}
        assert desk.number("admissions") == desk.number("patients") == 98

    def test_sources_do_not_touch_each_other(self, desk: Desk, tmp_path: Path) -> None:
        second = Desk(desk.lake, f"{desk.source}-2")
        report = second.ingest(write_csv(tmp_path / "second.csv", self.BEFORE[:90]), mode=DeliveryMode.SNAPSHOT)
        assert (report.created, report.deleted) == (90, 0)
        assert (desk.number("admissions"), second.number("admissions")) == (100, 90)
        rows = [*desk.rows("admissions"), *second.rows("admissions")]
        assert len({row["admission_key"] for row in rows}) == 190
        assert len({row["patient_key"] for row in rows}) == 100


def test_of_two_rows_with_one_key_the_later_wins(desk: Desk, tmp_path: Path) -> None:
    rows = [admission(1, Age="41"), admission(2), admission(1, Age="43"), admission(1, Age="42"), admission(2)]
    report = desk.ingest(write_csv(tmp_path / "a.csv", rows))
    assert (report.created, report.duplicates_exact, report.duplicates_conflicting) == (2, 1, 2)
    assert {row["age_years"] for row in desk.rows("admissions")} == {42, int(rows[1]["Age"])}


def test_ages_of_ninety_and_more_are_pooled(desk: Desk, tmp_path: Path) -> None:
    rows = [admission(index, Age=age) for index, age in enumerate(["89", "90", "104", "", "0"])]
    desk.ingest(write_csv(tmp_path / "a.csv", rows))
    ages = sorted(str(row["age_years"]) for row in desk.rows("admissions"))
    assert ages == ["0", "89", "90", "90", "None"]


def test_a_delivery_can_be_delivered_again_and_says_the_same(lake: Lake) -> None:
    file = lake.settings.inbox / "data.csv"
    write_csv(file, [*admissions(20), admission(90, Age="-1")])
    delivery_id = intake.arrival.claim(lake.settings, file, "default")
    assert delivery_id
    first = intake.deliver(lake, delivery_id)
    snapshot = lake.last_snapshot_id()
    second = intake.deliver(lake, delivery_id)
    assert lake.last_snapshot_id() == snapshot
    recorded = {"notices": {}, "seconds": 0.0}  # not kept by the lake
    assert second.as_json() | recorded == first.as_json() | recorded
    archived = list((lake.settings.archive / "default").iterdir())
    assert [path.name for path in archived] == [f"{delivery_id}-data.csv"]
    assert archived[0].stat().st_mode & 0o777 == 0o600


def test_a_delivery_in_other_hands_is_left_to_them(lake: Lake) -> None:
    file = write_csv(lake.settings.inbox / "data.csv", admissions(5))
    delivery_id = intake.arrival.claim(lake.settings, file, "default")
    assert delivery_id
    with (
        intake.arrival.sole_worker(lake.settings, delivery_id),
        pytest.MonkeyPatch.context() as patience,
    ):
        patience.setattr(intake.delivery, "PATIENCE_SECONDS", 0.05)
        with pytest.raises(intake.delivery.DeliveryInHandsError):
            intake.deliver(lake, delivery_id)
    assert intake.deliver(lake, delivery_id).created == 5


def test_the_commit_carries_the_delivery(desk: Desk, tmp_path: Path) -> None:
    report = desk.ingest(write_csv(tmp_path / "data.csv", admissions(3)))
    row = desk.lake.query("SELECT * FROM lake.snapshots() WHERE snapshot_id = ?", [report.snapshot])[0]
    assert report.delivery_id in row["commit_message"]
    assert report.delivery_id in row["commit_extra_info"]
    assert row["author"] == "medisync"


def test_quarantined_rows_are_kept_for_the_owner_alone(desk: Desk, tmp_path: Path) -> None:
    report = desk.ingest(write_csv(tmp_path / "data.csv", [*admissions(20), admission(90, Age="-1"), "x,y"]))
    kept = desk.lake.settings.quarantine / f"{report.delivery_id}.csv"
    lines = kept.read_text().splitlines()
    assert lines[0].startswith("row,column,reason,malformed line,Name,Age")
    assert lines[1].startswith("21,Age,NEGATIVE_AGE,,Quen")
    assert lines[2].startswith('22,Gender,MALFORMED_ROW,"x,y"')
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
