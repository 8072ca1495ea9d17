"""The audit log: whatever is done to a row is found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medisync.access import audit
from medisync.access.errors import (
    AuditBrokenError,
    LastAdminError,
    LoginRefusedError,
    NotAuthenticatedError,
    UserExistsError,
)
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.cli.main import app
from medisync.errors import UserError
from medisync.ledger import open_ledger
from medisync.ledger.access import audit_head, audit_log
from medisync.settings import Settings
from tests.support.login import PASSWORD
from tests.support.processes import finish_all, start


@pytest.fixture
def workspace(either_workspace: Settings) -> Settings:
    """The ledger is in SQLite or in Postgres."""
    return either_workspace


@pytest.fixture
def ledger(workspace: Settings) -> sa.Engine:
    """A ledger with ten rows."""
    opened = open_ledger(workspace)
    for number in range(10):
        audit.record(opened, "somebody", "trigger", f"run {number}", "10.0.0.1", allowed=number % 2 == 0)
    return opened


def change(statement: str) -> Callable[[sa.Connection], None]:
    return lambda connection: connection.execute(sa.text(statement)) and None


def insert_one_more(connection: sa.Connection) -> None:
    """A row in the middle, with a right hash of its own."""
    rows = [audit.Entry(**row._mapping) for row in connection.execute(sa.select(audit_log))]
    moved = audit_log.update().where(audit_log.c.number > 5)
    connection.execute(moved.values(number=audit_log.c.number + 100))
    connection.execute(audit_log.update().where(audit_log.c.number > 100).values(number=audit_log.c.number - 99))
    made = replace(rows[4], number=6, what="invented", previous=rows[4].hash)
    connection.execute(audit_log.insert().values(**{**made.as_json(), "hash": made.right_hash()}))


def forge(connection: sa.Connection) -> None:
    """Rewrite a row and the whole chain after it, and the head."""
    rows = [audit.Entry(**row._mapping) for row in connection.execute(sa.select(audit_log).order_by("number"))]
    previous = rows[2].hash
    for row in rows[3:]:
        made = replace(row, who="nobody" if row.number == 4 else row.who, previous=previous)
        previous = made.right_hash()
        values = {**made.as_json(), "hash": previous}
        connection.execute(audit_log.update().where(audit_log.c.number == row.number).values(**values))
    connection.execute(audit_head.update().values(hash=previous))


TAMPERING: dict[str, tuple[Callable[[sa.Connection], None], str]] = {
    "who": (change("UPDATE audit_log SET who = 'another' WHERE number = 4"), "row 4 was changed"),
    "what": (change("UPDATE audit_log SET what = 'login' WHERE number = 10"), "row 10 was changed"),
    "when": (change("UPDATE audit_log SET at = '2020-01-01' WHERE number = 1"), "row 1 was changed"),
    "allowed": (change("UPDATE audit_log SET allowed = NOT allowed WHERE number = 7"), "row 7 was changed"),
    "hash": (change("UPDATE audit_log SET hash = previous WHERE number = 3"), "row 3 was changed"),
    "removed": (change("DELETE FROM audit_log WHERE number = 5"), "row 5 is missing"),
    "removed first": (change("DELETE FROM audit_log WHERE number = 1"), "row 1 is missing"),
    "removed last": (change("DELETE FROM audit_log WHERE number > 7"), "ends with row 7, but row 10"),
    "removed all": (change("DELETE FROM audit_log"), "ends with row 0, but row 10"),
    "reordered": (
        change("UPDATE audit_log SET number = CASE number WHEN 3 THEN -4 WHEN 4 THEN -3 END WHERE number IN (3, 4)"),
        "row 3 was changed",
    ),
    "inserted": (insert_one_more, "row 7 was changed"),
    "appended": (
        change("INSERT INTO audit_log SELECT number + 10, at, who, what, \"on\", \"where\", allowed, previous, hash "
               "FROM audit_log WHERE number = 1"),
        "row 11 was changed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found_and_named(ledger: sa.Engine, how: str) -> None:
    assert audit.verify(ledger).number == 10
    tamper, said = TAMPERING[how]
    with ledger.begin() as connection:
        tamper(connection)
        if how == "reordered":
            connection.execute(sa.text("UPDATE audit_log SET number = -number WHERE number < 0"))
    with pytest.raises(AuditBrokenError, match=said):
        audit.verify(ledger)


def test_a_whole_chain_that_was_rewritten_does_not_fit_a_noted_head(ledger: sa.Engine) -> None:
    noted = audit.verify(ledger)
    audit.record(ledger, "somebody", "login")
    assert audit.verify(ledger, noted=noted).number == 11
    with ledger.begin() as connection:
        forge(connection)
    audit.verify(ledger)  # in itself it is right
    with pytest.raises(AuditBrokenError, match="row 10 is not the one that was noted"):
        audit.verify(ledger, noted=noted)
    with ledger.begin() as connection:
        connection.execute(audit_log.delete().where(audit_log.c.number > 5))
        last = connection.execute(sa.select(audit_log.c.hash).where(audit_log.c.number == 5)).scalar_one()
        connection.execute(audit_head.update().values(number=5, hash=last))
    with pytest.raises(AuditBrokenError, match="shorter than the head"):
        audit.verify(ledger, noted=noted)


def test_several_processes_append_to_one_chain(ledger: sa.Engine) -> None:
    code = """
