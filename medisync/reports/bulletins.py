"""What is told without being asked for: the daily report, and a confirmed surge."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import Any

from medisync.analyses.contract import Finding
from medisync.lake import Lake
from medisync.reports import pack as packs
from medisync.reports.pack import KeptPack, Pack
from medisync.reports.phrases import FINDING_WORDS, STATE_WORDS, day
from medisync.reports.sending import Message, post, recipients
from medisync.runs.record import Outcome
from medisync.settings import Settings

SURGES = "illness_surge_prediction"


def utc_now() -> dt.datetime:
    """The moment, UTC without its zone."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def daily_report(lake: Lake, now: dt.datetime) -> KeptPack | None:
    """Make the pack and post it to whoever is to get it; None before the first result. ``now`` is UTC."""
    kept, pack = _refreshed(lake, now)
    if kept is not None and recipients(lake.settings):
        post(lake.settings, report_message(pack, kept), now)
    return kept


def refreshed_pack(lake: Lake, now: dt.datetime) -> KeptPack | None:
    """A pack of what is published now, a new one only when something differs from the newest; None without results."""
    return _refreshed(lake, now)[0]


def _refreshed(lake: Lake, now: dt.datetime) -> tuple[KeptPack | None, Pack]:
    pack = packs.collect(lake, now)
    if not any(section.one.result for section in pack.sections):
        return None, pack
    newest = next(iter(packs.kept_packs(lake.settings)), None)
    if newest is not None and newest.contents == pack.contents and newest.made_at.date() == now.date():
        return newest, pack
    return packs.write_pack(lake.settings, pack), pack


def report_message(pack: Pack, kept: KeptPack) -> Message:
    """The daily report as a message: every headline, the PDF attached."""
    lines = []
    for section in pack.sections:
        one = section.one
        words = [FINDING_WORDS[one.result.finding]] if one.result else []
        words += [STATE_WORDS[one.freshness]] if one.freshness != "current" else []
        lines.append(f"{one.title} ({'; '.join(words).lower()})\n{one.result.headline if one.result else one.reason}\n")
    text = (
        f"{pack.data.admissions:,} admissions from {day(pack.data.admitted_from)} to {day(pack.data.admitted_until)}, "
        f"snapshot {pack.data.snapshot_id}.\n\n" + "\n".join(lines)
    )
    details: dict[str, Any] = {
        "kind": "report",
        "pack": kept.name,
        "snapshot": pack.data.snapshot_id,
        "analyses": [
            {
                "analysis": section.one.analysis,
                "state": section.one.freshness.value,
                "finding": section.one.result.finding.value if section.one.result else None,
                "headline": section.one.result.headline if section.one.result else None,
                "run_id": section.one.record.run_id if section.one.record else None,
            }
            for section in pack.sections
        ],
    }
    subject = f"Hospital admissions, report of {day(pack.made_at.date())}"
    return Message(f"report {pack.made_at.date()}", subject, text, details, (kept.pdf,))


def surge_message(outcome: Outcome) -> Message | None:
    """What a run says of confirmed surges; None when it says nothing. The same surges are the same message."""
    result = outcome.result
    if outcome.record.analysis != SURGES or result is None or result.finding is not Finding.SIGNAL:
        return None
    alerts = result.tables.get("alerts")
    rows = [dict(zip(alerts.columns, row, strict=True)) for row in alerts.rows] if alerts else []
    confirmed = sorted(f"{row.get('condition')} {row.get('site')} {row.get('state')}" for row in rows)
    week = str(result.metrics.get("week") or result.data_until)
    key = hashlib.sha256("\n".join([week, *confirmed]).encode()).hexdigest()[:16]
    text = "\n".join(
        [result.headline, "", *(str(row["says"]) for row in rows if row.get("says")), "", *result.warnings]
    )
    details = {"kind": "surge", "run_id": outcome.record.run_id, "snapshot": outcome.record.snapshot_id, "alerts": rows}
    return Message(f"surge {key}", "Surge confirmed", text, details)


def post_surges(settings: Settings, outcomes: Iterable[Outcome], now: dt.datetime) -> int:
    """Post what new results say of surges; returns the number of letters. Repeats and earlier news are not posted."""
    if not recipients(settings):
        return 0
    messages = (surge_message(outcome) for outcome in outcomes if not outcome.skipped)
    return sum(post(settings, message, now) for message in messages if message is not None)
