"""A machine with other code does nothing for the server, and says why."""

from __future__ import annotations

import dataclasses

import pytest

from medisync.runs import same_code
from medisync.runs.same_code import OtherCodeError, SameCode, enter, require_same_code, this_code
from medisync.settings import project_root


def test_it_survives_being_told() -> None:
    assert SameCode.parse(str(this_code())) == this_code()
    require_same_code(str(this_code()))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(SameCode)])
def test_each_part_counts_and_is_named(name: str) -> None:
    other = dataclasses.replace(this_code(), **{name: "other"})
    with pytest.raises(OtherCodeError, match=f"{name} is other on the server"):
        require_same_code(str(other))


def test_a_server_that_says_nothing_is_another_one() -> None:
    with pytest.raises(OtherCodeError, match="code is unknown on the server"):
        require_same_code("")


def test_the_first_step_of_a_flow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    other = str(dataclasses.replace(this_code(), lock="0"))
    monkeypatch.setenv(same_code.SERVERS_CODE, other)
    monkeypatch.delenv(same_code.ON_ANOTHER_MACHINE, raising=False)
    assert enter() == {"directory": str(project_root())}  # on the server itself code may be edited
    monkeypatch.setenv(same_code.ON_ANOTHER_MACHINE, "1")
    with pytest.raises(OtherCodeError, match="lock is 0 on the server"):
        enter()
    monkeypatch.setenv(same_code.SERVERS_CODE, str(this_code()))
    assert enter() == {"directory": str(project_root())}
    monkeypatch.delenv(same_code.SERVERS_CODE)
    with pytest.raises(OtherCodeError):
        enter()
