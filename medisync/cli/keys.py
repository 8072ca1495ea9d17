"""``medisync keys``: the keys that sign access tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings

keys = typer.Typer(help="The keys that sign access tokens.", no_args_is_help=True, rich_markup_mode=None)


@keys.command(name="list")
def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """The keys by their ids, never the keys themselves."""
    from medisync.access.keys import SigningKeys

    held = SigningKeys(load_settings()).listed()
    if as_json:
        Console().data([{"kid": key.kid, "made_at": key.made_at, "retired_at": key.retired_at} for key in held])
        return
    for key in held:
        Console().say(f"{key.kid}  made {key.made_at}  {'retired ' + key.retired_at if key.retired_at else 'signs'}")


@keys.command()
def rotate(
    at_once: Annotated[
        bool, typer.Option(help="The old keys may be known to others: all access tokens end now.")
    ] = False,
) -> None:
    """Sign with a new key. Tokens of the old one go on until they expire, ten minutes at most."""
    from medisync.access.service import Access
    from medisync.cli.user import who

    access = Access.open(load_settings())
    kid = access.keys.rotate(at_once=at_once)
    access.record(who(), "signing key rotated at once" if at_once else "signing key rotated", kid, "this machine")
    Console().say(f"Tokens are signed with {kid} from now on.")
