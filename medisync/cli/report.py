"""``medisync report``: the pack of all analyses, now."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def report(
    send: Annotated[bool, typer.Option(help="Send it to MEDISYNC_MAIL_TO and MEDISYNC_WEBHOOKS, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Write all analyses into one document, as HTML and as PDF."""
    from medisync.errors import NoDataError
    from medisync.lake import Lake
    from medisync.reports import bulletins
    from medisync.reports.sending import send_waiting

    lake = Lake(load_settings())
    console = Console(quiet=as_json)
    now = bulletins.utc_now()
    with console.working("Writing the report"):
        kept = bulletins.daily_report(lake, now) if send else bulletins.refreshed_pack(lake, now)
    if kept is None:
        raise NoDataError("There is no result to report yet.", hint="Load a file, then: medisync run")
    console.say(f"{kept.html}\n{kept.pdf}")
    done = send_waiting(lake.settings, now) if send else None
    if done is not None:
        console.say(done.sentence())
    if as_json:
        sent = {"sent": done.sent, "failed": done.failed} if done else {}
        console.data({"name": kept.name, "html": str(kept.html), "pdf": str(kept.pdf), **sent})
