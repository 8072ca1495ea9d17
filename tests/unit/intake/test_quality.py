"""What is measured of a delivery, what of that is unusual, and what it leads to."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medisync import intake
from medisync.cli.main import app
from medisync.intake import DeliveryStatus
from medisync.intake.delivery import DeliveryMode
from medisync.intake.history import expected_number, expected_share, scale_shift
from medisync.lake import Lake
from medisync.reports.page import quality_path
from medisync.settings import Settings
from tests.support.admissions_csv import SURNAME, admission, admissions, write_csv

MONDAY = dt.datetime.fromisoformat("2024-06-03T06:00")


class TestNumbers:
    def test_a_tenth_of_the_usual_rows_is_unusual_and_the_usual_noise_is_not(self) -> None:
        draw = random.Random(7)
        past = [(MONDAY - dt.timedelta(days=day), 1000 * draw.lognormvariate(0, 0.15)) for day in range(1, 120)]
        usual = expected_number(past, MONDAY)
        assert usual is not None
        assert usual.is_unusual(100)
        assert usual.is_unusual(10_000)
        noise = [1000 * draw.lognormvariate(0, 0.15) for _ in range(2000)]
        assert sum(usual.is_unusual(one) for one in noise) == 0

    def test_the_weekday_decides_where_there_are_enough_of_them(self) -> None:
        past = [
            (day, 100.0 if day.weekday() == 0 else 1000.0)
            for day in (MONDAY - dt.timedelta(days=number) for number in range(1, 60))
        ]
        assert expected_number(past, MONDAY).usual == pytest.approx(100)  # type: ignore[union-attr]
        assert expected_number(past, MONDAY + dt.timedelta(days=1)).usual == pytest.approx(1000)  # type: ignore[union-attr]
        assert expected_number(past[:20], MONDAY).usual == pytest.approx(1000)  # type: ignore[union-attr]

    def test_too_little_past_is_silent(self) -> None:
        past = [(MONDAY - dt.timedelta(days=day), 1000.0) for day in range(1, 5)]
        assert expected_number(past, MONDAY) is None
        assert expected_share([0.1] * 4, least_rise=0.1) is None
        assert scale_shift(100, [1.0] * 4, (100,), tolerance=1.5) is None

    def test_a_share_of_its_own_sets_the_lower_bound(self) -> None:
        past = [(MONDAY - dt.timedelta(days=day), 1000.0) for day in range(1, 9)]
        usual = expected_number(past, MONDAY, lowest_share=0.9)
        assert usual is not None
        assert (usual.is_unusual(899), usual.is_unusual(901)) == (True, False)

    @pytest.mark.parametrize(
        ("value", "shift"), [(20_000, 100), (25_000, 100), (2.1, 0.01), (200, None), (2_000, None), (40_000, None)]
    )
    def test_cents_are_told_from_dearer_patients(self, value: float, shift: float | None) -> None:
        past = [190.0, 200.0, 210.0, 205.0, 195.0]
        assert scale_shift(value, past, (100, 1000, 0.01, 0.001), tolerance=1.5) == shift


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Path]]:
    """A source with six deliveries of forty admissions each."""
    folder = tmp_path_factory.mktemp("quality")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    for number in range(6):
        report = send(lake, folder, admissions(40, start=100 * number))
        assert set(report.notices) <= {"LONG_STAY"}, report.notices
    yield lake, folder
    lake.close()


def send(lake: Lake, folder: Path, rows: list[dict[str, str]]) -> intake.DeliveryReport:
    return intake.ingest(lake, write_csv(folder / "sent.csv", rows), source="ward", mode=DeliveryMode.UPSERT)


def measures(lake: Lake, delivery_id: str) -> dict[tuple[str, str | None], dict[str, object]]:
    rows = lake.query("FROM clinical.quality WHERE delivery_id = ?", [delivery_id])
    return {(row["measure"], row["column_name"]): row for row in rows}


class TestDeliveries:
    def test_measures_are_kept_as_typed_rows(self, house: tuple[Lake, Path]) -> None:
        lake, folder = house
        rows = [
            *admissions(30, start=1000),
            *(admission(number, Insurance_Provider="") for number in range(1030, 1040)),
            admission(1000),
            admission(1041, Age="-1"),
        ]
        report = send(lake, folder, rows)
        found = measures(lake, report.delivery_id)
        assert found[("rows", None)]["value"] == 42
        assert found[("rows", None)]["expected"] == pytest.approx(40)
        assert found[("quarantined_share", None)]["value"] == pytest.approx(1 / 42)
        assert found[("duplicate_share", None)]["value"] == pytest.approx(1 / 42)
        assert found[("faults", None)] | {"reason": "NEGATIVE_AGE", "value": 1.0} == found[("faults", None)]
        assert found[("missing_share", "admissions.insurer")]["value"] == pytest.approx(10 / 41)
        assert found[("missing_share", "admissions.insurer")]["reason"] == "MORE_MISSING"
        assert (
            found[("missing_share", "admissions.site")] | {"value": 0.0, "reason": None}
            == found[("missing_share", "admissions.site")]
        )
        assert report.notices["MORE_MISSING"] == 1

    @pytest.mark.parametrize(
        ("change", "number", "reason"),
        [
            ({}, 4, "VOLUME_UNUSUAL"),
            ({"Test_Results": ""}, 40, "EMPTY_COLUMN"),
            ({"Billing_Amount": "101300"}, 40, "AMOUNT_UNITS"),
        ],
    )
    def test_what_is_unusual_is_told(
        self, house: tuple[Lake, Path], change: dict[str, str], number: int, reason: str
    ) -> None:
        lake, folder = house
        rows = [admission(index, **change) for index in range(2000, 2000 + number)]
        report = send(lake, folder, rows)
        assert (report.status, report.notices.get(reason)) == (DeliveryStatus.LOADED, 1)

    def test_a_source_may_want_such_files_refused(self, house: tuple[Lake, Path]) -> None:
        lake, folder = house
        lake.settings.sources.mkdir(exist_ok=True)
        file = lake.settings.sources / "ward.toml"
        file.write_text('[thresholds]\nvolume = "refuse"\nunits = "refuse"\nvolume_share = 0.5\n')
        few = send(lake, folder, admissions(19, start=3000))
        cents = send(lake, folder, [admission(index, Billing_Amount="101300") for index in range(3000, 3040)])
        file.unlink()
        assert (few.status, few.reason) == (DeliveryStatus.REFUSED, "VOLUME_UNUSUAL")
        assert "19 rows" in str(few.message)
        assert (cents.status, cents.reason) == (DeliveryStatus.REFUSED, "AMOUNT_UNITS")
        assert measures(lake, few.delivery_id)[("rows", None)]["reason"] == "VOLUME_UNUSUAL"

    def test_ages_in_months_are_refused_and_their_faults_stand_in_the_lake(self, house: tuple[Lake, Path]) -> None:
        lake, folder = house
        report = send(lake, folder, [admission(index, Age=str(12 * (20 + index % 60))) for index in range(40)])
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, "AGE_UNITS")
        kept = lake.query(
            "SELECT count(*) AS n, min(column_name) AS c FROM clinical.quarantine WHERE delivery_id = ?",
            [report.delivery_id],
        )
        assert kept == [{"n": 40, "c": "Age"}]

    def test_many_duplicates_and_long_stays_are_told(self, house: tuple[Lake, Path]) -> None:
        lake, folder = house
        stay = {"Date_of_Admission": "2020-01-01", "Discharge_Date": "2022-03-01"}
        rows = [*admissions(25, start=4000), *admissions(14, start=4000), admission(4030, **stay)]
        report = send(lake, folder, rows)
        assert report.notices["MANY_DUPLICATES"] == 1
        assert report.notices["LONG_STAY"] >= 1


class TestPages:
    def test_a_delivery_has_a_page_and_a_source_its_trends(
        self, house: tuple[Lake, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake, folder = house
        monkeypatch.setenv("MEDISYNC_DATA", str(lake.settings.data))
        monkeypatch.setenv("MEDISYNC_REPORTS", str(lake.settings.reports))
        rows = [*admissions(30, start=6000), *(admission(number, Age="-3") for number in range(6030, 6033))]
        report = send(lake, folder, [row | {"Test Results": ""} for row in rows])
        page = quality_path(lake.settings, report.delivery_id)
        assert page.is_file()  # written with the delivery
        text = page.read_text(encoding="utf-8")
        assert "EMPTY_COLUMN: missing share of admissions.test_result is 1, usually about 0." in text
        assert "NEGATIVE_AGE" in text
        assert "Loaded: 30 of 33 rows passed every check." in text
        told = json.loads(CliRunner().invoke(app, ["quality", report.delivery_id, "--json"]).output)
        assert {one["reason"] for one in told["faults"]} == {"NEGATIVE_AGE"}
        done = CliRunner().invoke(app, ["quality", "--trends", "--source", "ward", "--json"])
        trends = Path(json.loads(done.output)["report"]).read_text(encoding="utf-8")
        assert trends.count("<svg") == 1
        for shown in (text, trends):
            assert SURNAME not in shown
            assert "http" not in shown.replace("http://www.w3.org", "")
        assert CliRunner().invoke(app, ["quality", "nothing"]).exit_code != 0
