"""``medisync why``: why an analysis would, or would not, run now."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console, parse_parameters
from medisync.settings import load_settings


def why(
    analysis: Annotated[str, typer.Argument(help="The analysis' name.")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say why an analysis would, or would not, run now, and what changed since which run."""
    from medisync.lake import Lake
    from medisync.runs.why import why as decided

    decision = decided(Lake(load_settings()), analysis, parameters=parse_parameters(parameter or []))
    console = Console()
    console.data(decision.as_json()) if as_json else console.say(decision.sentence())
