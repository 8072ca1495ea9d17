"""The one contract for time series: what a series is, which calendar it lives on, and what is wrong with it.

Every function of this package that takes series takes either the long frame ``unique_id, ds, y`` (one row per series
and period) or the :class:`Panel` that :func:`regular_panel` makes of it. The rules:

* Frequencies are ``daily``, ``weekly`` (ISO weeks, starting on Monday) and ``monthly``. ``ds`` may be any day of its
  period; it is moved to the period's first day. Two rows of one series in one period are an error.
* A period without a row is 0 where the source was reporting in it, otherwise missing (NaN), never silently 0.
* The first and last period are dropped, and labelled, when the data do not cover all of their days.
* ``y`` is a count or rate: finite and not negative, or NaN for missing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError

Floats = NDArray[np.float64]
Frequency = Literal["daily", "weekly", "monthly"]
COLUMNS = ("unique_id", "ds", "y")

SEASON: Mapping[str, int] = {"daily": 7, "weekly": 52, "monthly": 12}
"""Periods in one season; daily data have a second, yearly one that the daily regression covers."""

LONGEST_HISTORY: Mapping[str, int] = {"daily": 1826, "weekly": 520, "monthly": 240}
"""Older periods are ignored by forecasts: 5 years of days, 10 of weeks, 20 of months."""

LONGEST_HORIZON = 366
SHORTEST_HISTORY = 8
"""With fewer observations nothing but their mean is offered."""

LARGEST_MISSING_SHARE = 0.2
INTERMITTENT_SHARE = 0.25
"""Share of zeros from which on demand is called intermittent: a mean interval of 1.32 periods between events, after
Syntetos, Boylan and Croston (2005), Journal of the Operational Research Society 56, 495-503."""
BY_CHANCE = 1e-6
"""Zeros at the beginning that a Poisson process with the later rate shows less often are not taken for chance."""
_OFFSETS = {"daily": "D", "weekly": "W-MON", "monthly": "MS"}


class SeriesFlag(StrEnum):
    """What a reader of a series' forecast must know."""

    EMPTY = "empty"  # not one observation: the forecast is missing
    TOO_SHORT = "too-short"  # fewer than SHORTEST_HISTORY observations: the mean, with count-based intervals
    ALL_ZERO = "all-zero"  # nothing but zeros
    CONSTANT = "constant"  # one value only, not 0
    GAPPY = "gappy"  # more than LARGEST_MISSING_SHARE of its periods are missing
    STALE = "stale"  # the last period is missing, so the forecast reaches further than the horizon says
    LOW_COUNT = "low-count"  # fewer than one event a period on average: negative-binomial quantiles
    INTERMITTENT = "intermittent"  # zeros scattered among more: their mean, with negative-binomial quantiles
    LATE_START = "late-start"  # zeros at the beginning, more than chance explains: forecasts leave them out


SELDOM = frozenset({SeriesFlag.LOW_COUNT, SeriesFlag.INTERMITTENT})
"""Flags of series whose expected number is forecast, and whose quantiles are those of counts."""


@dataclass(frozen=True)
class DroppedPeriod:
    """A period at the edge of the data that was left out since only part of its days is covered."""

    start: dt.date
    end: dt.date
    days_covered: int
    edge: Literal["first", "last"]

    def __str__(self) -> str:
        days = (self.end - self.start).days + 1
        which = f"{self.edge} period {self.start.isoformat()} to {self.end.isoformat()}"
        return f"The {which} is incomplete ({self.days_covered} of {days} days) and was left out."


