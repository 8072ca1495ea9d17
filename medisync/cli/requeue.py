"""``medisync requeue``: take quarantined rows again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def requeue(
    delivery: Annotated[str, typer.Argument(help="The delivery's id.")],
    corrected: Annotated[
        Path | None, typer.Option("--with", help="The corrected file; only quarantined rows may differ in it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Take the quarantined rows of a delivery again, after its file or its source's description was corrected."""
    from medisync.cli.requests import request_refresh
    from medisync.intake.requeue import requeue as take_again
    from medisync.lake import Lake

    settings = load_settings()
    console = Console(quiet=as_json)
    with console.working("Taking rows again"):
        done = take_again(Lake(settings), delivery, corrected=corrected)
    console.data(done.as_json()) if as_json else console.say(done.sentence())
    if done.changed_tables:
        is_requested = request_refresh(settings)
        console.say("The running workspace updates the analyses." if is_requested else "Next: medisync run")
