"""Logins are slowed down: for a guesser, not for everybody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from medisync.access.attempts import RULES, wait_seconds
from medisync.access.errors import LoginRefusedError, TooManyAttemptsError
from medisync.access.service import Access
from medisync.ledger.engine import metadata
from medisync.settings import Settings
from tests.support.door import SetClock
from tests.support.login import PASSWORD

FREE = RULES["account"].free


@pytest.fixture
def workspace(either_workspace: Settings) -> Settings:
    """The ledger is in SQLite or in Postgres."""
    return either_workspace


def guess(access: Access, name: str = "viewer", where: str = "10.0.0.1", **options: str) -> None:
    """One wrong guess that is let through to the password."""
    with pytest.raises(LoginRefusedError):
        access.log_in_browser(name, "not the password", where=where, **options)


def delayed(access: Access, name: str = "viewer", where: str = "10.0.0.1", password: str = PASSWORD) -> int:
    """How long the right password has to wait."""
    with pytest.raises(TooManyAttemptsError) as told:
        access.log_in_browser(name, password, where=where)
    assert str(told.value.retry_after_seconds) in told.value.message
    return told.value.retry_after_seconds


def test_the_wait_doubles_up_to_its_limit() -> None:
    rule = RULES["account"]
    waits = [wait_seconds(rule, failures, 0.0) for failures in range(rule.free + 12)]
    assert waits[: rule.free] == [0.0] * rule.free
    assert waits[rule.free : rule.free + 4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == rule.longest_seconds
    assert wait_seconds(rule, 10**9, 0.0) == rule.longest_seconds
    assert wait_seconds(rule, rule.free, 1.5) < 0


def test_a_guesser_waits_longer_and_longer_and_a_restart_forgives_nothing(access: Access, clock: SetClock) -> None:
    for _ in range(FREE):
        guess(access)
    assert delayed(access) == 1
    again = Access.open(access.settings, clock)  # as after a restart
    assert delayed(again) == 1
    again.ledger.dispose()
    clock.move(seconds=1.1)
    guess(access)
    assert delayed(access) == 2
    clock.move(seconds=2.1)
    guess(access)
    assert delayed(access) == 4


def test_what_is_refused_for_haste_counts_nothing(access: Access, clock: SetClock) -> None:
    for _ in range(FREE):
        guess(access)
    for _ in range(50):
        assert delayed(access) == 1
    clock.move(seconds=1.1)
    assert access.log_in_browser("viewer", PASSWORD, where="10.0.0.1").principal.name == "viewer"
    guess(access)  # and the count starts afresh
    guess(access)


def test_nobody_is_locked_out_by_another_s_guesses(access: Access, clock: SetClock) -> None:
    known = access.log_in_browser("viewer", PASSWORD, where="10.0.0.1")
    for _ in range(30):
        clock.move(seconds=301)
        guess(access, where="10.6.6.6")
    assert delayed(access, where="10.0.0.1") > 1, "a browser nobody knows waits"
    again = access.log_in_browser("viewer", PASSWORD, where="10.6.6.6", device=known.device)
    assert again.principal.name == "viewer", "the browser that logged in before does not"
    assert again.device == known.device


def test_a_device_opens_its_own_account_s_lane_only(access: Access) -> None:
    known = access.log_in_browser("viewer", PASSWORD, where="10.0.0.1")
    for device in (known.device, "forged." + "0" * 64, "nothing", "é.ü"):
        guess(access, "clinician", device=device)
    guess(access, "clinician")
    assert delayed(access, "clinician") == 1


def test_a_device_is_slowed_down_itself(access: Access) -> None:
    known = access.log_in_browser("viewer", PASSWORD, where="10.0.0.1")
    for _ in range(RULES["device"].free):
        guess(access, device=known.device)
    with pytest.raises(TooManyAttemptsError):
        access.log_in_browser("viewer", PASSWORD, where="10.0.0.1", device=known.device)


def test_one_address_that_tries_many_names_is_slowed_down(access: Access) -> None:
    for number in range(RULES["address"].free):
        guess(access, f"name{number}")
    assert delayed(access, "clinician") == 1
    assert access.log_in_browser("clinician", PASSWORD, where="10.0.0.2").principal.name == "clinician"


def test_a_guesser_s_own_account_does_not_clear_the_address(access: Access) -> None:
    free = RULES["address"].free
    for number in range(free):
        if number % 3 == 0:
            access.log_in_browser("viewer", PASSWORD, where="10.0.0.1")
        guess(access, f"name{number}")
    assert delayed(access, "clinician") == 1


def test_a_hundred_at_once_get_no_further_than_one_after_the_other(access: Access, elsewhere: Access) -> None:
    def attempt(number: int) -> type[Exception]:
        try:
            (access, elsewhere)[number % 2].log_in_program("viewer", "not the password", where="10.0.0.1")
        except (LoginRefusedError, TooManyAttemptsError) as error:
            return type(error)
        raise AssertionError("let in")

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(attempt, range(40)))
    assert ends.count(LoginRefusedError) == FREE
    assert ends.count(TooManyAttemptsError) == 40 - FREE


def test_a_clock_that_is_set_back_makes_nobody_wait_longer(access: Access, clock: SetClock) -> None:
    for _ in range(FREE + 1):
        clock.move(seconds=2)
        guess(access)
    clock.move(days=-30)
    assert delayed(access) == 2
    clock.move(seconds=2.1)
    assert access.log_in_browser("viewer", PASSWORD, where="10.0.0.1").principal.name == "viewer"


def test_failures_are_forgiven_with_time(access: Access, clock: SetClock) -> None:
    for _ in range(FREE):
        guess(access)
    clock.move(seconds=RULES["account"].forgiven_seconds)
    guess(access)
    assert delayed(access) == 1
    clock.move(days=10)
    for _ in range(FREE):
        guess(access)


def test_names_as_typed_are_kept_nowhere(workspace: Settings, access: Access) -> None:
    typed = "my-secret-Password-typed-as-a-name"
    guess(access, typed)
    with access.ledger.begin() as connection:
        kept = repr([connection.execute(sa.select(table)).all() for table in metadata.sorted_tables])
    files = b"".join(path.read_bytes() for path in workspace.data.glob("ledger.sqlite*"))
    for text in (typed, typed.lower()):
        assert text not in kept
        assert text.encode() not in files
