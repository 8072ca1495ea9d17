"""``medisync why``: why an analysis would, or would not, run now."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console, parse_parameters
from medisync.settings import load_settings


def why(
    analysis: Annotated[str | None, typer.Argument(help="The analysis' name; all when none is given.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say why an analysis would, or would not, run now, and what changed since which run."""
    from medisync.lake import Lake
    from medisync.runs import registry
    from medisync.runs.why import why as decided

    settings = load_settings()
    lake, given = Lake(settings), parse_parameters(parameter or [])
    if analysis is None and given:
        raise typer.BadParameter("parameters are those of one analysis: name it", param_hint="-p")
    names = [analysis] if analysis else [one.analysis for one in registry.analyses(settings)]
    decisions = [decided(lake, name, parameters=given) for name in names]
    console = Console()
    if as_json:
        told = [decision.as_json() for decision in decisions]
        console.data(told[0] if analysis else told)
        return
    for decision in decisions:
        console.say(decision.sentence())
