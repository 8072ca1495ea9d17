"""Pages with controls: what is chosen is checked, computed once, and said; what comes from outside stays text."""

from __future__ import annotations

import asyncio
import base64
import csv
import datetime as dt
import io
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medisync import intake
from medisync.analyses.contract import Finding, Result, Table
from medisync.dashboards import forecasts, surges
from medisync.dashboards.data import Data
from medisync.dashboards.forecasts import Forecasts
from medisync.dashboards.live import LivePage, choices_of
from medisync.dashboards.panels import Control, controls_part
from medisync.dashboards.parts import Part
from medisync.dashboards.patients import Patients
from medisync.dashboards.surges import AHEAD_SHOWN, Surges, details, heat_map, likeliest, listed, only, outlook
from medisync.lake import Lake
from medisync.reports.page import as_shown, csv_address
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv

MARKUP = "Hill <b>& 'Lake'"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake with 900 admissions of 2 to 8 nights at three sites, one named in markup; no analysis has run."""
    folder = tmp_path_factory.mktemp("hospital")
    settings = Settings(data=folder / "data", reports=folder / "reports")
    rows = [
        {
            **row,
            "Hospital": row["Hospital"].replace("Hill Infirmary", MARKUP),
            "Discharge Date": str(dt.date.fromisoformat(row["Date of Admission"]) + dt.timedelta(days=2 + number % 7)),
        }
        for number, row in enumerate(admissions(900))
    ]
    lake = Lake(settings)
    intake.ingest(lake, write_csv(folder / "admissions.csv", rows))
    lake.close()
    return settings


def html(parts: Sequence[Part], name: str) -> str:
    return next(part.html for part in parts if part.name == name)


@pytest.mark.parametrize("page", [Patients, Surges, Forecasts, Data])
def test_a_fresh_workspace_explains_the_first_step(workspace: Settings, page: type[Patients]) -> None:
    made = page(workspace)
    parts = made.parts()
    assert "Start here: bring the first data" in html(parts, "notice")
    assert [part.slot for part in parts] == ["head", "head"]
    assert "<form" not in made.frame(parts)


@pytest.mark.parametrize("page", [Surges, Forecasts, Data])
def test_before_the_first_run_a_page_says_so(hospital: Settings, page: type[Patients]) -> None:
    made = page(hospital)
    shown = made.frame(made.parts())
    assert "Waiting for its first run." in shown or "No analysis has run yet." in shown


class TestPatients:
    def test_a_choice_is_computed_on_that_part_once(self, hospital: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        page = Patients(hospital)
        assert page.choose({"site": MARKUP, "gender": "female"})
        parts = page.parts()
        assert "150 prescriptions" in html(parts, "panel-medication_analysis")
        assert "not kept" in html(parts, "panel-medication_analysis")
        assert "<b>" not in page.frame(parts)
        monkeypatch.setattr(page, "_computed", pytest.fail)
        assert not page.choose({"site": MARKUP, "gender": "female"})
        assert [part.version for part in page.parts()] == [part.version for part in parts]

    def test_what_is_no_choice_is_left_out_and_not_repeated(self, hospital: Settings) -> None:
        page = Patients(hospital)
        page.choose({"site": "Nowhere", "from": "2024-13-01", "age": "7", "gender": "x", "secret": "Sekretwert"})
        shown = page.frame(page.parts())
        assert "left out: site, from, age, gender, an unknown filter." in shown
        for value in ("Nowhere", "2024-13-01", "Sekretwert", "secret"):
            assert value not in shown

    def test_a_part_without_admissions_says_so_in_each_panel(self, hospital: Settings) -> None:
        page = Patients(hospital)
        page.choose({"from": "1999-01-01", "until": "1999-12-31"})
        parts = [part for part in page.parts() if part.slot == "panels"]
        narrowed = [part for part in parts if "not narrowed to the choice above" not in part.html]
        assert len(narrowed) == 4
        assert [part.name for part in parts if part not in narrowed] == ["panel-readmissions"]
        for part in narrowed:
            assert "notice" in part.html or "Too little data" in part.html

    def test_an_end_before_the_start_is_said(self, hospital: Settings) -> None:
        page = Patients(hospital)
        page.choose({"from": "2023-02-01", "until": "2023-01-01", "gender": "male"})
        assert "left out: until." in html(page.parts(), "controls")


class TestForecasts:
    @pytest.mark.parametrize("text", ["0", "53", "-1", "8.5", "x", "9" * 400, "²"])
    def test_a_horizon_that_is_none_is_left_out(self, hospital: Settings, text: str) -> None:
        page = Forecasts(hospital)
        page.choose({"horizon": text, "frequency": "weekly"})
        assert "left out: horizon." in html(page.parts(), "controls")

    def test_another_site_and_period_are_computed_here(self, hospital: Settings) -> None:
        page = Forecasts(hospital)
        page.choose({"site": "Mill Clinic", "frequency": "monthly", "horizon": "3", "beds": "20"})
        shown = page.frame(page.parts())
        assert "next 3 months" in shown
        assert "not kept" in shown
        assert 'value="20"' in shown

    def test_beds_are_asked_again_at_once_from_one_forecast(
        self, hospital: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page = Forecasts(hospital)
        page.choose({"admissions": "20", "stay": "-10", "beds": "35"})
        shown = html(page.parts(), "panel-census")
        assert "With 20\N{NO-BREAK SPACE}% more admissions and stays 10\N{NO-BREAK SPACE}% shorter" in shown
        assert "More than 35 are needed on one night or more with probability" in shown
        assert "<svg" in shown
        monkeypatch.setattr("medisync.analyses.bed_what_if.bed_outlook", pytest.fail)
        page.choose({"admissions": "0", "stay": "25"})
        parts = page.parts()
        assert "With stays 25\N{NO-BREAK SPACE}% longer" in html(parts, "panel-census")
        assert '<output data-none="as forecast">+25 %</output>' in html(parts, "controls")

    @pytest.mark.parametrize("text", ["7", "-55", "105", "--5", "5.0", "x", "", "\u0663\u0665" * 9])
    def test_a_change_off_the_slider_is_none(self, text: str) -> None:
        assert forecasts.number_chosen("stay", text) is None
        assert forecasts.number_chosen("stay", "-50") == -50

    def test_the_backtest_in_a_sentence_needs_its_numbers(self) -> None:
        empty = Result(analysis="a", title="t", headline="h", finding=Finding.TOO_LITTLE)
        assert forecasts.details(empty, None)[1].headline == ""


def surge_result(*rows: tuple[str, str, str, str]) -> Result:
    columns = ("condition", "site", "kind", "state", "observed", "expected")
    current = Table(title="This week", columns=columns, rows=tuple((*row, 9, 3.5) for row in rows))
    weekly = Table(title="w", columns=("condition", "week"), rows=())
    tables = {"current": current, "weekly": weekly}
    return Result(analysis="a", title="t", headline="h", finding=Finding.SIGNAL, tables=tables)


class TestSurges:
    result = surge_result(
        ("Flu", "all sites", "condition", "surge"),
        ("Flu", "North", "condition at a site", "above"),
        ("Cold", "all sites", "condition", "quiet"),
        ("all admissions", "all sites", "total", "quiet"),
    )

    def test_the_map_has_every_condition_and_site_and_not_the_total(self) -> None:
        heat: dict[str, Any] = heat_map(self.result)
        assert (heat["conditions"], heat["sites"]) == (["Flu", "Cold"], ["all sites", "North"])
        assert ("Cold", "North") not in heat["cells"]
        shown = surges.render("heat.html", heat=heat, states=surges.STATES)
        assert shown.count("Confirmed surge") == 1
        assert shown.count("Above its threshold") == 1
        assert listed(self.result, "condition") == ("Cold", "Flu")

    def test_the_outlook_shows_the_likeliest_in_percent(self) -> None:
        rows = tuple((f"C{n}", "North", 0.001 * n, 0.002 * n) for n in range(60))
        ahead = Table(title="Ahead", columns=("condition", "site", "week of 2024-05-06", "any of them"), rows=rows)
        assert [row[0] for row in outlook(ahead).rows] == [f"C{n}" for n in range(59, 59 - AHEAD_SHOWN, -1)]
        assert as_shown(outlook(ahead))[0] == ["C59", "North", "5.90", "11.8"]
        assert likeliest(ahead).endswith("C59, North (12 % for any of them).")
        unknown = ahead.model_copy(update={"rows": (("C1", "North", None, None),)})
        assert (likeliest(unknown), as_shown(outlook(unknown))[0][2]) == ("", "–")
        whole = self.result.model_copy(update={"tables": {**self.result.tables, "ahead": ahead}})
        panel = details(whole, "", None)[-1]
        shown = surges.render("panel.html", panel=panel, view=None, one=None)
        assert "<summary>All 60 series as numbers</summary>" in shown
        assert shown.count("<tr>") == AHEAD_SHOWN + 60 + 2

    def test_one_condition_is_that_condition_in_every_table(self) -> None:
        shown = only(self.result, "Flu")
        assert {row[0] for row in shown.tables["current"].rows} == {"Flu"}
        assert shown.figures == ()  # no week of it is in the table


class TestData:
    def test_refusals_and_rows_set_aside_are_listed_with_their_reason(
        self, workspace: Settings, lake: Lake, tmp_path: Path
    ) -> None:
        rows = admissions(40)
        rows[3]["Age"] = "Sekretwert"
        intake.ingest(lake, write_csv(tmp_path / "good.csv", rows))
        (tmp_path / "empty.csv").write_bytes(b"")
        intake.ingest(lake, tmp_path / "empty.csv")
        page = Data(workspace)
        parts = page.parts()
        assert "BAD_NUMBER" in html(parts, "panel-quarantine")
        assert "EMPTY_FILE" in html(parts, "panel-deliveries")
        assert html(parts, "panel-deliveries").count('href="/deliveries/') >= 1
        assert "Sekretwert" not in page.frame(parts)
        page.choose({"status": "failed", "analysis": "nothing"})
        assert "left out: analysis." in html(page.parts(), "controls")
        assert "No run is like that." in html(page.parts(), "panel-runs")


class TestControls:
    def test_choosing_does_not_replace_the_form(self) -> None:
        def part(value: str, *names: str) -> Part:
            return controls_part([Control("site", "Site", value, tuple((name, name) for name in names))])

        assert part("A", "A", "B").version == part("B", "A", "B").version
        assert part("A", "A", "B").version != part("A", "A", "B", "C").version
        assert 'value="A" selected' in part("A", "A", "B").html

    @pytest.mark.parametrize(
        ("query", "choices"),
        [("", {}), ("site=A%20B&age=", {"site": "A B", "age": ""}), ("a=1&a=2", {"a": "2"}), ("&" * 200, {})],
    )
    def test_an_address_is_read_as_choices(self, query: str, choices: dict[str, str]) -> None:
        assert choices_of(query) == choices

    def test_only_the_newest_choice_is_looked_at(self) -> None:
        class Source:
            def __init__(self) -> None:
                self.chosen: list[Mapping[str, str]] = []

            def choose(self, choices: Mapping[str, str]) -> bool:
                self.chosen.append(choices)
                return True

            def signature(self) -> Hashable:
                return 1

            def parts(self) -> list[Part]:
                return [Part("a", "head", str(self.chosen))]

            def frame(self, parts: Sequence[Part]) -> str:
                return parts[0].html

        async def watch() -> tuple[list[Mapping[str, str]], list[dict[str, Any]]]:
            source, sent = Source(), list[dict[str, Any]]()
            page = LivePage(source)
            page.prepare()
            page.broadcast.join("me", sent.append, {})
            for site in "ABC":
                page._choose({"site": site})
            page._choose("nonsense")
            task = asyncio.create_task(page._watch(60))
            async with asyncio.timeout(5):
                while not any(message.get("parts") for message in sent[1:]):
                    await asyncio.sleep(0.01)
            task.cancel()
            return source.chosen, sent[1:]

        chosen, sent = asyncio.run(watch())
        assert chosen == [{"site": "C"}]
        assert sent[0] == {"working": True}
        assert sent[-1]["working"] is False


def test_a_table_as_a_file_is_the_table_and_no_formula() -> None:
    table = Table(title="t", columns=("name", "n"), rows=(("=1+1", 2), ("-3", -3), ('Ü,"x"', None)))
    address = csv_address(table)
    text = base64.b64decode(address.split(",", 1)[1]).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(text))) == [["name", "n"], ["'=1+1", "2"], ["'-3", "-3"], ['Ü,"x"', ""]]


class TestReleased:
    """Those who see released results only: nothing that no disclosure control has looked at, and no reasons."""

    @pytest.mark.parametrize("page", [Patients, Surges, Forecasts, Data])
    def test_nothing_is_chosen_or_computed_for_them(self, hospital: Settings, page: type[Patients]) -> None:
        made = page(hospital)
        made.show_to("released")
        made.choose({"gender": "female", "horizon": "3", "condition": "Asthma", "analysis": "x"})
        parts = made.parts()
        assert "controls" not in [part.name for part in parts]
        assert "not kept" not in made.frame(parts)

    def test_a_delivery_has_no_reason(self, workspace: Settings, lake: Lake, tmp_path: Path) -> None:
        intake.ingest(lake, write_csv(tmp_path / "good.csv", admissions(40)))
        (tmp_path / "empty.csv").write_bytes(b"")
        intake.ingest(lake, tmp_path / "empty.csv")
        page = Data(workspace)
        assert "EMPTY_FILE" in page.frame(page.parts())
        page.show_to("released")
        shown = page.frame(page.parts())
        assert "EMPTY_FILE" not in shown
        assert "It could not be loaded." in shown