@dataclass(frozen=True)
class Panel:
    """``n`` series on one regular calendar of ``t`` periods.

    ``values`` has shape (n, t), NaN where missing; ``periods`` (t,) are the periods' first days; ``ids`` (n,);
    ``flags`` one tuple per series; ``dropped`` the incomplete periods left out at either end.
    """

    ids: tuple[str, ...]
    periods: pd.DatetimeIndex
    values: Floats
    frequency: Frequency
    flags: tuple[tuple[SeriesFlag, ...], ...]
    dropped: tuple[DroppedPeriod, ...] = ()

    @property
    def season(self) -> int:
        """Periods in one season."""
        return SEASON[self.frequency]

    def future(self, horizon: int) -> pd.DatetimeIndex:
        """First days of the ``horizon`` periods after the last one."""
        return pd.date_range(self.periods[-1], periods=horizon + 1, freq=_OFFSETS[self.frequency])[1:].as_unit("s")

    def until(self, periods: int) -> Panel:
        """The panel as it was after its first ``periods`` periods."""
        values = self.values[:, :periods]
        flags = tuple(series_flags(one) for one in values)
        return replace(self, values=values, periods=self.periods[:periods], flags=flags)

    def frame(self) -> pd.DataFrame:
        """The long frame ``unique_id, ds, y`` on the regular calendar, missing periods included."""
        n, length = self.values.shape
        return pd.DataFrame(
            {
                "unique_id": np.repeat(np.asarray(self.ids, dtype=object), length),
                "ds": np.tile(self.periods.to_numpy(), n),
                "y": self.values.ravel(),
            }
        )


def checked_frequency(frequency: str) -> Frequency:
    """``frequency`` if it is known, else :class:`~medisync.errors.ParameterError`."""
    if frequency not in get_args(Frequency):
        raise ParameterError("Unknown frequency.", hint=f"Use one of: {', '.join(get_args(Frequency))}.")
    return frequency  # type: ignore[return-value]


def checked_horizon(horizon: int) -> int:
    """``horizon`` in periods if it is a whole number from 1 to 366, else :class:`ParameterError`."""
    whole = isinstance(horizon, (int, np.integer)) and not isinstance(horizon, bool)
    if not whole or not 1 <= horizon <= LONGEST_HORIZON:
        raise ParameterError(f"The horizon must be a whole number of periods from 1 to {LONGEST_HORIZON}.")
    return int(horizon)


def checked_days(days: pd.Series) -> pd.Series:
    """``days`` (dates, timestamps or ISO text) without a time zone, or :class:`~medisync.errors.SeriesError`."""
    try:
        if pd.api.types.infer_dtype(days) not in ("date", "datetime", "datetime64", "string"):
            raise TypeError
        is_time = pd.api.types.is_datetime64_any_dtype(days)
        parsed = days if is_time else pd.to_datetime(days, format="ISO8601")
        if parsed.isna().any():
            raise ValueError
        return parsed.dt.tz_localize(None).dt.as_unit("s")
    except (ValueError, TypeError, OverflowError, AttributeError):
        raise SeriesError("The column ds holds something that is not a date.") from None


def period_start(days: pd.Series | pd.DatetimeIndex, frequency: Frequency) -> pd.DatetimeIndex:
    """First day of the period each day lies in."""
    index = pd.DatetimeIndex(days).tz_localize(None).normalize()
    if frequency == "weekly":
        index = index - pd.to_timedelta(index.day_of_week, unit="D")
    elif frequency == "monthly":
        index = index - pd.to_timedelta(index.day - 1, unit="D")
    return index.as_unit("s")


def period_end(start: pd.Timestamp, frequency: Frequency) -> pd.Timestamp:
    """Last day of the period that begins on ``start``."""
    if frequency == "monthly":
        return start + pd.offsets.MonthEnd(0)
    return start + pd.Timedelta(days=6 if frequency == "weekly" else 0)


