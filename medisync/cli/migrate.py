"""``medisync migrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def migrate(as_json: AsJson = False) -> None:
    """Move the workspace from SQLite files to the Postgres that MEDISYNC_DATABASE_URL names; every row is compared."""
    from medisync.errors import AlreadyRunningError
    from medisync.supervisor.workspace import running
    from medisync.upkeep import migration

    settings = load_settings()
    if running(settings) is not None:
        raise AlreadyRunningError("This workspace is running.", hint="medisync down")
    console = Console(quiet=as_json)
    report = migration.migrate(settings, console.say)
    if as_json:
        console.data(report.as_json())
    else:
        for sentence in report.sentences():
            console.say(sentence)
