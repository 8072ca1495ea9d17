"""Accounts and passwords."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from medisync.access import passwords
from medisync.access.errors import (
    LastAdminError,
    LoginRefusedError,
    UnknownUserError,
    UserExistsError,
    WeakPasswordError,
)
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.errors import UserError
from medisync.settings import Settings
from tests.support.login import PASSWORD


def test_the_first_administrator_is_made_once(workspace: Settings) -> None:
    accesses = [Access.open(workspace) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda one: one.accounts.add_first_admin(), accesses))
    (password,) = [one for one in made if one is not None]
    login = accesses[0].log_in_browser("admin", password, where="here")
    assert login.principal.must_change_password
    assert accesses[1].accounts.add_first_admin() is None
    for one in accesses:
        one.ledger.dispose()


def test_accounts_of_other_roles_do_not_stand_in_for_the_first_administrator(workspace: Settings) -> None:
    access = Access.open(workspace)
    access.accounts.add("ward", Role.VIEWER)  # before the first start
    assert access.accounts.add_first_admin() is not None
    assert [one.name for one in access.accounts.all() if one.role is Role.ADMIN] == ["admin"]
    access.ledger.dispose()


def test_names_do_not_depend_on_case_and_cannot_be_anything(access: Access) -> None:
    access.accounts.add(" Grace.Hopper@Ward ", Role.VIEWER, PASSWORD)
    assert access.log_in_browser("GRACE.hopper@ward", PASSWORD, where="x").principal.name == "grace.hopper@ward"
    with pytest.raises(UserExistsError):
        access.accounts.add("grace.hopper@WARD", Role.VIEWER)
    for name in ("", "-x", "a b", "a/b", "a:b", "é", "a" * 65, "a\nb", "external:x"):
        with pytest.raises(UserError, match="A user's name"):
            access.accounts.add(name, Role.VIEWER)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("elevenchars", "11 characters"),
        ("x" * 257, "more than 256"),
        ("aaaaaaaaaaaaaaaa", "first anybody would try"),
        ("PasswordPassword", "first anybody would try"),
        ("somebody123456", "first anybody would try"),
    ],
)
def test_weak_passwords_are_refused(password: str, why: str) -> None:
    with pytest.raises(WeakPasswordError, match=why):
        passwords.require_strong(password, name="somebody")


def test_a_new_password_is_another_one() -> None:
    with pytest.raises(WeakPasswordError, match="the old one"):
        passwords.require_strong(PASSWORD, name="somebody", old=PASSWORD)


def test_one_time_passwords_are_strong_and_differ() -> None:
    made = {passwords.one_time_password() for _ in range(50)}
    assert len(made) == 50
    for one in made:
        passwords.require_strong(one, name="admin")


def test_an_outdated_hash_is_made_anew_at_the_next_login(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=2, memory_cost=128, parallelism=1))
    access.log_in_browser("viewer", PASSWORD, where="x")
    found = access.accounts.find("viewer")
    assert found is not None
    parameters = extract_parameters(found[1])
    assert (parameters.type, parameters.time_cost, parameters.memory_cost) == (Type.ID, 2, 128)
    assert access.log_in_browser("viewer", PASSWORD, where="x").principal.name == "viewer"


def test_an_unknown_name_costs_as_much_as_a_wrong_password(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - the base's name
            checked.append(str(hash).rpartition("$")[0].rpartition("$")[0])  # its parameters
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "_hasher", Counting(time_cost=1, memory_cost=64, parallelism=1))
    said = set()
    access.accounts.disable("clinician")
    for name, password in [("viewer", "wrong wrong wrong"), ("nobody", PASSWORD), ("clinician", PASSWORD)]:
        with pytest.raises(LoginRefusedError) as refused:
            access.log_in_program(name, password, where="x")
        said.add(str(refused.value))
    assert len(said) == 1, "the answer tells which of them it was"
    assert len(checked) == 3
    assert len(set(checked)) == 1


def test_an_enormous_password_is_not_hashed(access: Access) -> None:
    with pytest.raises(LoginRefusedError):
        access.log_in_program("viewer", PASSWORD + "x" * 1_000_000, where="x")


def test_there_is_always_an_administrator(access: Access) -> None:
    with pytest.raises(LastAdminError):
        access.accounts.disable("admin")
    with pytest.raises(LastAdminError):
        access.accounts.set_role("admin", Role.ANALYST)
    assert access.log_in_browser("admin", PASSWORD, where="x").principal.role is Role.ADMIN
    access.accounts.set_role("analyst", Role.ADMIN)
    access.accounts.disable("admin")
    with pytest.raises(LastAdminError):
        access.accounts.disable("analyst")


def test_an_unknown_account_is_named(access: Access) -> None:
    with pytest.raises(UnknownUserError, match="ghost"):
        access.accounts.disable("ghost")


def test_secrets_are_for_the_owner_alone(access: Access) -> None:
    access.log_in_program("viewer", PASSWORD, where="x")
    access.keys.rotate()
    files = [path for path in access.settings.keys.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"tokens.json", "browsers.key"}
    for path in [*files, access.settings.ledger]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_neither_passwords_nor_tokens_lie_in_the_ledger(access: Access) -> None:
    pair = access.log_in_program("viewer", PASSWORD, where="x")
    cookie = access.log_in_browser("viewer", PASSWORD, where="x").cookie
    content = b"".join(path.read_bytes() for path in access.settings.data.glob("ledger.sqlite*"))
    for secret in (PASSWORD, pair.refresh_token, pair.access_token, cookie):
        assert secret.encode() not in content
