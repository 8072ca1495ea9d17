"""Tokens of an external issuer: a real one, in a process of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from medisync.access import issuer as issuer_module
from medisync.access.errors import IssuerAwayError, NotAuthenticatedError
from medisync.access.issuer import configured_trust
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.errors import SettingsError
from medisync.settings import Settings
from tests.support.door import Door, bearer
from tests.support.issuer import Issuer, running_issuer


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture
def trusting(workspace: Settings, issuer: Issuer) -> Iterator[Access]:
    """Access that trusts the issuer, on the real clock."""
    told = {
        "oidc_issuer": "https://login.hospital.example/realm",
        "oidc_audience": "medisync",
        "oidc_jwks_url": f"{issuer.url}/jwks",
        "oidc_role_claim": "realm_access.roles",
        "oidc_roles": "doctor=clinician, it=admin,statistics=analyst",
        "oidc_user_claim": "preferred_username",
    }
    opened = Access.open(workspace.model_copy(update=told))
    yield opened
    opened.ledger.dispose()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(dt.datetime.now(dt.UTC).timestamp())
    said = {
        "iss": "https://login.hospital.example/realm",
        "aud": ["other", "medisync"],
        "iat": now,
        "exp": now + 300,
        "sub": "1234",
        "preferred_username": "grace",
        "realm_access": {"roles": ["doctor", "unknown"]},
        **changes,
    }
    return {name: value for name, value in said.items() if value is not None}


def test_a_token_of_the_issuer_is_accepted(trusting: Access, issuer: Issuer) -> None:
    token = issuer.token(claims())
    found = trusting.principal(token, None)
    assert (found.name, found.role, found.method) == ("external:grace", Role.CLINICIAN, "external")
    assert trusting.glance(token, None) == found
    both = issuer.token(claims(realm_access={"roles": ["doctor", "it"]}))
    assert trusting.principal(both, None).role is Role.ADMIN, "of several roles the one that may most"
    with Door(trusting) as door:
        assert door.get("/runs", headers=bearer(both)).json() == "external:grace"
        assert door.get("/runs", headers=bearer(token)).status_code == 403


NOW = dt.datetime.now(dt.UTC).timestamp()


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": None},
        {"iss": "https://login.hospital.example/other"},
        {"iss": None},
        {"exp": NOW - 60},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"iat": NOW + 86_400},
        {"nbf": NOW + 86_400},
        {"preferred_username": None},
        {"preferred_username": ["grace"]},
        {"preferred_username": ""},
        {"realm_access": None},
        {"realm_access": {"roles": []}},
        {"realm_access": {"roles": ["unknown"]}},
        {"realm_access": {"roles": [["it"]]}},
        {"realm_access": "it"},
    ],
)
def test_a_token_that_says_the_wrong_thing_is_refused(
    trusting: Access, issuer: Issuer, changes: dict[str, Any]
) -> None:
    token = issuer.token(claims(**changes))
    for _ in range(2):  # nor may it be remembered
        assert trusting.glance(token, None) is None
        with pytest.raises(NotAuthenticatedError):
            trusting.principal(token, None)


def test_a_token_it_did_not_sign_is_refused(trusting: Access, issuer: Issuer) -> None:
    good = issuer.token(claims())
    head, body, _ = good.split(".")
    _, _, another_seal = issuer.token(claims(preferred_username="mallory")).split(".")
    forged = [
        issuer.token(claims(), alg="none"),
        issuer.token(claims(), alg="HS256", kid="shared"),  # a shared secret among the published keys
        issuer.token(claims(), kid="made-up"),
        f"{head}.{body}.{another_seal}",
        f"{head}.{body}.",
    ]
    for token in forged:
        with pytest.raises(NotAuthenticatedError):
            trusting.principal(token, None)


def test_a_new_key_is_fetched_and_made_up_ones_are_no_flood(
    trusting: Access, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trusting.principal(issuer.token(claims()), None).name == "external:grace"
    before = issuer.asked()
    for number in range(20):
        with pytest.raises(NotAuthenticatedError):
            trusting.principal(issuer.token(claims(), kid=f"made-up-{number}"), None)
    assert issuer.asked() == before, "asked a moment ago"
    issuer.rotate()
    monkeypatch.setattr(issuer_module, "LEAST_SECONDS_BETWEEN", 0.0)
    assert trusting.principal(issuer.token(claims(sub="2")), None).name == "external:grace"
    assert issuer.asked() == before + 1


def test_the_issuer_may_be_away_once_its_keys_are_known(
    trusting: Access, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = issuer.token(claims()), issuer.token(claims(sub="2"))
    assert trusting.principal(first, None).name == "external:grace"
    newcomer = Access.open(trusting.settings)
    monkeypatch.setattr(issuer_module, "LEAST_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(issuer_module, "FRESH_SECONDS", 0.0)
    issuer.stop()
    try:
        assert trusting.principal(second, None).name == "external:grace", "with the keys it has"
        with pytest.raises(IssuerAwayError) as away:
            newcomer.principal(first, None)
        assert away.value.http_status == 503
    finally:
        issuer.start()
    assert newcomer.principal(issuer.token(claims()), None).name == "external:grace", "it comes back by itself"
    newcomer.ledger.dispose()


def test_an_external_name_is_never_one_of_ours(trusting: Access, issuer: Issuer) -> None:
    trusting.accounts.add_first_admin()
    assert trusting.principal(issuer.token(claims(preferred_username="admin")), None).name == "external:admin"


@pytest.mark.parametrize(
    "given",
    [
        {"oidc_issuer": "x"},
        {"oidc_issuer": "x", "oidc_audience": "y"},
        {"oidc_issuer": "x", "oidc_audience": "y", "oidc_jwks_url": "file:///etc/passwd"},
        {"oidc_issuer": "x", "oidc_audience": "y", "oidc_jwks_url": "https://x", "oidc_roles": "a=boss"},
        {"oidc_issuer": "x", "oidc_audience": "y", "oidc_jwks_url": "https://x", "oidc_roles": "admin"},
    ],
)
def test_an_incomplete_configuration_is_an_error(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        configured_trust(Settings(**given))
    assert configured_trust(Settings()) is None
