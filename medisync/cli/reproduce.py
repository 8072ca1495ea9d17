"""``medisync reproduce``: execute a run again and compare every number."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def reproduce(
    run: Annotated[str | None, typer.Argument(help="The run's id, or an analysis' name for its newest run.")] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="Every answer, as a self-check with a report.")] = False,
    since: Annotated[str | None, typer.Option(help="With --all: runs from this day or moment (UTC) on.")] = None,
    code: Annotated[str, typer.Option(help="kept: the code the run used; current: the code installed.")] = "kept",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Execute a run again, the same notebook on the same snapshot, and compare every number."""
    if (run is None) != all_runs:
        raise typer.BadParameter("a run's id, an analysis' name, or --all", param_hint="RUN")
    if code not in ("kept", "current"):
        raise typer.BadParameter("kept or current", param_hint="--code")
    from medisync.lake import Lake
    from medisync.runs import backfill, self_check
    from medisync.runs import reproduce as again

    lake = Lake(load_settings())
    console = Console(quiet=as_json)

    def tell(one: again.Reproduction) -> None:
        console.data(one.as_json()) if as_json else show(console, one)

    if run is not None:
        with console.working("Executing the run again"):
            made = [again.reproduce(lake, run, code="kept" if code == "kept" else "current")]
        tell(made[0])
    else:
        begin = None
        if since:
            begin = backfill.moment(since if len(since) > len("2024-05-07") else f"{since}T00:00:00")
        with console.working("Executing the runs again"):
            made = again.reproduce_all(lake, since=begin, on_each=tell)
        report = self_check.write_self_check(lake.settings, made, dt.datetime.now(dt.UTC))
        console.say(f"{self_check.sentence(made)} Report: {report}")
    if any(one.verdict is not again.Verdict.IDENTICAL for one in made):
        raise typer.Exit(again.NumbersMovedError.exit_code)


def show(console: Console, one: object) -> None:
    """One reproduction for people: the sentence, and each place that moved."""
    from medisync.runs.reproduce import Reproduction

    assert isinstance(one, Reproduction)  # noqa: S101 - for the type checker
    console.say(one.sentence())
    for place in one.places:
        if place.different:
            by = "" if place.largest_relative is None else f", by at most {100 * place.largest_relative:.3g} %"
            note = f" ({place.note})" if place.note else ""
            console.say(f"  {place.place}: {place.different:,} of {place.compared:,} differ{by}{note}")
