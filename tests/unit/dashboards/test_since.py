"""What changed since yesterday, what stands on top, and analyses that somebody dropped into the folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from medisync import intake
from medisync.analyses.contract import Finding, Result, Table
from medisync.dashboards.alerts import MOST_SURGES, alerts, watched
from medisync.dashboards.overview import Overview
from medisync.dashboards.patients import Patients
from medisync.dashboards.reading import View
from medisync.dashboards.rendering import render
from medisync.dashboards.since import told_numbers
from medisync.lake import Lake
from medisync.runs import planning
from medisync.runs.published import DeliveryLine, Freshness, Published
from medisync.runs.publishing import publish
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv
from tests.support.published import record_of
from tests.support.small_notebooks import write_notebook

ODD_TITLE = "Beds <b>&"


def counted(number: int, **metrics: float) -> Result:
    return Result(analysis="own", title=ODD_TITLE, headline=f"{number} admissions.", finding=Finding.DESCRIPTION,
                  metrics={"admissions_count": number, **metrics})  # fmt: skip


def published_hours_ago(lake: Lake, result: Result, hours: float) -> None:
    """Publish ``result`` as the own analysis' run of so long ago."""
    (plan,) = planning.plan(lake, force=True)
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)
    record = record_of(plan, result).model_copy(update={"started_at": moment, "finished_at": moment})
    publish(lake, record, result)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace whose only analysis is a notebook somebody dropped in, with 40 admissions and its first result."""
    folder = tmp_path_factory.mktemp("own")
    settings = Settings(data=folder / "data", reports=folder / "reports", notebooks=folder / "notebooks")
    write_notebook(settings.analyses, "own")
    lake = Lake(settings)
    intake.ingest(lake, write_csv(folder / "first.csv", admissions(40)))
    published_hours_ago(lake, counted(40), 25)
    lake.close()
    return settings


def test_what_moved_since_yesterday_and_by_which_delivery(own: Settings, tmp_path: Path) -> None:
    page = Overview(own)
    shown = page.frame(page.parts())
    assert "These are the first results." in shown
    assert 'data-part="tile-own"' in shown, "a notebook in the folder is a tile"
    assert "40 admissions." in shown

    lake = Lake(own)
    intake.ingest(lake, write_csv(tmp_path / "second.csv", admissions(10, 40)))
    published_hours_ago(lake, counted(45), 3)  # of today, too: not what is compared with
    published_hours_ago(lake, counted(50), 0)
    lake.close()
    since = next(part.html for part in page.parts() if part.name == "since")
    assert "Admissions 40 → 50 (+25.0\N{NO-BREAK SPACE}%)" in since
    assert "moved by second.csv (10 created)" in since
    page.show_to("released")
    assert "→" not in page.frame(page.parts()), "nothing of it was released"


def test_a_dropped_notebook_is_a_section_of_the_patients_page(own: Settings) -> None:
    page = Patients(own)
    shown = page.frame(page.parts())
    assert 'aria-labelledby="panel-title-own"' in shown
    assert " admissions.</p>" in shown
    page.choose({"gender": "female"})
    assert "not narrowed" in page.frame(page.parts())


def test_methods_and_small_moves_are_not_told() -> None:
    before = counted(1000, p_value=0.01, mase=0.5, share_percent=20.0, none=0.0, beds=10.0)
    after = counted(1004, p_value=0.9, mase=0.9, share_percent=30.0, none=3.0, beds=20.0)
    assert told_numbers(before, after) == ("None 0 → 3", "Beds 10 → 20 (+100.0 %)", "Share 20 → 30 %")


def test_alerts_are_surges_failures_and_a_refused_delivery() -> None:
    rows = (*(("surge", f"Flu {n}: 9 <i>admissions</i>.") for n in range(MOST_SURGES + 2)), ("above", "Cold."))
    table = Table(title="Alerts", columns=("state", "says"), rows=rows)
    surges = counted(1).model_copy(update={"tables": {"alerts": table}})
    line = DeliveryLine("d1", "<b>x.csv", "refused", "EMPTY_FILE", "It is empty.", 0, 0, 0, 0, 0, None)
    shelf = (
        Published("illness_surge_prediction", "Surges", Freshness.CURRENT, result=surges),
        Published("a", "Stale <one>", Freshness.STALE, "The run failed: out of memory"),
        Published("b", "Failed", Freshness.FAILED, "Cell 3 failed"),
    )
    found = alerts(View(shelf=shelf, deliveries=(line,)))
    assert [one.kind for one in found] == ["surge"] * (MOST_SURGES + 1) + ["stale", "failed", "refused"]
    assert found[MOST_SURGES].says == "2 further series."
    assert alerts(View(shelf=shelf[:1], deliveries=()))[-1].kind == "surge"
    assert alerts(View()) == []


def test_no_surge_is_only_said_where_none_can_be_withheld() -> None:
    quiet = counted(1).model_copy(update={"tables": {}})
    shelf = (Published("illness_surge_prediction", "Surges", Freshness.CURRENT, result=quiet),)
    assert watched(View(shelf=shelf))
    assert not watched(View(shelf=shelf, is_whole=False))
    said = render("alerts.html", found=[], is_watched=False, is_whole=False)
    assert "No watched series" not in said
    assert "roles that see whole results" in said
