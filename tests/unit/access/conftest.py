"""Access over an empty workspace, with a clock that can be set and passwords that cost little."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from medisync.access import passwords
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.settings import Settings
from tests.support.door import Door, SetClock
from tests.support.login import PASSWORD


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same argon2id with little memory: a hundred logins take no ten seconds."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    passwords._nobody.cache_clear()
    yield
    passwords._nobody.cache_clear()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def access(workspace: Settings, clock: SetClock) -> Iterator[Access]:
    """One process' access, with an account for each role: its name is the role's."""
    opened = Access.open(workspace, clock)
    for role in Role:
        opened.accounts.add(role.value, role, PASSWORD, must_change=False)
    yield opened
    opened.ledger.dispose()


@pytest.fixture
def elsewhere(access: Access, clock: SetClock) -> Iterator[Access]:
    """Another process' access over the same workspace."""
    opened = Access.open(access.settings, clock)
    yield opened
    opened.ledger.dispose()


@pytest.fixture
def door(access: Access) -> Iterator[Door]:
    with Door(access) as opened:
        yield opened
