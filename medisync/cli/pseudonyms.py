"""``medisync pseudonyms``: the key that people's pseudonyms are made with."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings

pseudonyms = typer.Typer(
    help="The key that people's pseudonyms are made with.", no_args_is_help=True, rich_markup_mode=None
)


@pseudonyms.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """How often the key was rotated, and whether the key file is the right one. Finishes an interrupted rotation."""
    from medisync.intake import rekeying
    from medisync.intake.generations import KEY_BYTES
    from medisync.lake import Lake

    lake = Lake(load_settings())
    finished = rekeying.finish(lake)
    number = len(rekeying.keys_in_force(lake)) // KEY_BYTES
    if as_json:
        Console().data({"generation": number, "finished": finished.as_json() if finished else None})
    else:
        Console().say(f"Key generation {number}." + (" An interrupted rotation was finished." if finished else ""))


@pseudonyms.command()
def rotate(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """Make a new key and bring every pseudonym of the lake to it, in one transaction."""
    from medisync.intake import rekeying
    from medisync.lake import Lake

    console = Console(quiet=as_json)
    with console.working("Bringing every pseudonym to a new key"):
        rotation = rekeying.rotate(Lake(load_settings()))
    if as_json:
        console.data(rotation.as_json())
        return
    for table, rows in rotation.rows.items():
        console.say(f"{table}: {rows:,} rows")
    console.say(
        f"Key generation {rotation.generation} is in force since snapshot {rotation.snapshot}. "
        f"{rotation.old_snapshots:,} earlier snapshots still hold old keys until they expire."
    )
    if rotation.pinned_snapshots:
        listed = ", ".join(str(one) for one in rotation.pinned_snapshots)
        console.say(f"Kept runs are pinned to these of them, so that clean-up spares them: {listed}.")
    console.say("Back up data/keys/ now: without the new key no new delivery matches what is known.")
