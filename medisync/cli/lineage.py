"""``medisync lineage``: from a number to the files it rests on, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def lineage(
    what: Annotated[str, typer.Argument(help="delivery, run or result.")],
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Its id, or an analysis' name for its newest run; of a result RUN/place/row/column."
        ),
    ],
    svg: Annotated[Path | None, typer.Option(help="Write a picture there, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """From a result to run, notebook cell, snapshot, deliveries and files; or from a delivery to the runs that used
    it."""
    from medisync.lake import Lake
    from medisync.runs import lineage as lines
    from medisync.runs.lineage_picture import picture

    ask = {"delivery": lines.of_delivery, "run": lines.of_run, "result": lines.of_result}
    if what not in ask:
        raise typer.BadParameter("delivery, run or result", param_hint="WHAT")
    found = ask[what](Lake(load_settings()), name)
    console = Console()
    if svg is not None:
        svg.write_text(picture(found), encoding="utf-8")
    if as_json:
        console.data(found.as_json())
    else:
        for line in found.lines():
            console.say(line)
