"""``medisync run``: a round of analyses in this process; what has not changed is answered without opening the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medisync.cli.output import Console, parse_parameters
from medisync.settings import Settings, load_settings

if TYPE_CHECKING:
    from medisync.runs.record import Outcome


def run(
    analyses: Annotated[list[str] | None, typer.Argument(help="Names; all when none is given.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Run also what has not changed.")] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="A day or moment (UTC): with the data as known then.")
    ] = None,
    grid: Annotated[
        list[str] | None, typer.Option(help="name=value,value: one run for each combination; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Run analyses and publish their results; what has not changed is answered without running."""
    settings = load_settings()
    console = Console(quiet=as_json)
    parameters = parse_parameters(parameter or [])
    is_plain = not (parameters or force or as_of or grid)
    known = _unchanged(settings, analyses) if is_plain else None
    if known is not None:
        for answer in known:
            console.data(answer) if as_json else console.answer(answer)
        return
    failed = _round(settings, console, analyses, parameters, force=force, as_of=as_of, grid=grid or [], as_json=as_json)
    if failed:
        raise typer.Exit(11)


def _unchanged(settings: Settings, analyses: list[str] | None) -> list[dict[str, Any]] | None:
    from medisync.runs import dropped, recall

    return None if dropped.is_any_waiting(settings) else recall.unchanged(settings, analyses)


def _round(
    settings: Settings,
    console: Console,
    analyses: list[str] | None,
    parameters: dict[str, Any],
    *,
    force: bool,
    as_of: str | None,
    grid: list[str],
    as_json: bool,
) -> bool:
    """Whether a run failed."""
    from medisync.lake import Lake
    from medisync.runs import backfill, dropped, story
    from medisync.runs.record import RunStatus
    from medisync.runs.rounds import one_round

    def tell(outcome: Outcome) -> None:
        console.data(outcome.as_json()) if as_json else console.answer(outcome.as_json())

    request = story.Request(trigger="command line", requested_by=_user())
    moment = backfill.moment(as_of) if as_of else None
    choices = [{**parameters, **one} for one in backfill.combinations(grid)]
    lake = Lake(settings)
    outcomes = []
    with console.working("Running the analyses"), one_round(settings):
        for one in dropped.take_in(lake):
            console.say(one.sentence())
        for chosen in choices:
            if len(choices) > 1 and not as_json:
                console.say(", ".join(f"{name} = {value}" for name, value in chosen.items()))
            outcomes += story.run(
                lake, analyses, parameters=chosen, force=force, as_of=moment, request=request, on_outcome=tell
            )
    return any(outcome.record.status is RunStatus.FAILED for outcome in outcomes)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this user id
        return "unknown"
