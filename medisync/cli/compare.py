"""``medisync compare``: what differs between two runs, two snapshots or two parameter sets."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def compare(
    before: Annotated[str, typer.Argument(help="A run's id, a snapshot's number, or name=value,name=value.")],
    after: Annotated[str, typer.Argument(help="The same kind; the word default stands for no parameter.")],
    analysis: Annotated[str | None, typer.Option(help="Compare this analysis' runs with two parameter sets.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """What changed in inputs, code, parameters, environment, and in every number, the largest move first."""
    from medisync.lake import Lake
    from medisync.runs.compare import compare as compared

    made = compared(Lake(load_settings()), before, after, analysis=analysis)
    console = Console()
    if as_json:
        console.data(made.as_json())
    else:
        for line in made.lines():
            console.say(line)
