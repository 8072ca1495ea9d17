"""``medisync backup`` and ``medisync restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def backup(
    destination: Annotated[Path, typer.Argument(help="Folder of backups; each becomes a folder in it.")],
    keys: Annotated[
        bool, typer.Option(help="With the keys of the pseudonyms; keep such a backup as safe as them.")
    ] = True,
    archive: Annotated[bool, typer.Option(help="With the delivered files, which name patients.")] = False,
    prefect: Annotated[bool, typer.Option(help="With Prefect's database, the history of flow runs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Back up the workspace, also while it runs; what never changes is linked to the backup before."""
    from medisync.lake import Lake
    from medisync.upkeep import backup as module

    console = Console(quiet=as_json)
    with console.working("Backing up"):
        report = module.backup(
            Lake(load_settings()), destination, with_keys=keys, with_archive=archive, with_prefect=prefect
        )
    console.data(report.as_json()) if as_json else console.say(report.sentence())


def restore(
    source: Annotated[Path, typer.Argument(help="A backup, or a folder of backups: then the newest complete one.")],
    as_json: AsJson = False,
) -> None:
    """Fill an empty workspace from a backup; it is checked whole before anything is written."""
    from medisync.errors import AlreadyRunningError
    from medisync.supervisor.workspace import running
    from medisync.upkeep import restore as module

    settings = load_settings()
    if running(settings) is not None:
        raise AlreadyRunningError("This workspace is running.", hint="medisync down")
    console = Console(quiet=as_json)
    with console.working("Checking and restoring"):
        report = module.restore(settings, source)
    console.data(report.as_json()) if as_json else console.say(report.sentence())
