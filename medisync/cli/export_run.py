"""``medisync export-run``: a run in one folder or zip, to be executed again elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def export_run(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    destination: Annotated[Path, typer.Argument(help="A new folder, or a zip when the name ends so.")],
    audience: Annotated[
        str, typer.Option(help="full: with the rows it read; released: the released document only.")
    ] = "full",
) -> None:
    """Write notebook, rows, parameters, record, lock, result and a README that somebody else can run again."""
    if audience not in ("full", "released"):
        raise typer.BadParameter("full or released", param_hint="--audience")
    from medisync.lake import Lake
    from medisync.runs import export

    lake = Lake(load_settings())
    made = export.export_run(lake, run, destination, audience="full" if audience == "full" else "released")
    Console().say(f"Wrote {made}")
