"""Sessions: refresh, logout, disabled accounts, and a ledger that is away."""

from __future__ import annotations

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from medisync.access import sessions
from medisync.access.errors import LedgerAwayError, LoginRefusedError, NotAuthenticatedError
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.access.sessions import FAMILY_LIFE, REFRESH_LIFE
from medisync.settings import Settings
from tests.support.door import SetClock
from tests.support.login import PASSWORD


@pytest.fixture
def workspace(either_workspace: Settings) -> Settings:
    """The ledger is in SQLite or in Postgres."""
    return either_workspace


class Monotonic:
    """In place of the module ``time``: a clock nobody can set back, that only goes when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def going(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    made = Monotonic()
    monkeypatch.setattr(sessions, "time", made)
    return made


def is_in(access: Access, *, bearer: str | None = None, cookie: str | None = None) -> bool:
    """As the gate asks: from memory first."""
    if access.glance(bearer, cookie) is not None:
        return True
    try:
        access.principal(bearer, cookie)
    except NotAuthenticatedError:
        return False
    return True


def test_a_refresh_token_works_once(access: Access) -> None:
    first = access.log_in_program("analyst", PASSWORD, where="x")
    second = access.refresh(first.refresh_token, where="x")
    third = access.refresh(second.refresh_token, where="x")
    assert len({one.refresh_token for one in (first, second, third)}) == 3
    assert {one.principal.session_id for one in (first, second, third)} == {first.principal.session_id}
    assert is_in(access, bearer=third.access_token)


def test_a_refresh_token_that_comes_twice_ends_the_whole_session(access: Access) -> None:
    first = access.log_in_program("analyst", PASSWORD, where="x")
    other = access.log_in_program("analyst", PASSWORD, where="x")
    second = access.refresh(first.refresh_token, where="x")
    with pytest.raises(NotAuthenticatedError, match="used before"):
        access.refresh(first.refresh_token, where="thief")
    for token in (first.access_token, second.access_token):
        assert not is_in(access, bearer=token)
    with pytest.raises(NotAuthenticatedError):
        access.refresh(second.refresh_token, where="x")
    assert is_in(access, bearer=other.access_token), "the account's other session goes on"


def test_of_two_who_refresh_at_once_one_succeeds(access: Access, elsewhere: Access) -> None:
    token = access.log_in_program("analyst", PASSWORD, where="x").refresh_token

    def attempt(one: Access) -> bool:
        try:
            one.refresh(token, where="x")
        except NotAuthenticatedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, [access, elsewhere, access, elsewhere])) <= 1


@pytest.mark.parametrize("token", ["", "nothing", "x" * 10_000, "' OR 1=1 --"])
def test_made_up_refresh_tokens_are_refused(access: Access, token: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        access.refresh(token, where="x")


def test_refresh_tokens_and_families_end(access: Access, clock: SetClock) -> None:
    unused = access.log_in_program("analyst", PASSWORD, where="x").refresh_token
    clock.move(seconds=REFRESH_LIFE.total_seconds())
    with pytest.raises(NotAuthenticatedError):
        access.refresh(unused, where="x")
    token = access.log_in_program("analyst", PASSWORD, where="x").refresh_token
    for _ in range(FAMILY_LIFE.days // 5):
        token = access.refresh(token, where="x").refresh_token
        clock.move(days=5)
    with pytest.raises(NotAuthenticatedError):
        access.refresh(token, where="x")


def test_a_logout_works_at_once_here_and_soon_elsewhere(access: Access, elsewhere: Access, going: Monotonic) -> None:
    pair = access.log_in_program("analyst", PASSWORD, where="x")
    cookie = access.log_in_browser("analyst", PASSWORD, where="x").cookie
    assert is_in(elsewhere, bearer=pair.access_token)
    assert is_in(elsewhere, cookie=cookie)
    access.log_out(access.principal(pair.access_token, None), where="x")
    access.log_out(access.principal(None, cookie), where="x")
    assert not is_in(access, bearer=pair.access_token)
    assert not is_in(access, cookie=cookie)
    with pytest.raises(NotAuthenticatedError):
        access.refresh(pair.refresh_token, where="x")
    assert sessions.LOOK_SECONDS < 1
    going.seconds += sessions.LOOK_SECONDS + 0.001
    assert not is_in(elsewhere, bearer=pair.access_token)
    assert not is_in(elsewhere, cookie=cookie)


def test_a_disabled_account_is_out_within_a_second_on_the_real_clock(access: Access, elsewhere: Access) -> None:
    token = access.log_in_program("analyst", PASSWORD, where="x").access_token
    assert is_in(elsewhere, bearer=token)
    access.accounts.disable("analyst")
    time.sleep(1.0)
    assert not is_in(elsewhere, bearer=token)
    with pytest.raises(LoginRefusedError):
        elsewhere.log_in_program("analyst", PASSWORD, where="x")
    access.accounts.enable("analyst")
    assert not is_in(elsewhere, bearer=token), "enabling opens no session again"


def test_the_holders_of_many_sessions_are_those_who_are_still_in(access: Access, clock: SetClock) -> None:
    analyst = access.sessions.start("analyst", "token", FAMILY_LIFE)
    ended, short, gone = (
        access.sessions.start(name, "cookie", life)
        for name, life in (("analyst", FAMILY_LIFE), ("admin", dt.timedelta(hours=1)), ("viewer", FAMILY_LIFE))
    )
    asked = [one.session_id for one in (analyst, ended, short, gone)] + ["made up"]
    assert access.sessions.holders(asked) == {
        one: found for one in asked if (found := access.sessions.look(f"id:{one}")) is not None
    }
    assert len(access.sessions.holders(asked)) == 4
    access.sessions.end(ended.session_id, "logout")
    access.accounts.disable("viewer")
    clock.move(hours=2)
    assert set(access.sessions.holders(asked)) == {analyst.session_id}
    assert access.sessions.holders([]) == {}


def test_a_new_role_counts_from_the_next_login_on(access: Access, elsewhere: Access, going: Monotonic) -> None:
    token = access.log_in_program("analyst", PASSWORD, where="x").access_token
    assert elsewhere.principal(token, None).role is Role.ANALYST
    access.accounts.set_role("analyst", Role.VIEWER)
    going.seconds += sessions.LOOK_SECONDS + 0.001
    assert not is_in(elsewhere, bearer=token), "an open page was drawn for the role before"
    assert elsewhere.log_in_program("analyst", PASSWORD, where="x").principal.role is Role.VIEWER


def test_a_password_change_ends_the_other_sessions(access: Access) -> None:
    mine = access.log_in_browser("viewer", PASSWORD, where="x")
    other = access.log_in_program("viewer", PASSWORD, where="x")
    with pytest.raises(LoginRefusedError):
        access.change_password(mine.principal, "not the old one", "another quiet meadow", where="x")
    access.change_password(mine.principal, PASSWORD, "another quiet meadow", where="x")
    assert is_in(access, cookie=mine.cookie)
    assert not is_in(access, bearer=other.access_token)
    assert access.log_in_program("viewer", "another quiet meadow", where="x").principal.name == "viewer"


def test_a_login_in_a_browser_ends_after_its_hours_whatever_the_clock_does(access: Access, clock: SetClock) -> None:
    cookie = access.log_in_browser("viewer", PASSWORD, where="x").cookie
    clock.move(hours=access.settings.session_hours - 0.1)
    assert is_in(access, cookie=cookie)
    clock.move(hours=0.2)
    assert access.glance(None, cookie) is None
    assert not is_in(access, cookie=cookie)


def test_old_sessions_are_forgotten(access: Access, clock: SetClock) -> None:
    access.log_in_program("viewer", PASSWORD, where="x")
    access.log_in_browser("viewer", PASSWORD, where="x")
    clock.move(days=60)
    access.log_in_browser("viewer", PASSWORD, where="x")
    with access.ledger.begin() as connection:
        counts = [
            connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("sessions", "refresh_tokens")
        ]
    assert counts == [1, 0]


@pytest.mark.parametrize("either_workspace", ["sqlite"], indirect=True)
def test_a_ledger_that_is_away_is_said_clearly(access: Access) -> None:
    pair = access.log_in_program("analyst", PASSWORD, where="x")
    path = access.settings.ledger
    access.ledger.dispose()
    moved = path.with_name("moved")
    path.rename(moved)
    path.mkdir()  # what opens no more
    try:
        with pytest.raises(LedgerAwayError) as error:
            access.log_in_program("analyst", PASSWORD, where="x")
        assert error.value.http_status == 503
        assert str(path) not in str(error.value)
        with pytest.raises(LedgerAwayError):
            access.refresh(pair.refresh_token, where="x")
        with pytest.raises(LedgerAwayError):
            Access.open(access.settings)
    finally:
        path.rmdir()
        moved.rename(path)
    assert access.refresh(pair.refresh_token, where="x").principal.name == "analyst", "and it comes back by itself"
