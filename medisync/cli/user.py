"""``medisync user``: accounts, by whoever has a shell on the machine. Each change is in the audit log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from medisync.cli.output import Console
from medisync.errors import UserError
from medisync.settings import load_settings

if TYPE_CHECKING:
    from medisync.access.permissions import Role
    from medisync.access.service import Access

user = typer.Typer(help="Accounts: who may log in, and in which role.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The account's name.")]
RoleName = Annotated[str, typer.Option("--role", help="viewer, clinician, analyst or admin.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@user.command()
def add(name: Name, role: RoleName = "viewer", password_stdin: FromStdin = False) -> None:
    """Make an account; its one-time password is printed once and must be changed at the first login."""
    access, wanted = _access(), _role(role)
    given = _password() if password_stdin else None
    password = access.accounts.add(name, wanted, given, must_change=True)
    _record(access, f"user added: {wanted.value}", name)
    Console().say(f"{name} may log in as {wanted.value}.")
    if given is None:
        Console().say(f"One-time password: {password}")


@user.command(name="list")
def show(as_json: AsJson = False) -> None:
    """All accounts."""
    accounts = _access().accounts.all()
    if as_json:
        Console().data(
            [
                {
                    "name": one.name,
                    "role": one.role.value,
                    "disabled": one.is_disabled,
                    "must_change_password": one.must_change_password,
                    "created_at": one.created_at.isoformat(),
                }
                for one in accounts
            ]
        )
        return
    for one in accounts:
        notes = [
            *(["disabled"] if one.is_disabled else []),
            *(["one-time password not changed yet"] if one.must_change_password else []),
        ]
        Console().say(f"{one.name}  {one.role.value}{'  (' + ', '.join(notes) + ')' if notes else ''}")


@user.command()
def role(name: Name, role: Annotated[str, typer.Argument(help="viewer, clinician, analyst or admin.")]) -> None:
    """Give an account another role; its sessions end."""
    access, wanted = _access(), _role(role)
    access.accounts.set_role(name, wanted)
    _record(access, f"role changed: {wanted.value}", name)
    Console().say(f"{name} is {wanted.value} now.")


@user.command()
def disable(name: Name) -> None:
    """Let nobody in with this account; whoever is in with it is out within a second."""
    access = _access()
    access.accounts.disable(name)
    _record(access, "user disabled", name)
    Console().say(f"{name} is disabled; all its sessions have ended.")


@user.command()
def enable(name: Name) -> None:
    """Let a disabled account in again."""
    access = _access()
    access.accounts.enable(name)
    _record(access, "user enabled", name)
    Console().say(f"{name} may log in again.")


@user.command()
def password(name: Name, password_stdin: FromStdin = False) -> None:
    """Set a new one-time password and end the account's sessions."""
    access = _access()
    given = _password() if password_stdin else None
    chosen = access.accounts.set_password(name, given, must_change=True)
    _record(access, "password set", name)
    Console().say(f"All sessions of {name} have ended; the password must be changed at the next login.")
    if given is None:
        Console().say(f"One-time password: {chosen}")


def who() -> str:
    """How the audit log calls whoever sits at the command line."""
    import getpass

    try:
        return f"command line: {getpass.getuser()}"
    except (KeyError, OSError):  # no name for this user id
        return "command line"


def _record(access: Access, what: str, name: str) -> None:
    from medisync.access.accounts import normal_name

    access.record(who(), what, normal_name(name), "this machine")


def _access() -> Access:
    from medisync.access.service import Access

    return Access.open(load_settings())


def _role(name: str) -> Role:
    from medisync.access.permissions import Role

    if name not in set(Role):
        raise UserError(f"There is no role {name}.", hint=f"The roles are {', '.join(Role)}.")
    return Role(name)


def _password() -> str:
    return sys.stdin.readline().rstrip("\r\n")
