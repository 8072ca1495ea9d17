"""Beds with more admissions or longer stays: against the census without change, and what cannot be asked."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from medisync.analyses.bed_what_if import BedChange, BedOutlook, bed_outlook, bed_what_if
from medisync.analyses.patient_volume_prediction import Inputs, Params
from medisync.analyses.reported import Reported
from medisync.errors import NoDataError

DAYS = 2 * 52 * 7
FIRST = dt.date(2022, 1, 3)


def inputs(*, ended: bool = True) -> Inputs:
    """Two years of about 20 admissions a day, stays of 0 to 9 nights, 100 patients in now."""
    rng = np.random.default_rng(1)
    daily = pd.DataFrame({"day": pd.date_range(FIRST, periods=DAYS), "admissions": rng.poisson(20, DAYS)})
    over = pd.DataFrame({"nights": range(10), "ended": ended, "stays": 100})
    present = pd.DataFrame({"nights": range(5), "ended": False, "stays": 20})
    until = FIRST + dt.timedelta(days=DAYS - 1)
    nothing = pd.DataFrame()
    known = Reported(first_day=FIRST, until=until, last_day=until)
    return Inputs(daily, daily, pd.concat([over, present]), nothing, {}, FIRST, known)


@pytest.fixture(scope="module")
def outlook() -> BedOutlook:
    return bed_outlook(inputs(), Params(method="mean"))


def highest(outlook: BedOutlook, **change: int) -> float:
    found = bed_what_if(outlook, BedChange(**change)).metrics["beds_occupied_highest_mean"]
    assert isinstance(found, float)
    return found


def test_more_admissions_and_longer_stays_fill_beds_in_proportion(outlook: BedOutlook) -> None:
    last = {
        change.admissions_percent * 1000 + change.stay_percent: bed_what_if(outlook, change).frame("census")["mean"][
            -7:
        ]
        for change in (BedChange(), BedChange(50), BedChange(0, 50), BedChange(50, 50))
    }
    settled = last[0].mean()
    assert last[50_000].mean() == pytest.approx(1.5 * settled, rel=0.05)
    assert last[50].mean() == pytest.approx(1.5 * settled, rel=0.05)
    assert last[50_050].mean() == pytest.approx(2.25 * settled, rel=0.05)


def test_the_sentence_tells_the_change_and_the_probability(outlook: BedOutlook) -> None:
    plain = bed_what_if(outlook, BedChange())
    assert plain.headline.startswith("As forecast, on the fullest of the next 56 nights about ")
    assert "probability" not in plain.headline
    assert plain.metrics["beds_occupied_now"] == 100
    beds = round(float(plain.metrics["beds_occupied_highest_mean"] or 0))
    more = bed_what_if(outlook, BedChange(20, -10, beds))
    assert more.headline.startswith("With 20 % more admissions and stays 10 % shorter on the fullest")
    assert f"More than {beds} are needed on one night or more with probability" in more.headline
    assert "mean_without_change" in more.tables["census"].columns
    assert more.figures[0].alt.endswith(f"a line marks {beds:,} beds.")
    assert "above 99 %" in bed_what_if(outlook, BedChange(beds=0)).headline
    assert "below 1 %" in bed_what_if(outlook, BedChange(beds=100_000)).headline


def test_where_no_stay_has_ended_it_is_said() -> None:
    with pytest.raises(NoDataError, match="No stay has ended"):
        bed_what_if(bed_outlook(inputs(ended=False), Params(method="mean")), BedChange(10))
