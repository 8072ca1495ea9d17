"""Was a source silent because nothing happened, or because it did not report?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medisync.errors import SeriesError

SMALLEST_CHANCE = 1e-6
"""A silence less likely than this, at the source's usual rate, is taken for a gap in reporting."""


def reporting_days(daily: pd.DataFrame, first_day: dt.date, last_day: dt.date) -> pd.DatetimeIndex:
    """The days from ``first_day`` to ``last_day`` on which a source was reporting.

    ``daily`` has columns ``day, admissions``, the days with any. A run of empty days counts as reported if a Poisson
    process with the source's mean for each weekday (over the days not in doubt) leaves it empty with a chance of one in
    a million or more: a small ward has quiet weeks, a closed one has none at weekends, a large hospital falls silent
    only when its files do not arrive. Raises :class:`~medisync.errors.SeriesError` if the last day is before the first.
    """
    if last_day < first_day:
        raise SeriesError("The last day lies before the first.")
    calendar = pd.date_range(first_day, last_day)
    counts = daily.groupby("day")["admissions"].sum()
    counts.index = pd.DatetimeIndex(counts.index)
    seen = counts.reindex(calendar, fill_value=0).to_numpy(dtype=float)
    weekday = calendar.day_of_week.to_numpy()
    run = np.cumsum(np.diff(seen > 0, prepend=False))  # the number of the run of empty or busy days a day lies in
    silent = np.zeros(len(seen), dtype=bool)
    for _ in range(3):  # each round leaves the gaps found before out of the usual rates
        total = np.bincount(weekday[~silent], weights=seen[~silent], minlength=7)
        usual = total / np.maximum(np.bincount(weekday[~silent], minlength=7), 1)
        expected = np.bincount(run, weights=np.where(seen > 0, 0.0, usual[weekday]))
        found = (seen == 0) & (expected[run] > -np.log(SMALLEST_CHANCE))
        if np.array_equal(found, silent):
            break
        silent = found
    return calendar[~silent]


RATE_DAYS = 56
"""A unit's usual number of admissions is that of its last eight weeks."""
LONGEST_WAIT_DAYS = 28
"""A unit that has been silent for longer is no longer waited for: the others would have no numbers meanwhile."""


@dataclass(frozen=True)
class Silence:
    """A source or site whose last admission lies too far back to be chance."""

    name: str
    last_day: dt.date
    usual_per_week: float
    is_waited_for: bool  # False: silent for longer than LONGEST_WAIT_DAYS


def silences(recent: pd.DataFrame, last_day: dt.date) -> tuple[Silence, ...]:
    """The units (sources, sites) that lag behind ``last_day``, the last day of all, more than chance explains.

    ``recent`` has columns ``unit, last_day, weekday, admissions``: each unit's own last day, and its admissions on
    each weekday (Monday is 0) of the 56 days that end with it. As in :func:`reporting_days`, days without an admission
    are a silence where a Poisson process with the unit's usual rate leaves them empty less often than once in a
    million times. Sorted by name. Raises :class:`~medisync.errors.SeriesError` if a column is missing.
    """
    missing = {"unit", "last_day", "weekday", "admissions"} - set(recent.columns)
    if missing:
        raise SeriesError(f"Columns are missing: {', '.join(sorted(missing))}.")
    found = []
    for unit, rows in recent.groupby("unit", sort=True):
        own_last = pd.Timestamp(rows["last_day"].iloc[0])
        silent = pd.date_range(own_last + pd.Timedelta(days=1), last_day).day_of_week.to_numpy()
        counts = np.bincount(rows["weekday"].astype(int), weights=rows["admissions"].astype(float), minlength=7)
        usual = 7 * counts / RATE_DAYS
        if usual[silent].sum() > -np.log(SMALLEST_CHANCE):
            is_waited_for = len(silent) <= LONGEST_WAIT_DAYS
            found.append(Silence(str(unit), own_last.date(), float(usual.sum()), is_waited_for))
    return tuple(found)


def complete_until(lagging: Iterable[Silence], last_day: dt.date) -> dt.date:
    """The last day all units have reported, those left aside that are no longer waited for."""
    return min([one.last_day for one in lagging if one.is_waited_for], default=last_day)
