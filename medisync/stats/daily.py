"""Daily counts: weekday, time of year and holidays in one regression, and what is left over smoothed.

The "double seasonal" pattern of hospital days (Jones et al. 2008, Academic Emergency Medicine 15, 159-170, found such a
regression hard to beat), on the square-root scale; the level left over follows simple exponential smoothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.stats.series import checked_horizon
from medisync.stats.theta import simple_smoothing

Floats = NDArray[np.float64]

YEAR_HARMONICS = 3
DAYS_PER_YEAR = 365.25
RIDGE = 0.5
"""Penalty: each effect starts as if it had been seen at 0 on half a day. The noise of a Poisson count has variance 1/4
on the square-root scale, so that effects of about 0.7 there, as on many wards, are shrunk as they should be."""
SHORTEST_FOR_YEAR = 548
"""Days of history (1.5 years) before the time of year has a say."""


def daily_regression_forecasts(
    values: Floats,
    periods: pd.DatetimeIndex,
    horizon: int,
    origins: NDArray[np.intp],
    *,
    holidays: Iterable[dt.date] | None = None,
) -> Floats:
    """Point forecasts (n, k, horizon) from each of ``origins`` (k,), using only the columns of ``values`` before each.

    ``values`` (n, t) belong to the days ``periods`` (t,). ``holidays`` defaults to :func:`public_holidays`.
    """
    horizon = checked_horizon(horizon)
    n = len(values)
    days = pd.date_range(periods[0], periods=len(periods) + horizon)
    design = _design(days, public_holidays(days[0].year, days[-1].year) if holidays is None else holidays)
    root = np.sqrt(values)
    forecast = np.full((n, len(origins), horizon), np.nan)
    for j, origin in enumerate(origins):
        known = np.isfinite(root[:, :origin])
        columns = design.shape[1] if origin >= SHORTEST_FOR_YEAR else design.shape[1] - 2 * YEAR_HARMONICS
        past, ahead = design[:origin, :columns], design[origin : origin + horizon, :columns]
        weight = known.astype(float)
        outer = np.einsum("tp,tq->tpq", past, past).reshape(origin, -1)
        penalty = RIDGE * np.eye(columns)
        penalty[0, 0] = 1e-9
        gram = (weight @ outer).reshape(n, columns, columns) + penalty
        moments = np.where(known, root[:, :origin], 0.0) @ past
        effects = np.linalg.solve(gram, moments[:, :, None])[:, :, 0]
        _, level = simple_smoothing(root[:, :origin] - effects @ past.T)
        forecast[:, j] = np.maximum(effects @ ahead.T + level[:, None], 0.0) ** 2
    return forecast


def public_holidays(first_year: int, last_year: int) -> tuple[dt.date, ...]:
    """New Year's Day, Good Friday, Easter Monday, 25 and 26 December of each year.

    The days on which hospitals of most countries with a western calendar admit fewest; pass a country's own list where
    it matters.
    """
    found = []
    for year in range(first_year, last_year + 1):
        easter = easter_sunday(year)
        found += [
            dt.date(year, 1, 1),
            easter - dt.timedelta(days=2),
            easter + dt.timedelta(days=1),
            dt.date(year, 12, 25),
            dt.date(year, 12, 26),
        ]
    return tuple(found)


def easter_sunday(year: int) -> dt.date:
    """Western Easter: the anonymous Gregorian computus (Meeus 1991, "Astronomical Algorithms", chapter 8)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return dt.date(year, month, day + 1)


def _design(days: pd.DatetimeIndex, holidays: Iterable[dt.date]) -> Floats:
    """Regressors (t, p): constant, six weekdays, holiday, then the time of year."""
    weekday = days.day_of_week.to_numpy()
    holiday = days.isin(pd.DatetimeIndex([pd.Timestamp(day) for day in holidays])).astype(float)
    angle = 2 * np.pi * (days - pd.Timestamp("2000-01-01")).days.to_numpy() / DAYS_PER_YEAR
    columns = [np.ones(len(days)), *((weekday == day) - 1 / 7 for day in range(1, 7)), holiday]
    columns += [wave(k * angle) for k in range(1, YEAR_HARMONICS + 1) for wave in (np.sin, np.cos)]
    return np.stack([np.asarray(one, dtype=float) for one in columns], axis=1)