def periods_between(earlier: pd.Series, later: pd.Series, frequency: Frequency) -> NDArray[np.int64]:
    """How many periods each day of ``later`` lies after that of ``earlier``, both first days of a period."""
    begin, end = pd.DatetimeIndex(earlier), pd.DatetimeIndex(later)
    if frequency == "monthly":
        return np.asarray(12 * (end.year - begin.year) + end.month - begin.month, dtype=np.int64)
    return np.asarray((end - begin).days // (7 if frequency == "weekly" else 1), dtype=np.int64)


def regular_panel(
    frame: pd.DataFrame,
    frequency: str,
    *,
    reporting: Iterable[object] | Mapping[str, Iterable[object]] | None = None,
    covered_from: dt.date | None = None,
    covered_until: dt.date | None = None,
) -> Panel:
    """Check a long frame and put its series on one regular calendar.

    ``reporting`` are days (any day of a period) in which the source sent data, for all series or by ``unique_id``;
    a period without a row is 0 there and missing elsewhere. ``covered_from`` and ``covered_until`` are the first and
    the last day the data cover; given, incomplete periods at the edges are dropped and labelled.

    Raises :class:`~medisync.errors.SeriesError` (columns, dates, duplicates, negative or infinite values, nothing
    left) and :class:`~medisync.errors.ParameterError` (frequency).
    """
    every = checked_frequency(frequency)
    starts, ids, y = _checked_columns(frame, every)
    reported = _reported(reporting, ids, every)
    everything = [starts, *reported.values()]
    first, last = min(one.min() for one in everything if len(one)), max(one.max() for one in everything if len(one))
    if (last - first).days > 366 * 200:
        raise SeriesError("The series span more than 200 years.", hint="Look for mistyped years.")
    calendar = pd.date_range(first, last, freq=_OFFSETS[every]).as_unit("s")
    names, row = np.unique(ids, return_inverse=True)
    values = np.full((len(names), len(calendar)), np.nan)
    for i, name in enumerate(names):
        if name in reported:
            values[i, calendar.get_indexer(reported[name])] = 0.0
    column = calendar.get_indexer(starts)
    values[row, column] = y
    dropped = _incomplete(calendar, every, covered_from, covered_until)
    keep = np.ones(len(calendar), dtype=bool)
    for one in dropped:
        keep[0 if one.edge == "first" else -1] = False
    if not keep.any():
        raise SeriesError("No complete period is left.", hint="Wait for more data, or use a finer frequency.")
    return Panel(
        ids=tuple(str(name) for name in names),
        periods=calendar[keep],
        values=values[:, keep],
        frequency=every,
        flags=tuple(series_flags(one) for one in values[:, keep]),
        dropped=dropped,
    )


def panel_of(values: Floats, frequency: str, *, first_day: str = "2000-01-03", ids: Iterable[str] = ()) -> Panel:
    """A panel of ``values`` (n, t) that are on a regular calendar already, NaN where missing, from ``first_day`` on.

    Raises :class:`~medisync.errors.SeriesError` for negative or infinite values or an empty array.
    """
    every = checked_frequency(frequency)
    given = np.atleast_2d(np.asarray(values, dtype=float))
    if given.size == 0 or np.isinf(given).any() or (given < 0).any():
        raise SeriesError("A panel needs finite values that are at least 0, or NaN for missing.")
    first = period_start(pd.DatetimeIndex([first_day]), every)[0]
    names = tuple(ids) or tuple(str(i) for i in range(len(given)))
    calendar = pd.date_range(first, periods=given.shape[1], freq=_OFFSETS[every]).as_unit("s")
    return Panel(names, calendar, given, every, tuple(series_flags(one) for one in given))


def series_flags(values: Floats) -> tuple[SeriesFlag, ...]:
    """What is remarkable about one series (t,), NaN where missing."""
    known = np.isfinite(values)
    count = int(known.sum())
    if count == 0:
        return (SeriesFlag.EMPTY,)
    flags = []
    observed = values[known]
    span = len(values) - int(np.argmax(known))
    if count < SHORTEST_HISTORY:
        flags.append(SeriesFlag.TOO_SHORT)
    if not observed.any():
        flags.append(SeriesFlag.ALL_ZERO)
    elif count > 1 and np.ptp(observed) == 0:
        flags.append(SeriesFlag.CONSTANT)
    if 1 - count / span > LARGEST_MISSING_SHARE:
        flags.append(SeriesFlag.GAPPY)
    if not known[-1]:
        flags.append(SeriesFlag.STALE)
    if observed.mean() < 1:
        flags.append(SeriesFlag.LOW_COUNT)
    elif intermittent(values[None, :])[0]:
        flags.append(SeriesFlag.INTERMITTENT)
    if zeros_before_start(values[None, :])[0]:
        flags.append(SeriesFlag.LATE_START)
    return tuple(flags)


def intermittent(values: Floats) -> NDArray[np.bool_]:
    """Which series (n,) of ``values`` (n, t) have zeros, a quarter or more, scattered among other values.

    Scattered: zeros and others follow each other at least four fifths as often as in a random order. A season with
    zeros, a start or an end does not make a series intermittent.
    """
    known = np.isfinite(values)
    zero = known & (values == 0)
    share = zero.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    pairs = known[:, 1:] & known[:, :-1]
    changes = (pairs & (zero[:, 1:] != zero[:, :-1])).sum(axis=1) / np.maximum(pairs.sum(axis=1), 1)
    result: NDArray[np.bool_] = (share >= INTERMITTENT_SHARE) & (share < 1) & (changes >= 1.6 * share * (1 - share))
    return result


def zeros_before_start(values: Floats) -> NDArray[np.intp]:
    """How many columns (n,) of ``values`` (n, t) lie before a series can be taken to have begun.

    They hold zeros only, more than twice as many as ever again in a row, and so many that the mean rate afterwards
    would leave them empty by chance less often than once in a million times. Else 0.
    """
    result = np.zeros(len(values), dtype=np.intp)
    for i, row in enumerate(values):
        positive = np.flatnonzero(row > 0)
        leading = int((row[: positive[0]] == 0).sum()) if len(positive) else 0
        if leading < SHORTEST_HISTORY:
            continue
        later = row[positive[0] :]
        rate = float(later[np.isfinite(later)].mean())
        quiet = max(int(np.diff(positive).max(initial=1)) - 1, len(row) - 1 - int(positive[-1]))
        if leading > 2 * quiet and leading * rate > -np.log(BY_CHANCE):
            result[i] = positive[0]
    return result


def _checked_columns(frame: pd.DataFrame, frequency: Frequency) -> tuple[pd.DatetimeIndex, NDArray[np.object_], Floats]:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise SeriesError(f"Columns are missing: {', '.join(missing)}.", hint=f"Expected {', '.join(COLUMNS)}.")
    if frame.empty:
        raise SeriesError("The frame has no rows.", hint="A series needs at least one observation.")
    starts = period_start(checked_days(frame["ds"]), frequency)
    if frame["unique_id"].isna().any():
        raise SeriesError("The column unique_id has missing values.")
    ids = frame["unique_id"].astype(str).to_numpy(dtype=object)
    try:
        y = pd.to_numeric(frame["y"]).to_numpy(dtype=float, na_value=np.nan)
    except (ValueError, TypeError):
        raise SeriesError("The column y holds something that is not a number.") from None
    if np.isinf(y).any():
        raise SeriesError("The column y has infinite values.")
    if (y < 0).any():
        raise SeriesError("The column y has negative values.", hint="Counts and rates are at least 0.")
    repeated = int(pd.DataFrame({"id": ids, "ds": starts}).duplicated().sum())
    if repeated:
        raise SeriesError(
            f"{repeated} rows repeat a period of the same series.", hint="Aggregate to one row per series and period."
        )
    return starts, ids, y


def _reported(
    reporting: Iterable[object] | Mapping[str, Iterable[object]] | None, ids: NDArray[np.object_], frequency: Frequency
) -> dict[str, pd.DatetimeIndex]:
    """Reporting periods by series; series without an entry report nowhere beyond their rows."""
    if reporting is None:
        return {}
    try:
        if isinstance(reporting, Mapping):
            given = {
                str(name): period_start(pd.DatetimeIndex(list(days)), frequency) for name, days in reporting.items()
            }
        else:
            common = period_start(pd.DatetimeIndex(list(reporting)), frequency)
            given = dict.fromkeys(set(ids), common)
    except (ValueError, TypeError):
        raise SeriesError("The reporting days hold something that is not a date.") from None
    if any(days.isna().any() for days in given.values()):
        raise SeriesError("The reporting days hold something that is not a date.")
    return {name: days.unique() for name, days in given.items() if name in set(ids) and len(days)}


def _incomplete(
    calendar: pd.DatetimeIndex, frequency: Frequency, covered_from: dt.date | None, covered_until: dt.date | None
) -> tuple[DroppedPeriod, ...]:
    dropped = []
    first, first_end = calendar[0], period_end(calendar[0], frequency)
    last, last_end = calendar[-1], period_end(calendar[-1], frequency)
    begins = max(pd.Timestamp(covered_from), first) if covered_from is not None else first
    ends = min(pd.Timestamp(covered_until), last_end) if covered_until is not None else last_end
    if begins > first:
        days = max(0, (min(first_end, ends) - begins).days + 1)
        dropped.append(DroppedPeriod(first.date(), first_end.date(), days, "first"))
    if ends < last_end and (len(calendar) > 1 or not dropped):
        days = max(0, (ends - max(last, begins)).days + 1)
        dropped.append(DroppedPeriod(last.date(), last_end.date(), days, "last"))
    return tuple(dropped)
