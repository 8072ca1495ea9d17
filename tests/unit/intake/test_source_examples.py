"""The examples of docs/sources.md do what is said beside them, and no key is without one."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from medisync import intake
from medisync.intake.expected import is_day_off, local, missed, missed_by
from medisync.intake.merging import LAKE_COLUMNS
from medisync.intake.quality import Measure, judged, refusal
from medisync.intake.sources import CODED_FIELDS, Columns, DeleteMarker, Reporting, Source, Thresholds
from medisync.lake import Lake
from medisync.settings import Settings, project_root

PAGE = (project_root() / "docs" / "sources.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE[PAGE.index("## Every key at work") :], re.S | re.M)
NOON = dt.datetime.fromisoformat("2024-06-03T12:00")


def examples() -> list[tuple[str, list[str], str]]:
    """Of each: the source's file, the delivered files, what comes of them."""
    found: list[tuple[str, list[str], str]] = []
    for language, text in BLOCKS:
        if language == "toml":
            found.append((text, [], ""))
        elif language == "csv":
            found[-1][1].append(text)
        else:
            found[-1] = (*found[-1][:2], text)
    return found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("examples")
    opened = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    opened.settings.make_folders()
    opened.settings.sources.mkdir(exist_ok=True)
    yield opened
    opened.close()


@pytest.mark.parametrize("number", range(len(examples())))
def test_an_example_does_what_is_said(lake: Lake, tmp_path: Path, number: int) -> None:
    description, files, outcome = examples()[number]
    source = f"example-{number}"
    (lake.settings.sources / f"{source}.toml").write_text(description, encoding="utf-8")
    folder = tmp_path / "delivered"
    folder.mkdir()
    for place, text in enumerate(files, start=1):
        (folder / f"table {place}.csv").write_text(text, encoding="utf-8")
    report = intake.ingest(lake, folder if len(files) > 1 else folder / "table 1.csv", source=source)
    said = dict(line.split(": ", 1) for line in outcome.splitlines())
    wanted = {
        "refused": [report.reason],
        "told": sorted(report.notices),
        "quarantined": sorted(report.faults),
    }
    assert (report.status.value == "refused") is ("refused" in said), report.message
    for what, told in said.items():
        assert wanted.get(what) or values(lake, source, what) == told.split(", "), what
        if what in wanted:
            assert wanted[what] == told.split(", ")


def values(lake: Lake, source: str, what: str) -> list[str]:
    """A column's values, of admissions in their order in time."""
    name, _, table = what.partition(" of ")
    table = table or next(kind for kind, columns in LAKE_COLUMNS.items() if name in columns)
    order = "admissions.admitted_at" if table in ("admissions", "patients") else "1"
    other = "JOIN clinical.patients USING (source, patient_key)" if table == "patients" else ""
    start = f"clinical.admissions {other}" if table in ("admissions", "patients") else f"clinical.{table}"
    rows = lake.query(f"SELECT {table}.{name} AS v FROM {start} WHERE source = ? ORDER BY {order}", [source])
    return [str(row["v"]) for row in rows]


def test_every_key_has_an_example() -> None:
    given = [tomllib.loads(text) for text, _, _ in examples()]

    def keys(models: type[BaseModel], tables: list[dict[str, Any]]) -> None:
        assert set(models.model_fields) - {"name"} == set().union(*tables) & set(models.model_fields) - {"name"}

    keys(Source, given)
    keys(Columns, [one for each in given for one in (each.get("columns", {}), *each.get("tables", []))])
    keys(Thresholds, [each.get("thresholds", {}) for each in given])
    keys(Reporting, [each.get("reporting", {}) for each in given])
    keys(DeleteMarker, [each.get("deleted", {}) for each in given])
    for field in CODED_FIELDS:
        assert f"`{field}`" in PAGE


