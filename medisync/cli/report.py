"""``medisync report``: the pack of all analyses, now."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def report(
    send: Annotated[bool, typer.Option(help="Send it to the addresses of the settings, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Write all analyses into one document, as HTML and as PDF: whole results, and what was released of them."""
    from medisync.errors import NoDataError
    from medisync.lake import Lake
    from medisync.reports import bulletins
    from medisync.reports.sending import send_waiting

    lake = Lake(load_settings())
    console = Console(quiet=as_json)
    now = bulletins.utc_now()
    with console.working("Writing the report"):
        made = bulletins.daily_report(lake, now) if send else bulletins.refreshed_packs(lake, now)
    kept = made.get("full")
    if kept is None:
        raise NoDataError("There is no result to report yet.", hint="Load a file, then: medisync run")
    for one in made.values():
        console.say(f"{one.html}\n{one.pdf}")
    done = send_waiting(lake.settings, now) if send else None
    if done is not None:
        console.say(done.sentence())
    if as_json:
        sent = {"sent": done.sent, "failed": done.failed} if done else {}
        listed = [{"audience": who, "html": str(one.html), "pdf": str(one.pdf)} for who, one in made.items()]
        console.data({"name": kept.name, "html": str(kept.html), "pdf": str(kept.pdf), "packs": listed, **sent})
