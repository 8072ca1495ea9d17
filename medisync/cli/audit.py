"""``medisync audit``: the log of who did what, checked and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings

audit = typer.Typer(help="The audit log: who did what, when, on what.", no_args_is_help=True, rich_markup_mode=None)


@audit.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="A head noted earlier (NUMBER:HASH); the log must still go through it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check that no row was changed, removed, inserted or moved; prints the head, to be noted somewhere else."""
    from medisync.access import audit as log
    from medisync.ledger import open_ledger

    found = log.verify(open_ledger(load_settings()), noted=log.parse_head(head) if head else None)
    if as_json:
        Console().data({"rows": found.number, "head": str(found)})
    else:
        Console().say(f"All {found.number:,} rows are as they were written.")
        Console().say(f"Head: {found}")


@audit.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; standard output when none is given.")] = None,
) -> None:
    """Write the log as JSON, a row a line, the oldest first."""
    from medisync.access import audit as log
    from medisync.ledger import open_ledger

    rows = (json.dumps(entry.as_json()) for entry in log.entries(open_ledger(load_settings())))
    if file is None:
        for row in rows:
            typer.echo(row)
        return
    draft = file.with_name(f".{file.name}.draft")
    number = 0
    with draft.open("w", encoding="utf-8") as lines:
        draft.chmod(0o600)
        for row in rows:
            lines.write(row + "\n")
            number += 1
    draft.replace(file)
    Console().say(f"{number:,} rows in {file}.")
