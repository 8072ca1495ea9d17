"""Streams whose visitors are not let in any more are ended; the others, however many, cost one question a session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest

from medisync.access import sessions
from medisync.access.permissions import Role
from medisync.access.principal import Principal
from medisync.access.service import Access
from medisync.access.sessions import FAMILY_LIFE
from medisync.api import doorkeeper
from medisync.api.doorkeeper import ENDED, Doorkeeper, Guest
from medisync.api.hub import Client
from medisync.api.views import Sight
from medisync.settings import Settings

ROUND_SECONDS = 0.01
STREAMS = 120


@pytest.fixture
def access(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Access]:
    monkeypatch.setattr(doorkeeper, "RECHECK_SECONDS", ROUND_SECONDS)
    opened = Access.open(workspace)
    opened.accounts.add("keeper", Role.ADMIN, must_change=False)
    yield opened
    opened.ledger.dispose()


def guest(access: Access, name: str, role: Role = Role.CLINICIAN) -> Guest:
    """A stream of a new session of ``name``."""
    if name not in {one.name for one in access.accounts.all()}:
        access.accounts.add(name, role, must_change=False)
    session_id = access.sessions.start(name, "token", FAMILY_LIFE).session_id
    token = access.tokens.issue(name, role, session_id)
    principal = access.principal(token, None)
    return Guest(Client(Sight(principal)), token, None, principal)


def ended(access: Access, guests: list[Guest], meanwhile: Callable[[], object], rounds: int = 3) -> list[bool]:
    """Which of the streams are ended after ``meanwhile`` and some rounds."""

    async def play() -> list[bool]:
        keeper = Doorkeeper(access)
        went_round: list[int] = []
        asked = keeper._gone
        keeper._gone = lambda some: went_round.append(len(some)) or asked(some)  # type: ignore[func-returns-value,method-assign]
        with contextlib.ExitStack() as watched:
            for one in guests:
                watched.enter_context(keeper.watching(one))
            meanwhile()
            keeper.start()
            while sum(went_round) < rounds * len(guests):
                await asyncio.sleep(ROUND_SECONDS)
            await keeper.close()
        assert max(went_round) <= doorkeeper.ASKED_AT_ONCE
        # Nobody stops listening here, so a stream is told in each round.
        told = [await one.client.take(0) or b"" for one in guests]
        over = [await one.client.take(0) is None for one in guests]
        assert over == [one.startswith(ENDED) for one in told]
        return over

    return asyncio.run(play())


def test_a_disabled_account_and_another_role_end_their_streams_alone(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LOOK_SECONDS", 0.0)
    stays, leaves, rises = (guest(access, name) for name in ("stays", "leaves", "rises"))

    def meanwhile() -> None:
        access.accounts.disable("leaves")
        access.accounts.set_role("rises", Role.ANALYST)

    assert ended(access, [stays, leaves, rises], meanwhile) == [False, True, True]


def test_a_ledger_that_is_away_ends_nobody_s_stream(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOOK_SECONDS", 0.0)
    path = access.settings.ledger
    guests = [guest(access, "one"), guest(access, "two")]

    def meanwhile() -> None:
        access.ledger.dispose()
        path.rename(path.with_name("moved"))
        path.mkdir()  # what opens no more

    assert ended(access, guests, meanwhile) == [False, False]


def test_many_streams_of_one_session_are_one_question_a_round(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise all of them would ask the ledger at once, and hold up what they wait for."""
    first = guest(access, "wall")
    guests = [Guest(Client(Sight(first.principal)), first.bearer, None, first.principal) for _ in range(STREAMS)]
    looks: list[str] = []
    look = access.sessions.look

    def counted(key: str) -> Principal | None:
        looks.append(key)
        return look(key)

    monkeypatch.setattr(access.sessions, "look", counted)
    access.sessions.forget_all()
    assert not any(ended(access, guests, lambda: None, rounds=1))
    assert len(looks) <= 2, "once, and once more where a round takes longer than what is remembered"
