"""When deliveries are expected, by the calendar a source's file gives."""

from __future__ import annotations

import datetime as dt
import zoneinfo

from medisync.intake.sources import Reporting, SourceError, load_source
from medisync.settings import Settings

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MOST_PERIODS = 1_000
"""Who has been silent for longer is not counted further."""


def local(moment: dt.datetime, zone: str | None) -> dt.datetime:
    """``moment``, UTC without a zone, as the clocks of ``zone`` show it; as it is without one."""
    if zone is None:
        return moment
    return moment.replace(tzinfo=dt.UTC).astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)


def is_day_off(reporting: Reporting, day: dt.date) -> bool:
    """Whether nothing is expected on ``day``: a holiday, or none of the weekdays where these are named."""
    return day in reporting.holidays or bool(reporting.weekdays and WEEKDAYS[day.weekday()] not in reporting.weekdays)


def missed(reporting: Reporting, last: dt.datetime, now: dt.datetime) -> int:
    """How many expected deliveries did not come between the one at ``last`` and ``now``, both local times.

    Counted are whole hours, days, weeks or months between theirs; hours and days off are not. Without ``every`` a
    source with weekdays delivers daily, and one without is never late.
    """
    every = reporting.every or ("day" if reporting.weekdays else None)
    if every is None:
        return 0
    number, period = 0, _next(every, _start(every, last))
    for _ in range(MOST_PERIODS):
        if period >= _start(every, now):
            break
        number += every in ("week", "month") or not is_day_off(reporting, period.date())
        period = _next(every, period)
    return number


def missed_by(settings: Settings, source: str, last: dt.datetime | None, now: dt.datetime | None = None) -> int:
    """How many deliveries of ``source`` are missing since ``last``, both UTC; none of one whose file is wrong."""
    try:
        described = load_source(settings, source)
    except SourceError:
        return 0
    if last is None:
        return 0
    moment = now or dt.datetime.now(dt.UTC).replace(tzinfo=None)
    return missed(described.reporting, local(last, described.time_zone), local(moment, described.time_zone))


def _start(every: str, moment: dt.datetime) -> dt.datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if every == "hour":
        return hour
    day = hour.replace(hour=0)
    if every == "week":
        return day - dt.timedelta(days=day.weekday())
    return day.replace(day=1) if every == "month" else day


def _next(every: str, period: dt.datetime) -> dt.datetime:
    if every == "month":
        return (period + dt.timedelta(days=32)).replace(day=1)
    return period + {"hour": dt.timedelta(hours=1), "day": dt.timedelta(days=1)}.get(every, dt.timedelta(days=7))
