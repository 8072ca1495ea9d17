"""Two persons release a result: nothing is written before the second one agrees, and the audit log knows both."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medisync.access import audit
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.analyses.contract import Table
from medisync.cli.main import app
from medisync.lake import Lake
from medisync.ledger import open_ledger
from medisync.runs.outgoing import Outgoing, ReleaseRefusedError
from medisync.runs.publishing import publish
from tests.unit.disclosure.test_release import grid
from tests.unit.disclosure.test_releasing import record

PASSWORD = "a long enough passphrase for a test 7"


@pytest.fixture
def outgoing(lake: Lake) -> Outgoing:
    result = grid([[40, 3]], margins=False)
    names = Table(title="G", columns=("site", "age", "people"), rows=(("=1+1", "a", 40), ("b", "a", 3)))
    publish(lake, record(lake, "r1"), result.model_copy(update={"tables": {"grid": names}}))
    return Outgoing(lake, open_ledger(lake.settings))


def test_a_second_person_releases_what_the_first_asked_for(outgoing: Outgoing) -> None:
    one = outgoing.request("r1", who="ada", reason="annual report")
    assert not outgoing.folder.exists()
    with pytest.raises(ReleaseRefusedError, match="cannot approve"):
        outgoing.approve(one.request_id, who="ada")
    assert not outgoing.folder.exists()
    folder = outgoing.approve(one.request_id, who="grace")
    assert sorted(path.name for path in folder.iterdir()) == [
        "NOTE.md", "SHA256.json", "document.json", "grid.csv", "metrics.csv",
    ]  # fmt: skip
    with (folder / "grid.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["site", "age", "people"], ["'=1+1", "a", "40"], ["b", "a", "fewer than 10"]]
    assert json.loads((folder / "document.json").read_text())["audience"] == "released"
    note = (folder / "NOTE.md").read_text()
    assert "ada" in note
    assert "grace" in note
    assert "fewer than 10 people are withheld" in note
    with pytest.raises(ReleaseRefusedError, match="approved by grace"):
        outgoing.approve(one.request_id, who="edsger")
    said = [(entry.who, entry.what, entry.allowed) for entry in audit.entries(open_ledger(outgoing._lake.settings))]
    assert said == [
        ("ada", "release requested", True),
        ("ada", "release approval refused: same person", False),
        ("grace", "release approved", True),
    ]


def test_what_is_rejected_or_has_changed_is_not_released(outgoing: Outgoing) -> None:
    one = outgoing.request("r1", who="ada", reason="press")
    outgoing.reject(one.request_id, who="grace", reason="too early")
    with pytest.raises(ReleaseRefusedError, match="rejected by grace"):
        outgoing.approve(one.request_id, who="grace")
    two = outgoing.request("r1", who="ada", reason="press again")
    with outgoing._lake.transaction("tampering") as transaction:
        transaction.execute("UPDATE lake.analytics.results SET document = '{}' WHERE audience = 'released'")
    with pytest.raises(ReleaseRefusedError, match="has changed"):
        outgoing.approve(two.request_id, who="grace")
    for run_id, reason, message in (("r1", " ", "needs a reason"), ("none", "because", "no result")):
        with pytest.raises(ReleaseRefusedError, match=message):
            outgoing.request(run_id, who="ada", reason=reason)
    assert not outgoing.folder.exists()


def test_on_the_command_line_each_proves_who_it_is(outgoing: Outgoing) -> None:
    access = Access.open(outgoing._lake.settings)
    for name, role in (("ada", Role.ANALYST), ("grace", Role.CLINICIAN), ("eve", Role.VIEWER)):
        access.accounts.add(name, role, PASSWORD, must_change=False)
    run = CliRunner()

    def call(*arguments: str, password: str = PASSWORD) -> tuple[int, str]:
        answer = run.invoke(app, ["release", *arguments, "--password-stdin"], input=f"{password}\n")
        return answer.exit_code, f"{answer.output}{answer.exception or ''}"

    assert "wrong" in call("request", "r1", "--account", "ada", "--reason", "report", password="nonsense")[1]
    code, said = call("request", "r1", "--account", "ada", "--reason", "report")
    assert code == 0, said
    (one,) = outgoing.all()
    assert "does not grant" in call("approve", one.request_id, "--account", "eve")[1]
    assert "cannot approve" in call("approve", one.request_id, "--account", "ada")[1]
    assert call("approve", one.request_id, "--account", "grace")[0] == 0
    listed = run.invoke(app, ["release", "list", "--json"])
    assert json.loads(listed.output)[0]["state"] == "approved"
    assert (Path(outgoing.folder) / one.request_id / "grid.csv").exists()