from medisync.access import audit
from medisync.ledger import open_ledger
ledger = open_ledger(settings)
for number in range(25):
    audit.record(ledger, sys.argv[1], "trigger", str(number))
"""
    finish_all([start(code, f"process {number}") for number in range(3)])
    assert audit.verify(ledger).number == 10 + 3 * 25
    rows = list(audit.entries(ledger, page=7))
    for number in range(3):
        written = [row.on for row in rows if row.who == f"process {number}"]
        assert written == [str(one) for one in range(25)]


def test_what_happens_is_written_down_without_secrets(access: Access) -> None:
    with pytest.raises(LoginRefusedError):
        access.log_in_program("viewer", "a wrong password", where="10.0.0.7")
    with pytest.raises(LoginRefusedError):
        access.log_in_program("typed-my-password-here", "a wrong password", where="10.0.0.7")
    pair = access.log_in_program("viewer", PASSWORD, where="10.0.0.8")
    following = access.refresh(pair.refresh_token, where="10.0.0.8")
    with pytest.raises(NotAuthenticatedError):
        access.refresh(pair.refresh_token, where="10.6.6.6")
    login = access.log_in_browser("viewer", PASSWORD, where="10.0.0.8")
    access.change_password(login.principal, PASSWORD, "another quiet meadow", where="10.0.0.8")
    access.log_out(login.principal, where="10.0.0.8")
    rows = list(audit.entries(access.ledger))
    assert [(row.who, row.what, row.where, row.allowed) for row in rows] == [
        ("viewer", "login", "10.0.0.7", False),
        ("(unknown name)", "login", "10.0.0.7", False),
        ("viewer", "login", "10.0.0.8", True),
        ("viewer", "refresh token reused, session ended", "10.6.6.6", False),
        ("viewer", "login", "10.0.0.8", True),
        ("viewer", "password change", "10.0.0.8", True),
        ("viewer", "password changed", "10.0.0.8", True),
        ("viewer", "logout", "10.0.0.8", True),
    ]
    text = json.dumps([row.as_json() for row in rows])
    secrets = ["typed-my-password", "wrong password", "meadow", pair.refresh_token, following.access_token]
    assert [one for one in secrets if one in text] == []
    assert audit.verify(access.ledger).number == len(rows)


def test_long_and_strange_texts_are_kept_on_one_line(ledger: sa.Engine) -> None:
    audit.record(ledger, "é" * 500, "x\ny\x1b[31m\u202e", "☃" * 900)
    (row,) = [one for one in audit.entries(ledger) if one.number == 11]
    assert len(row.who) == 128
    assert row.what.isprintable()
    assert audit.verify(ledger).number == 11


def test_the_command_line_adds_users_rotates_keys_verifies_and_exports(workspace: Settings) -> None:
    def run(*arguments: str, fails: type[Exception] | None = None) -> str:
        done = CliRunner().invoke(app, list(arguments))
        if fails is None:
            assert done.exit_code == 0, done.output
        else:
            assert isinstance(done.exception, fails)
        return str(done.exception or done.output)

    password = re.search(r"One-time password: (\S+)", run("user", "add", "grace", "--role", "admin"))[1]  # type: ignore[index]
    access = Access.open(workspace)
    login = access.log_in_browser("grace", password, where="x")
    assert (login.principal.role, login.principal.must_change_password) == (Role.ADMIN, True)
    run("user", "disable", "grace", fails=LastAdminError)
    run("user", "add", "Grace", fails=UserExistsError)
    run("user", "add", "ada", "--role", "boss", fails=UserError)
    run("user", "add", "ada", "--role", "viewer")
    run("user", "role", "ada", "clinician")
    run("user", "disable", "ada")
    (ada, _) = json.loads(run("user", "list", "--json"))
    assert (ada["name"], ada["role"], ada["disabled"]) == ("ada", "clinician", True)
    run("user", "enable", "ada")
    run("user", "password", "ada")
    run("keys", "rotate")
    assert len(json.loads(run("keys", "list", "--json"))) == 2
    head = re.search(r"Head: (\S+)", run("audit", "verify"))[1]  # type: ignore[index]
    exported = workspace.data / "audit.jsonl"
    run("audit", "export", str(exported))
    rows = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    assert head.startswith(f"{len(rows)}:")
    assert [(row["what"], row["on"]) for row in rows][:-1] == [
        ("user added: admin", "grace"),
        ("login", ""),
        ("user added: viewer", "ada"),
        ("role changed: clinician", "ada"),
        ("user disabled", "ada"),
        ("user enabled", "ada"),
        ("password set", "ada"),
    ]
    assert rows[-1]["what"] == "signing key rotated"
    assert password not in exported.read_text(encoding="utf-8")
    with access.ledger.begin() as connection:
        connection.execute(sa.text("DELETE FROM audit_log WHERE number = 2"))
    assert "row 2 is missing" in run("audit", "verify", "--head", head, fails=AuditBrokenError)
    access.ledger.dispose()
