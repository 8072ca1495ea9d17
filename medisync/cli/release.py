"""``medisync release``: results leave the house when two persons agree. Each proves who it is by the own password."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings

if TYPE_CHECKING:
    from medisync.access.permissions import Permission
    from medisync.runs.outgoing import Outgoing

release = typer.Typer(
    help="Release results for export: one person asks, another approves.", no_args_is_help=True, rich_markup_mode=None
)

Account = Annotated[str, typer.Option("--account", help="Your account; its password is asked for.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")]
Id = Annotated[str, typer.Argument(help="The request's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@release.command()
def request(
    run: Annotated[str, typer.Argument(help="The run whose released result shall go out.")],
    account: Account,
    reason: Annotated[str, typer.Option(help="For whom, and what for.")],
    password_stdin: FromStdin = False,
) -> None:
    """Ask for the release of a run's result."""
    from medisync.access.permissions import Permission

    outgoing, who = _opened(account, password_stdin, Permission.TRIGGER)
    one = outgoing.request(run, who=who, reason=reason)
    Console().say(f"Request {one.request_id} waits for a second person: medisync release approve {one.request_id}")


@release.command(name="list")
def show(as_json: AsJson = False) -> None:
    """All requests, newest first."""
    requests = _outgoing().all()
    if as_json:
        Console().data([one.as_json() for one in requests])
        return
    for one in requests:
        decided = f", by {one.decided_by}" if one.decided_by else ""
        Console().say(
            f"{one.request_id} run {one.run_id} asked for by {one.requested_by}: {one.state.value}{decided} "
            f"({one.reason})"
        )


@release.command()
def approve(request_id: Id, account: Account, password_stdin: FromStdin = False) -> None:
    """Approve somebody else's request; the folder is written."""
    from medisync.access.permissions import Permission

    outgoing, who = _opened(account, password_stdin, Permission.READ_FULL)
    Console().say(f"Released: {outgoing.approve(request_id, who=who)}")


@release.command()
def reject(
    request_id: Id,
    account: Account,
    reason: Annotated[str, typer.Option(help="Why not.")] = "",
    password_stdin: FromStdin = False,
) -> None:
    """Reject a request, or withdraw the own one."""
    from medisync.access.permissions import Permission

    outgoing, who = _opened(account, password_stdin, Permission.READ_FULL)
    outgoing.reject(request_id, who=who, reason=reason)
    Console().say(f"Rejected: {request_id}")


def _opened(account: str, from_stdin: bool, needed: Permission) -> tuple[Outgoing, str]:
    """The requests, and the name of the account whose password was given and whose role grants ``needed``."""
    from medisync.access.errors import ForbiddenError
    from medisync.access.service import Access

    access = Access.open(load_settings())
    password = sys.stdin.readline().rstrip("\r\n") if from_stdin else getpass.getpass(f"Password of {account}: ")
    principal = access.log_in_program(account, password, where="this machine").principal
    access.sessions.end(principal.session_id, "one command")
    if not principal.may(needed):
        access.record(principal.name, "release refused: role", needed.value, "this machine", False)
        raise ForbiddenError(
            f"The role {principal.role.value} does not grant this, or the password must be changed first."
        )
    return _outgoing(), principal.name


def _outgoing() -> Outgoing:
    from medisync.lake import Lake
    from medisync.ledger import open_ledger
    from medisync.runs.outgoing import Outgoing

    settings = load_settings()
    return Outgoing(Lake(settings), open_ledger(settings))
