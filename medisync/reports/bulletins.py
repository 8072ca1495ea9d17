"""What is told without being asked for: the daily report, and a confirmed surge."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Iterable
from typing import Any

from medisync.access.principal import Audience
from medisync.analyses.contract import Finding, Result, Scalar
from medisync.lake import Lake
from medisync.reports import pack as packs
from medisync.reports.pack import KeptPack, Pack
from medisync.reports.phrases import FINDING_WORDS, STATE_WORDS, day
from medisync.reports.sending import AUDIENCES, Message, post, recipients
from medisync.runs.published import results_of
from medisync.runs.record import Outcome, RunRecord

SURGES = "illness_surge_prediction"


def utc_now() -> dt.datetime:
    """The moment, UTC without its zone."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def daily_report(lake: Lake, now: dt.datetime) -> dict[Audience, KeptPack]:
    """Make the packs and post each to those it is for; empty before the first result. ``now`` is UTC."""
    made = _refreshed(lake, now)
    for kept, pack in made.values():
        if recipients(lake.settings, pack.audience):
            post(lake.settings, report_message(pack, kept), now)
    return {audience: kept for audience, (kept, _) in made.items()}


def refreshed_packs(lake: Lake, now: dt.datetime) -> dict[Audience, KeptPack]:
    """The packs of what is published now, new ones only where something differs from the newest; one for each audience
    that has a result to see."""
    return {audience: kept for audience, (kept, _) in _refreshed(lake, now).items()}


def _refreshed(lake: Lake, now: dt.datetime) -> dict[Audience, tuple[KeptPack, Pack]]:
    made: dict[Audience, tuple[KeptPack, Pack]] = {}
    for audience in AUDIENCES:
        pack = packs.collect(lake, now, audience)
        if not any(section.one.result for section in pack.sections):
            continue
        newest = next(iter(packs.kept_packs(lake.settings, audience)), None)
        is_same = newest is not None and newest.contents == pack.contents and newest.made_at.date() == now.date()
        made[audience] = (newest if newest and is_same else packs.write_pack(lake.settings, pack), pack)
    return made


def report_message(pack: Pack, kept: KeptPack) -> Message:
    """The daily report as a message: every headline, the PDF attached."""
    lines = []
    for section in pack.sections:
        one = section.one
        words = [FINDING_WORDS[one.result.finding]] if one.result else []
        words += [STATE_WORDS[one.freshness]] if one.freshness != "current" else []
        lines.append(f"{one.title} ({'; '.join(words).lower()})\n{one.result.headline if one.result else one.reason}\n")
    text = (
        f"{packs.AUDIENCE_WORDS[pack.audience]}.\n"
        f"{pack.data.admissions:,} admissions from {day(pack.data.admitted_from)} to {day(pack.data.admitted_until)}, "
        f"snapshot {pack.data.snapshot_id}.\n\n" + "\n".join(lines)
    )
    details: dict[str, Any] = {
        "kind": "report",
        "audience": pack.audience,
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
    return Message(f"report {pack.made_at.date()}", subject, text, details, (kept.pdf,), pack.audience)


def surge_message(record: RunRecord, result: Result, released: Result | None, audience: Audience) -> Message | None:
    """What a run says of confirmed surges to ``audience``; None when it says nothing. The same surges are the same
    message, whatever else changed: its key is made of them, and is not shown to those who may not see which they are.
    """
    seen = result if audience == "full" else released
    if record.analysis != SURGES or seen is None or {result.finding, seen.finding} != {Finding.SIGNAL}:
        return None
    confirmed = sorted(f"{row.get('condition')} {row.get('site')} {row.get('state')}" for row in _alerts(result))
    week = str(result.metrics.get("week") or result.data_until)
    key = hashlib.sha256("\n".join([week, *confirmed]).encode()).hexdigest()[:16]
    rows = _alerts(seen)
    text = "\n".join([seen.headline, "", *(str(row["says"]) for row in rows if row.get("says")), "", *seen.warnings])
    details = {
        "kind": "surge",
        "audience": audience,
        "run_id": record.run_id,
        "snapshot": record.snapshot_id,
        "alerts": rows,
    }
    shown_key = None if audience == "full" else f"surge {secrets.token_hex(8)}"
    return Message(f"surge {key}", "Surge confirmed", text, details, audience=audience, shown_key=shown_key)


def _alerts(result: Result) -> list[dict[str, Scalar]]:
    table = result.tables.get("alerts")
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows] if table else []


def post_surges(lake: Lake, outcomes: Iterable[Outcome], now: dt.datetime) -> int:
    """Post what new results say of surges to each audience, as it may see them; returns the number of letters.
    Repeats and earlier news are not posted."""
    new = {
        one.record.run_id: (one.record, one.result)
        for one in outcomes
        if not one.skipped and one.record.analysis == SURGES and one.result is not None
    }
    posted = 0
    for audience in AUDIENCES if new else ():
        if not recipients(lake.settings, audience):
            continue
        released = results_of(lake, list(new), "released") if audience == "released" else {}
        for run_id, (record, result) in new.items():
            message = surge_message(record, result, released.get(run_id), audience)
            posted += post(lake.settings, message, now) if message is not None else 0
    return posted
