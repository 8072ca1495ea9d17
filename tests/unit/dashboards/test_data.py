"""The data page: two runs compared, failures with their reason, runs that go on, and the form for analysts."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from medisync import intake
from medisync.access.page_audience import TRIGGER_VARIABLE
from medisync.analyses.contract import Finding, Result
from medisync.dashboards.data import Data
from medisync.dashboards.parts import Part
from medisync.dashboards.run_form import run_form
from medisync.lake import Lake
from medisync.runs import planning, registry
from medisync.runs.compare import compare
from medisync.runs.progress import in_progress
from medisync.runs.publishing import publish
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv
from tests.support.published import publish_result, record_of
from tests.support.small_notebooks import write_notebook

ANALYST = {TRIGGER_VARIABLE: "yes"}
PARAMETERS = 'days = 7  # how long <b>\nplanned: bool = True\nkinds = ("a", "b")\nsite: str | None = None'


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[str]]:
    """A small analysis with two completed runs, the later one of more data, and a failed one after them."""
    folder = tmp_path_factory.mktemp("ward")
    settings = Settings(data=folder / "data", reports=folder / "reports", notebooks=folder / "notebooks")
    write_notebook(settings.analyses, "own", parameters=PARAMETERS)
    lake, ids = Lake(settings), []
    for number, name in ((40, "first.csv"), (60, "second.csv")):
        intake.ingest(lake, write_csv(folder / name, admissions(number)))
        (plan,) = planning.plan(lake, force=True)
        result = Result(analysis="own", title="Own", headline=f"{number} <i>admissions</i>.",
                        finding=Finding.DESCRIPTION, metrics={"n": number, "share": 0.5})  # fmt: skip
        record = record_of(plan, result)
        record = record.model_copy(update={"finished_at": record.finished_at - dt.timedelta(hours=100 - number)})
        publish(lake, record, result)
        ids.append(record.run_id)
    (plan,) = planning.plan(lake, force=True)
    ids.append(publish_result(lake, plan, None).run_id)
    lake.close()
    return settings, ids


def html(parts: list[Part], name: str) -> str:
    return re.sub(r"\s+", " ", next((part.html for part in parts if part.name == name), ""))


def test_two_runs_are_compared_as_the_command_does(ward: tuple[Settings, list[str]]) -> None:
    settings, (before, after, failed) = ward
    page = Data(settings, ANALYST)
    page.choose({"before": before, "after": after})
    parts = page.parts()
    shown = html(parts, "panel-comparison").replace("\N{NO-BREAK SPACE}", " ")
    lake = Lake(settings)
    assert compare(lake, before, after).sentence() in shown
    lake.close()
    assert "second.csv: 20 admissions created" in shown
    assert '<td class="text">n</td><td>40</td><td>60</td><td>33.3</td>' in shown.replace("> <", "><")
    assert "&lt;i&gt;" in shown
    assert f'<option value="{before}" selected>' in html(parts, "controls")
    page.choose({"before": failed, "after": "<script>"})
    parts = page.parts()
    assert "left out: before, after." in html(parts, "controls")
    assert html(parts, "panel-comparison") == ""
    assert "<script>" not in page.frame(parts)


def test_a_failure_has_its_reason_and_what_is_shown_meanwhile(ward: tuple[Settings, list[str]]) -> None:
    parts = Data(ward[0], {}).parts()
    failures = html(parts, "panel-failures")
    for words in ("Out of date", "Small own", "Cell 4 raised KeyError", "Shown meanwhile: the result of"):
        assert words in failures
    assert "notebook-raised" in html(parts, "panel-runs")


def test_what_runs_now_is_shown_and_noticed(ward: tuple[Settings, list[str]]) -> None:
    page = Data(ward[0], {})
    before = page.signature()
    with in_progress(ward[0], run_id="r20260101T000000-aaaaaa", analysis="own", title="Own <b>", run_key="k",
                     trigger="api", flow_run_id=None, started_at=dt.datetime.now(dt.UTC)):  # fmt: skip
        assert page.signature() != before
        assert "Own &lt;b&gt;" in html(page.parts(), "panel-running")
    assert page.signature() == before


@pytest.mark.parametrize("told", [{}, {TRIGGER_VARIABLE: "no"}, {TRIGGER_VARIABLE: "yes"}])
def test_the_form_is_for_who_may_start_runs(ward: tuple[Settings, list[str]], told: dict[str, str]) -> None:
    page = Data(ward[0], told)
    assert ("data-run" in page.frame(page.parts())) is (told == ANALYST)
    page.show_to("released")
    assert "data-run" not in page.frame(page.parts())


def test_a_form_is_made_of_the_parameters_of_any_notebook(ward: tuple[Settings, list[str]]) -> None:
    (notebook,) = registry.analyses(ward[0])
    fields = {one.name: one for one in run_form(notebook).fields}
    assert [(one.name, one.value, one.sends) for one in fields.values()] == [
        ("days", "7", "number"),
        ("planned", "true", "boolean"),
        ("kinds", "a, b", "list"),
        ("site", "", "text"),
    ]
    shown = html(Data(ward[0], ANALYST).parts(), "panel-rerun")
    assert "how long &lt;b&gt;" in shown
    assert 'type="number" name="days" value="7"' in shown


def test_a_shipped_analysis_offers_its_choices_and_bounds() -> None:
    volume = next(one for one in registry.analyses(Settings()) if one.analysis == "patient_volume_prediction")
    fields = {one.name: one for one in run_form(volume).fields}
    assert set(fields) == set(volume.defaults) - {registry.PINNED}
    assert [value for value, _ in fields["frequency"].options] == ["daily", "weekly", "monthly"]
    assert (fields["horizon"].least, fields["horizon"].most, fields["horizon"].step) == ("1", "52", "1")
    assert (fields["beds"].value, fields["beds"].sends) == ("", "number")
    assert fields["horizon"].means == "periods to forecast"


def test_parameters_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, notebooks=tmp_path)
    write_notebook(settings.analyses, "odd", parameters="when: Whenever = 3")
    (notebook,) = registry.analyses(settings)
    form = run_form(notebook)
    assert form.fields == ()
    assert "parameters cell cannot be understood" in form.trouble
