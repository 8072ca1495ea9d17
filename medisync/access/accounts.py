"""Accounts: names, roles and password hashes in the ledger."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from medisync.access import passwords
from medisync.access.errors import LastAdminError, UnknownUserError, UserExistsError
from medisync.access.permissions import Role
from medisync.access.records import Clock, transaction, utc_now
from medisync.errors import UserError
from medisync.ledger.access import sessions, users

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
FIRST_ADMIN = "admin"


@dataclass(frozen=True)
class Account:
    """One user, without the password."""

    name: str
    role: Role
    is_disabled: bool
    must_change_password: bool
    created_at: dt.datetime
    password_changed_at: dt.datetime


def normal_name(typed: str) -> str:
    """The name as it is kept: case and surrounding space do not count."""
    return typed.strip().casefold()


class Accounts:
    """The accounts of one ledger. Every change of a role or of access works at the visitor's next request."""

    def __init__(self, ledger: sa.Engine, clock: Clock = utc_now) -> None:
        self._ledger = ledger
        self._clock = clock

    def all(self) -> list[Account]:
        with transaction(self._ledger) as connection:
            return [_account(row) for row in connection.execute(sa.select(users).order_by(users.c.name))]

    def find(self, name: str) -> tuple[Account, str] | None:
        """The account of this name and its password's hash."""
        with transaction(self._ledger) as connection:
            row = connection.execute(sa.select(users).where(users.c.name == normal_name(name))).one_or_none()
        return None if row is None else (_account(row), row._mapping["password_hash"])

    def add(self, name: str, role: Role, password: str | None = None, *, must_change: bool = True) -> str:
        """Make an account; the password, a one-time one when none is given, is returned. Raises UserExistsError,
        WeakPasswordError, or UserError for a name that cannot be one."""
        name = normal_name(name)
        if not NAME.fullmatch(name):
            raise UserError(
                "A user's name has at most 64 letters, digits and the signs . _ @ -, and starts with a letter or digit."
            )
        chosen = password or passwords.one_time_password()
        passwords.require_strong(chosen, name=name)
        now = self._clock()
        row = {
            "name": name,
            "password_hash": passwords.hash_password(chosen),
            "role": role.value,
            "is_disabled": False,
            "must_change_password": must_change,
            "created_at": now,
            "password_changed_at": now,
        }
        try:
            with transaction(self._ledger) as connection:
                connection.execute(users.insert().values(**row))
        except sa.exc.IntegrityError:
            raise UserExistsError(f"There is a user {name} already.") from None
        return chosen

    def add_first_admin(self) -> str | None:
        """The one-time password of the administrator made now; None when there is one already, the last of whom cannot
        be lost."""
        administrators = sa.select(users.c.name).where(users.c.role == Role.ADMIN.value)
        with transaction(self._ledger) as connection:
            if connection.execute(administrators.limit(1)).first() is not None:
                return None
        try:
            return self.add(FIRST_ADMIN, Role.ADMIN)
        except UserExistsError:  # another process was quicker, or somebody else has the name
            return None

    def set_role(self, name: str, role: Role) -> None:
        """Give another role. The account's sessions end: a page that is open was drawn for the role before."""
        self._change(name, loses_admin=role is not Role.ADMIN, ends="role changed", role=role.value)

    def disable(self, name: str) -> None:
        """Nobody gets in with this account any more, and whoever is in with it is out."""
        self._change(name, loses_admin=True, ends="disabled", is_disabled=True)

    def enable(self, name: str) -> None:
        self._change(name, is_disabled=False)

    def set_password(
        self, name: str, password: str | None = None, *, must_change: bool = True, keep_session: str | None = None
    ) -> str:
        """Set a password, a one-time one when none is given, and end the account's sessions but ``keep_session``."""
        chosen = password or passwords.one_time_password()
        passwords.require_strong(chosen, name=normal_name(name))
        self._change(
            name,
            ends="password changed",
            keep_session=keep_session,
            password_hash=passwords.hash_password(chosen),
            must_change_password=must_change,
            password_changed_at=self._clock(),
        )
        return chosen

    def rehash(self, name: str, password: str) -> None:
        """Keep the same password under today's parameters."""
        self._change(name, password_hash=passwords.hash_password(password))

    def _change(
        self,
        name: str,
        *,
        loses_admin: bool = False,
        ends: str | None = None,
        keep_session: str | None = None,
        **values: Any,
    ) -> None:
        name = normal_name(name)
        with transaction(self._ledger) as connection:
            # The change comes first: it takes the ledger's write lock, so that of two admins who disable each other
            # at once the second sees what the first did.
            changed = connection.execute(users.update().where(users.c.name == name).values(**values))
            if changed.rowcount == 0:
                raise UnknownUserError(f"There is no user {name}.", hint="medisync user list names them.")
            if loses_admin and not _has_admin(connection):
                raise LastAdminError("This would leave the workspace without an administrator.")
            if ends is not None:
                of_user = (sessions.c.user_name == name) & sessions.c.ended_at.is_(None)
                if keep_session is not None:
                    of_user &= sessions.c.session_id != keep_session
                values_of_session = {"ended_at": self._clock(), "ended_because": ends}
                connection.execute(sessions.update().where(of_user).values(**values_of_session))


def _has_admin(connection: sa.Connection) -> bool:
    active = (users.c.role == Role.ADMIN.value) & users.c.is_disabled.is_(False)
    return connection.execute(sa.select(users.c.name).where(active).limit(1)).first() is not None


def _account(row: sa.Row[Any]) -> Account:
    values = {name: value for name, value in row._mapping.items() if name != "password_hash"}
    return Account(**{**values, "role": Role(values["role"])})
