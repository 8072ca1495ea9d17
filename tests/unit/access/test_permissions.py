"""The one table of who may do what."""

from __future__ import annotations

import itertools
import re

import pytest

from medisync.access.permissions import GRANTS, Permission, Role
from medisync.access.principal import Principal
from medisync.settings import project_root


def of(role: Role, **values: bool) -> Principal:
    return Principal("somebody", role, "cookie", "s", **values)


def test_each_role_may_all_that_the_one_before_may_and_more() -> None:
    assert set(GRANTS) == set(Role)
    for lower, higher in itertools.pairwise(Role):
        assert GRANTS[lower] < GRANTS[higher]
    assert GRANTS[Role.ADMIN] == set(Permission)


@pytest.mark.parametrize(
    ("permission", "lowest"),
    [
        (Permission.READ_RESULTS, Role.VIEWER),
        (Permission.OPEN_PAGES, Role.VIEWER),
        (Permission.READ_FULL, Role.CLINICIAN),
        (Permission.TRIGGER, Role.ANALYST),
        (Permission.OPEN_LAB, Role.ANALYST),
        (Permission.READ_REASONS, Role.ANALYST),
        (Permission.READ_RUNS, Role.ANALYST),
        (Permission.READ_METRICS, Role.ANALYST),
        (Permission.MANAGE_USERS, Role.ADMIN),
        (Permission.MAINTAIN, Role.ADMIN),
        (Permission.OPEN_PREFECT, Role.ADMIN),
        (Permission.READ_AUDIT, Role.ADMIN),
    ],
)
def test_the_lowest_role_that_may(permission: Permission, lowest: Role) -> None:
    order = list(Role)
    assert [role for role in order if of(role).may(permission)] == order[order.index(lowest) :]


def test_the_audience_is_decided_by_the_role() -> None:
    assert [of(role).audience for role in Role] == ["released", "full", "full", "full"]


def test_whoever_must_change_the_password_may_nothing() -> None:
    waiting = of(Role.ADMIN, must_change_password=True)
    assert not any(waiting.may(permission) for permission in Permission)
    assert waiting.audience == "released"


def test_the_documentation_has_the_same_table() -> None:
    text = (project_root() / "docs" / "access.md").read_text(encoding="utf-8")
    roles = [Role(name) for name in re.search(r"^\| may \| (.+) \|$", text, flags=re.M)[1].split(" | ")]  # type: ignore[index]
    told: dict[str, set[Role]] = {}
    for what, cells in re.findall(r"^\| (.*?`.*?) \|((?: (?:yes)? ?\|)+)$", text, flags=re.M):
        granted = {role for role, cell in zip(roles, cells.split("|"), strict=False) if cell.strip() == "yes"}
        told.update(dict.fromkeys(re.findall(r"`([a-z-]+)`", what), granted))
    assert told == {one.value: {role for role in Role if one in GRANTS[role]} for one in Permission}
