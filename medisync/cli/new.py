"""``medisync new`` and ``medisync check-notebook``: a new analysis is one notebook."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def new(
    name: Annotated[str, typer.Argument(help="The analysis' name, such as bed_use.")],
    title: Annotated[str | None, typer.Option(help="What it is called on pages and in reports.")] = None,
) -> None:
    """Write a starting notebook for a new analysis; it runs as it is."""
    from medisync.runs.starting_notebook import start_notebook

    settings = load_settings()
    path = start_notebook(settings, name, title=title)
    console = Console()
    console.say(f"Wrote {path}")
    console.say(f"Next: edit it in Lab ({settings.lab_port}), then: medisync check-notebook {name}")


def check_notebook(
    notebook: Annotated[str, typer.Argument(help="An analysis' name, or a path that ends with .ipynb.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check a notebook: its form, and that it runs on demo data within its budgets, publishes one valid result, shows
    no key, and gives the same twice."""
    from medisync.runs import notebook_check

    settings = load_settings()
    console = Console(quiet=as_json)
    checks = []
    path = notebook_check.find(settings, notebook)
    with console.working(f"Checking {path.name}"):
        for one in notebook_check.check(settings, path):
            checks.append(one)
            console.say(f"{'✓' if one.is_well else '✗'} {one.what}: {one.detail}")
    if as_json:
        console.data([one.as_json() for one in checks])
    if not all(one.is_well for one in checks):
        raise typer.Exit(notebook_check.NotebookCheckError.exit_code)
