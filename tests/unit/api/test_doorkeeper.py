"""Streams whose visitors are not let in any more are ended; all of them, however many, cost one question a round."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.access.sessions import FAMILY_LIFE
from medisync.access.tokens import ACCESS_SECONDS, LEEWAY_SECONDS
from medisync.api import doorkeeper
from medisync.api.doorkeeper import ENDED, Doorkeeper, Guest
from medisync.api.hub import Client
from medisync.api.views import Sight
from medisync.settings import Settings

ROUND_SECONDS = 0.01
STREAMS = 30
PASSWORD = "seven green bottles on a wall"


@pytest.fixture
def access(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Access]:
    monkeypatch.setattr(doorkeeper, "RECHECK_SECONDS", ROUND_SECONDS)
    opened = Access.open(workspace)
    opened.accounts.add("keeper", Role.ADMIN, PASSWORD, must_change=False)
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

        def noted(some: list[Guest]) -> list[Guest]:
            gone = asked(some)
            went_round.append(len(some))
            return gone

        keeper._gone = noted  # type: ignore[method-assign]
        with contextlib.ExitStack() as watched:
            for one in guests:
                watched.enter_context(keeper.watching(one))
            meanwhile()
            keeper.start()
            while sum(went_round) < rounds * len(guests):
                await asyncio.sleep(ROUND_SECONDS)
            await keeper.close()
        # Nobody stops listening here, so a stream is told in each round.
        told = [await one.client.take(0) or b"" for one in guests]
        over = [await one.client.take(0) is None for one in guests]
        assert over == [one.startswith(ENDED) for one in told]
        return over

    return asyncio.run(play())


def test_a_disabled_account_and_another_role_end_their_streams_alone(access: Access) -> None:
    stays, leaves, rises = (guest(access, name) for name in ("stays", "leaves", "rises"))

    def meanwhile() -> None:
        access.accounts.disable("leaves")
        access.accounts.set_role("rises", Role.ANALYST)

    assert ended(access, [stays, leaves, rises], meanwhile) == [False, True, True]


def test_a_ledger_that_is_away_ends_nobody_s_stream(access: Access) -> None:
    path = access.settings.ledger
    guests = [guest(access, "one"), guest(access, "two")]

    def meanwhile() -> None:
        access.ledger.dispose()
        path.rename(path.with_name("moved"))
        path.mkdir()  # what opens no more

    assert ended(access, guests, meanwhile) == [False, False]


def test_an_expired_token_ends_its_stream_and_a_cookie_has_none(access: Access) -> None:
    """The session of an expired token lives on, for its refresh token."""
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    access.tokens._clock = lambda: now
    expires, cookie = guest(access, "one"), access.log_in_browser("keeper", PASSWORD, where="here")
    stays = Guest(Client(Sight(cookie.principal)), None, cookie.cookie, cookie.principal)

    def meanwhile() -> None:
        access.tokens._clock = lambda: now + dt.timedelta(seconds=ACCESS_SECONDS + 2 * LEEWAY_SECONDS)

    assert ended(access, [expires, stays], meanwhile) == [True, False]


def test_the_sessions_of_all_streams_are_one_question_a_round(access: Access) -> None:
    """Otherwise a thousand of them would be asked, and hold up the events their streams wait for."""
    guests = [guest(access, "wards") for _ in range(STREAMS)]
    guests += [Guest(Client(Sight(one.principal)), one.bearer, None, one.principal) for one in guests]
    questions: list[str] = []

    def count(*arguments: Any) -> None:
        questions.append(arguments[2])

    def meanwhile() -> None:
        access.sessions.end(guests[7].principal.session_id, "logout")
        sa.event.listen(access.ledger, "before_cursor_execute", count)

    went = ended(access, guests, meanwhile, rounds=2)
    assert [number for number, is_over in enumerate(went) if is_over] == [7, STREAMS + 7]
    assert 2 <= len(questions) <= 3, "one a round; a third may have begun before the end"
