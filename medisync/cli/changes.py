"""``medisync changes``: what changed between two snapshots."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def changes(
    first: Annotated[int, typer.Argument(help="The earlier snapshot.")],
    last: Annotated[int, typer.Argument(help="The later snapshot.")],
    table: Annotated[
        list[str] | None, typer.Option(help="patients, admissions, conditions or prescriptions; all for none.")
    ] = None,
    rows: Annotated[bool, typer.Option(help="The changed rows, too, de-identified, each as JSON on a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Rows created, updated and deleted between two snapshots, and the deliveries that did it."""
    from medisync.intake.changes import KEYS, changed_rows
    from medisync.intake.changes import changes as counted
    from medisync.lake import Lake

    lake, console = Lake(load_settings()), Console(quiet=as_json)
    tables = tuple(table or KEYS)
    found = counted(lake, first, last, tables)
    if as_json:
        console.data(found.as_json())
    for one in found.tables:
        console.say(f"{one.table}: {one.created:,} created, {one.updated:,} updated, {one.deleted:,} deleted")
    console.say(f"Deliveries: {', '.join(found.deliveries) or 'none'}")
    if rows:
        for name in tables:
            for row in changed_rows(lake, first, last, name):
                console.data({"table": name, **row})
