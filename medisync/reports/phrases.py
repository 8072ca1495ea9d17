"""Moments, dates, states and findings in words: the same on pages, in reports and in messages."""

from __future__ import annotations

import datetime as dt
import re

from medisync.analyses.contract import Finding
from medisync.runs.published import Freshness

STATE_WORDS = {
    Freshness.CURRENT: "Current",
    Freshness.UPDATING: "Updating",
    Freshness.STALE: "Out of date",
    Freshness.FAILED: "Failed",
    Freshness.NEVER: "No run yet",
}

FINDING_WORDS = {
    Finding.SIGNAL: "A finding beyond chance",
    Finding.NOTHING: "Nothing beyond chance",
    Finding.DESCRIPTION: "Description",
    Finding.TOO_LITTLE: "Too little data to say",
}


def when(moment: dt.datetime | None, zone: dt.tzinfo | None = None) -> str:
    """A moment for people, such as ``7 Nov 2024, 10:15 CET``; UTC when it has no zone.

    ``zone`` defaults to the machine's own.
    """
    if moment is None:
        return "never"
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    local = aware.astimezone(zone)
    return f"{day(local)}, {local:%H:%M %Z}".rstrip()


def day(date: dt.date | None) -> str:
    """A date for people, such as ``7 Nov 2024``."""
    return "–" if date is None else f"{date.day} {date:%b %Y}"


def tied(sentence: str) -> str:
    """``sentence`` with what belongs to a number on its line: ``20 %``, ``p = 0.73``."""
    return re.sub(r"(?<=\d) (?=%)| (?=[=<>] \d)|(?<= [=<>]) (?=\d)", "\N{NO-BREAK SPACE}", sentence)


def iso(moment: dt.datetime | dt.date) -> str:
    """The machine's form of a date or moment, for ``<time datetime>``."""
    if isinstance(moment, dt.datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).isoformat(timespec="seconds")
    return moment.isoformat()
