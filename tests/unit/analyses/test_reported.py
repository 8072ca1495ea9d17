"""Sources and sites that report later than others: what comes after is too low, and said to be."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from medisync.analyses import patient_volume_prediction as volume
from medisync.analyses.reported import reported
from medisync.errors import SeriesError
from medisync.stats.reporting import complete_until, silences
from tests.support.memory_lake import MemoryLake, empty_lake, lake_of, sample_lake

LAST = dt.date(2024, 6, 30)


def admissions(site: str | None, until: dt.date, *, a_day: int = 4, source: str = "test") -> pd.DataFrame:
    days = pd.date_range("2023-12-04", until).repeat(a_day)
    return pd.DataFrame(
        {"patient": [f"{site}{i}" for i in range(len(days))], "admitted_at": days, "site": site, "of": source}
    )


def lake(*parts: pd.DataFrame) -> MemoryLake:
    rows = pd.concat(parts, ignore_index=True)
    made = lake_of(rows.drop(columns="of"))
    sources = {one: int((rows["of"] == one).sum()) for one in rows["of"].unique()}
    for source in sources:  # rows keep their order: md5('admission' || row_id) is the key
        keys = rows.index[rows["of"] == source] + 1
        made.connection.execute(
            "UPDATE clinical.admissions SET source = ? WHERE admission_key IN "
            "(SELECT md5('admission' || unnest(?::BIGINT[]))::UUID)",
            [source, keys.tolist()],
        )
    return made


def test_all_on_time() -> None:
    known = reported(lake(admissions("North", LAST), admissions("South", LAST)))
    assert known is not None
    assert (known.until, known.last_day, known.lagging, known.notes()) == (LAST, LAST, (), ())
    assert reported(empty_lake()) is None
    sample = reported(sample_lake())
    assert sample is not None
    assert sample.until == sample.last_day  # thousands of tiny sites: none of them lags noticeably


def test_a_late_site_holds_the_numbers_back_and_is_named() -> None:
    late = LAST - dt.timedelta(days=8)
    made = lake(admissions("North", LAST), admissions("South", late))
    known = reported(made)
    assert known is not None
    assert (known.until, known.last_day) == (late, LAST)
    [note] = known.notes()
    assert "South until 22 June 2024 only" in note
    assert "North" not in note
    on_its_own, other = reported(made, site="South"), reported(made, site="North")
    assert on_its_own is not None
    assert on_its_own.until == late
    assert other is not None
    assert other.until == LAST


def test_the_last_week_is_left_out_where_a_site_has_not_reported_it() -> None:
    made = lake(admissions("North", LAST), admissions("South", LAST - dt.timedelta(days=5)))
    params = volume.Params()
    result = volume.compute(volume.load(made, params), params)
    assert result.frame("history")["period"].iloc[-1] == "2024-06-17"
    assert result.frame("history")["admissions"].iloc[-1] == 2 * 4 * 7
    assert result.data_until == LAST
    assert "numbers are taken up to 25 June 2024" in result.warnings[0]
    assert "The last period 2024-06-24 to 2024-06-30 is incomplete (2 of 7 days)" in result.warnings[1]


def test_a_late_source_is_named_and_not_each_of_its_sites() -> None:
    late = LAST - dt.timedelta(days=10)
    parts = [admissions("North", LAST), *(admissions(name, late, source="second") for name in ("East", "West"))]
    known = reported(lake(*parts))
    assert known is not None
    assert [one.name for one in known.lagging] == ["The source second"]
    assert known.until == late


def test_a_site_silent_for_long_is_no_longer_waited_for() -> None:
    closed = LAST - dt.timedelta(days=60)
    known = reported(lake(admissions("North", LAST), admissions("South", closed)))
    assert known is not None
    assert known.until == LAST
    [note] = known.notes()
    assert note.startswith("South has reported nothing since 1 May 2024 (before: about 28 admissions a week)")


def test_a_small_ward_and_a_weekday_clinic_are_not_late() -> None:
    days = pd.date_range("2023-12-04", "2024-06-28")
    weekdays = days[days.day_of_week < 5].repeat(12)
    clinic = pd.DataFrame({"patient": "c", "admitted_at": weekdays, "site": "Clinic", "of": "test"})
    rare = admissions("Ward", LAST - dt.timedelta(days=9), a_day=1).iloc[::7]
    known = reported(lake(admissions("North", LAST), clinic, rare))  # the last day is a Sunday
    assert known is not None
    assert known.lagging == ()


def test_silences_by_hand() -> None:
    recent = pd.DataFrame(
        {"unit": "A", "last_day": pd.Timestamp("2024-06-28"), "weekday": np.arange(7), "admissions": [80] * 5 + [8] * 2}
    )
    assert silences(recent, dt.date(2024, 6, 30)) == ()  # a weekend: 2 expected
    [found] = silences(recent, dt.date(2024, 7, 2))  # and two weekdays: 22
    assert found.usual_per_week == pytest.approx(52)
    assert complete_until([found], dt.date(2024, 7, 2)) == dt.date(2024, 6, 28)
    with pytest.raises(SeriesError, match="weekday"):
        silences(recent.drop(columns="weekday"), LAST)