class TestLimitsThatNeedAPast:
    PAST = tuple((NOON - dt.timedelta(days=day), 1000.0) for day in range(1, 9))

    def reasons(self, measure: Measure, past: list[float] | None = None, **limits: Any) -> tuple[str | None, bool]:
        """The reason told, and whether it refuses."""
        thresholds = Thresholds(**limits)
        before = self.PAST if past is None else [(NOON - dt.timedelta(days=n), v) for n, v in enumerate(past, 1)]
        found = judged([measure], {(measure.measure, measure.column): before}, NOON, thresholds)
        return found[0].reason, refusal(found, thresholds) is not None

    def test_volume(self) -> None:
        assert self.reasons(Measure("rows", 100)) == ("VOLUME_UNUSUAL", False)
        assert self.reasons(Measure("rows", 100), volume="refuse") == ("VOLUME_UNUSUAL", True)
        assert self.reasons(Measure("rows", 100), volume="off") == (None, False)
        assert self.reasons(Measure("rows", 700)) == (None, False)
        assert self.reasons(Measure("rows", 700), volume_share=0.8) == ("VOLUME_UNUSUAL", False)

    def test_units(self) -> None:
        cents = Measure("median", 100_000, "admissions.billing_amount")
        assert self.reasons(cents) == ("AMOUNT_UNITS", False)
        assert self.reasons(cents, units="refuse") == ("AMOUNT_UNITS", True)
        assert self.reasons(cents, units="off") == (None, False)

    def test_missing_rise(self) -> None:
        gaps = Measure("missing_share", 0.15, "admissions.insurer")
        assert self.reasons(gaps, [0.0] * 6) == ("MORE_MISSING", False)
        assert self.reasons(gaps, [0.0] * 6, missing_rise=0.2) == (None, False)


class TestCalendar:
    WEEKDAYS = Reporting(
        weekdays=("monday", "tuesday", "wednesday", "thursday", "friday"), holidays=(dt.date(2024, 5, 1),)
    )

    @pytest.mark.parametrize(
        ("reporting", "last", "now", "number"),
        [
            (WEEKDAYS, "2024-05-03T22:00", "2024-05-06T01:00", 0),  # Friday, Monday
            (WEEKDAYS, "2024-04-30T22:00", "2024-05-03T01:00", 1),  # the 1st is a holiday
            (WEEKDAYS, "2024-04-29T22:00", "2024-05-13T01:00", 8),
            (Reporting(every="hour"), "2024-05-03T22:59", "2024-05-04T02:00", 3),
            (Reporting(every="week"), "2024-05-03T22:59", "2024-05-14T02:00", 1),
            (Reporting(every="month"), "2024-01-31T22:59", "2024-05-01T00:00", 3),
            (Reporting(every="day"), "2024-05-03T22:59", "2024-05-03T23:00", 0),
            (Reporting(), "2020-05-03T22:59", "2024-05-03T23:00", 0),
        ],
    )
    def test_missed_deliveries(self, reporting: Reporting, last: str, now: str, number: int) -> None:
        assert missed(reporting, dt.datetime.fromisoformat(last), dt.datetime.fromisoformat(now)) == number

    def test_the_source_s_clocks_decide_the_day(self) -> None:
        late = dt.datetime.fromisoformat("2024-04-30T22:30")  # UTC: the 1st of May in Berlin
        assert is_day_off(self.WEEKDAYS, local(late, "Europe/Berlin").date())
        assert not is_day_off(self.WEEKDAYS, local(late, None).date())

    def test_the_next_delivery_tells(self, lake: Lake, tmp_path: Path) -> None:
        description = '[columns]\npatient = "P"\nadmitted_at = "In"\n[reporting]\nevery = "day"\n'
        (lake.settings.sources / "late.toml").write_text(description)
        (tmp_path / "a.csv").write_text("P,In\n1,2024-05-01\n")
        first = intake.ingest(lake, tmp_path / "a.csv", source="late")
        assert "DELIVERY_MISSED" not in first.notices
        with lake.transaction("as if it were older") as transaction:
            transaction.execute(
                "UPDATE lake.clinical.deliveries SET received_at = received_at - INTERVAL 4 DAY WHERE delivery_id = ?",
                [first.delivery_id],
            )
        before = lake.query("SELECT received_at FROM clinical.deliveries WHERE source = 'late'")[0]["received_at"]
        assert missed_by(lake.settings, "late", before, before + dt.timedelta(days=4)) == 3
        (tmp_path / "a.csv").write_text("P,In\n2,2024-05-02\n")
        report = intake.ingest(lake, tmp_path / "a.csv", source="late")
        assert report.notices["DELIVERY_MISSED"] >= 3
