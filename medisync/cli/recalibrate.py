"""``medisync recalibrate``: what the weekly flow does, by hand."""

from __future__ import annotations

import os
from typing import Annotated, cast

import typer

from medisync.cli.output import Console
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT


def recalibrate(
    frequency: Annotated[
        list[str] | None, typer.Option(help="daily, weekly or monthly; may be repeated; all when none is given.")
    ] = None,
    sites: Annotated[int, typer.Option(min=0, help="So many largest sites are calibrated on their own.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Search the orders of the seasonal ARIMA forecasts and test every method on a long past; takes minutes."""
    # More threads make small matrices slower, five times in all; read when numpy is imported, which comes after.
    os.environ.update({name: value for name, value in FIXED_ENVIRONMENT.items() if name.endswith("_THREADS")})
    from medisync.lake import Lake
    from medisync.runs import calibration
    from medisync.settings import load_settings
    from medisync.stats.series import Frequency

    console = Console(quiet=as_json)
    wanted = cast("list[Frequency]", frequency or list(calibration.FREQUENCIES))
    with console.working("Recalibrating"):
        report = calibration.recalibrate(
            Lake(load_settings()),
            frequencies=wanted,
            most_sites=sites,
            on_series=lambda one: console.say(one.sentence()),
        )
    if as_json:
        console.data(report.as_json())
    else:
        console.say(report.sentence())
