"""Odd data have a sensible face on every page: one row, two hundred long names, markup, right-to-left, twenty years."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from medisync import intake
from medisync.dashboards.chosen import ChoosingPage
from medisync.dashboards.data import Data
from medisync.dashboards.forecasts import Forecasts
from medisync.dashboards.overview import Overview
from medisync.dashboards.patients import Patients
from medisync.dashboards.surges import Surges
from medisync.errors import NoDataError
from medisync.lake import Lake
from medisync.runs import planning
from medisync.settings import Settings
from tests.support.admissions_csv import admission, write_csv
from tests.support.published import computed, publish_result

PAGES: tuple[type[Overview | ChoosingPage], ...] = (Overview, Forecasts, Surges, Patients, Data)
SHOWN = ("illness_surge_prediction", "medication_analysis", "patient_volume_prediction")
LONG = "disorder of the very long name that no column was ever made for " * 2
RIGHT_TO_LEFT = "دخول المستشفى"


def workspace_of(folder: Path, rows: list[dict[str, str]]) -> Settings:
    """A workspace with ``rows`` and the results of the analyses that pages choose from; one of them failed later."""
    settings = Settings(data=folder / "data", reports=folder / "reports")
    lake = Lake(settings)
    intake.ingest(lake, write_csv(folder / f"<b>{RIGHT_TO_LEFT}.csv", rows))
    plans = {one.analysis: one for one in planning.plan(lake) if one.analysis in SHOWN}
    for plan in plans.values():
        try:
            found = computed(settings, plan)
        except NoDataError:  # a run of it fails, then
            found = None
        publish_result(lake, plan, found)
    publish_result(lake, plans["medication_analysis"], None)
    publish_result(lake, next(one for one in planning.plan(lake) if one.analysis == "patient_demographics"), None)
    lake.close()
    return settings


def one_row() -> list[dict[str, str]]:
    return [admission(1, Hospital="<img src=x onerror=alert(1)>")]


def two_hundred_conditions_over_twenty_years() -> list[dict[str, str]]:
    first = dt.date(2004, 1, 1)
    rows = []
    for number in range(1200):
        name = f"{RIGHT_TO_LEFT} {number % 200}" if number % 3 else f"<i>{LONG}{number % 200}"
        day = first + dt.timedelta(days=number * 6)
        out = {"Date_of_Admission": str(day), "Discharge_Date": str(day + dt.timedelta(days=3))}
        rows.append(admission(number, Medical_Condition=name, Hospital="<img src=x>", Medication=name, **out))
    return rows


@pytest.fixture(
    scope="module", params=[one_row, two_hundred_conditions_over_twenty_years], ids=lambda one: one.__name__
)
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return workspace_of(tmp_path_factory.mktemp("odd"), request.param())


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_a_sensible_face(odd: Settings, page: type[Overview | ChoosingPage]) -> None:
    made = page(odd)
    parts = made.parts()
    shown = made.frame(parts)
    assert not re.search(r"<img|<i>|<b>", shown), "what comes from outside stays text"
    assert "could not be read" not in shown
    assert " nan" not in re.sub(r"<svg.*?</svg>", "", shown, flags=re.S).casefold()
    assert len({part.name for part in parts}) == len(parts)
    assert len(shown) < 3_000_000
    if page is not Forecasts:  # a failed analysis and a stale one say so and why
        assert "Out of date" in shown or page is Surges
    if page is Data:
        assert shown.count("Cell 4 raised KeyError") >= 2


@pytest.mark.parametrize("page", [Forecasts, Patients, Data])  # surges has controls once there is a week
def test_an_unknown_filter_and_value_are_left_out_and_said(odd: Settings, page: type[ChoosingPage]) -> None:
    made = page(odd)
    made.choose({"site": "<script>", "nothing": "x", "analysis": "; DROP"})
    shown = made.frame(made.parts())
    assert "Not a choice here, and left out: " in shown
    assert "<script>" not in shown
    assert "DROP" not in shown
