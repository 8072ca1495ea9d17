"""Was a source silent because nothing happened, or because it did not report?"""

from __future__ import annotations

import datetime as dt

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
