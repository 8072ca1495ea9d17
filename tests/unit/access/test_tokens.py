"""Access tokens: what is accepted, and above all what is not."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medisync.access.errors import NotAuthenticatedError
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.access.tokens import ACCESS_SECONDS, LEEWAY_SECONDS
from tests.support.door import SetClock
from tests.support.login import PASSWORD


@pytest.fixture
def token(access: Access) -> str:
    return access.log_in_program("analyst", PASSWORD, where="x").access_token


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def signed(access: Access, claims: dict[str, Any], **header: Any) -> str:
    """A token signed with the right key, whatever it says."""
    kid, key = access.keys.signing()
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid, **header})


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def refused(access: Access, token: str) -> str:
    """Why the token is refused; nothing of it may be repeated."""
    with pytest.raises(NotAuthenticatedError) as error:
        access.principal(token, None)
    assert access.glance(token, None) is None
    assert not token or token not in str(error.value)
    return error.value.message


def test_a_good_token_names_its_holder(access: Access, token: str) -> None:
    found = access.principal(token, None)
    assert (found.name, found.role, found.method) == ("analyst", Role.ANALYST, "token")
    assert access.glance(token, None) == found
    header, claims = jwt.get_unverified_header(token), claims_of(token)
    assert header["alg"] == "EdDSA"
    assert {"kid"} <= header.keys()
    assert {"iss", "aud", "exp", "nbf", "iat", "jti", "sub", "role", "session"} <= claims.keys()
    assert claims["exp"] - claims["iat"] == ACCESS_SECONDS


def test_it_expires(access: Access, token: str, clock: SetClock) -> None:
    assert access.principal(token, None).name == "analyst"
    clock.move(seconds=ACCESS_SECONDS + LEEWAY_SECONDS - 1)
    assert access.principal(token, None).name == "analyst", "clocks may be a little apart"
    clock.move(seconds=1)
    assert "expired" in refused(access, token)


def test_a_clock_that_jumps(access: Access, elsewhere: Access, token: str, clock: SetClock) -> None:
    assert access.principal(token, None).name == "analyst"
    clock.move(hours=-1)  # set back: what was issued in the future is not good yet, here nor elsewhere
    assert "not valid yet" in refused(access, token)
    assert "not valid yet" in refused(elsewhere, token)
    clock.move(hours=1)
    assert access.principal(token, None).name == "analyst"
    clock.move(days=400)  # set forward: everything has expired, and a login works at once
    assert "expired" in refused(access, token)
    later = access.log_in_program("analyst", PASSWORD, where="x")
    assert access.principal(later.access_token, None).name == "analyst"


FAULTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another audience": lambda claims: {**claims, "aud": "elsewhere"},
    "several audiences": lambda claims: {**claims, "aud": ["medisync-api", "elsewhere"]},
    "another issuer": lambda claims: {**claims, "iss": "https://issuer.example"},
    "not valid yet": lambda claims: {**claims, "nbf": claims["nbf"] + 60},
    "issued in the future": lambda claims: {**claims, "iat": claims["iat"] + 60, "exp": claims["exp"] + 60},
    "a life too long": lambda claims: {**claims, "exp": claims["exp"] + 1},
    "times that are no numbers": lambda claims: {**claims, "exp": "2099-01-01"},
    "an end that is true": lambda claims: {**claims, "exp": True},
    "a session that is no text": lambda claims: {**claims, "session": {"$ne": ""}},
    "a session there never was": lambda claims: {**claims, "session": "nothing"},
    "another name": lambda claims: {**claims, "sub": "admin"},
    **{
        f"no {name}": lambda claims, name=name: {one: value for one, value in claims.items() if one != name}  # type: ignore[misc]
        for name in ("iss", "aud", "exp", "nbf", "iat", "jti", "sub", "role", "session")
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_token_of_ours_that_says_the_wrong_thing_is_refused(access: Access, token: str, fault: str) -> None:
    refused(access, signed(access, FAULTS[fault](claims_of(token))))


def test_a_role_written_into_a_token_counts_for_nothing(access: Access, token: str) -> None:
    raised = signed(access, {**claims_of(token), "role": "admin"})
    assert access.principal(raised, None).role is Role.ANALYST


def test_tokens_without_our_signature_are_refused(access: Access, token: str) -> None:
    claims, kid = claims_of(token), jwt.get_unverified_header(token)["kid"]
    _, key = access.keys.signing()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    head, body, seal = token.split(".")
    others = Ed25519PrivateKey.generate()
    forged = {
        "another key": jwt.encode(claims, others, algorithm="EdDSA", headers={"kid": kid}),
        "alg none": f"{part({'alg': 'none', 'typ': 'JWT', 'kid': kid})}.{body}.",
        "alg None": f"{part({'alg': 'None', 'typ': 'JWT', 'kid': kid})}.{body}.",
        "no signature": f"{head}.{body}.",
        "the public key as a shared secret": jwt.encode(claims, raw, algorithm="HS256", headers={"kid": kid}),
        "other claims under the seal": f"{head}.{part({**claims, 'sub': 'admin'})}.{seal}",
        "unknown key id": jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "../../etc/passwd"}),
        "no key id": jwt.encode(claims, key, algorithm="EdDSA"),
        "a key of its own": jwt.encode(
            claims, others, algorithm="EdDSA", headers={"kid": kid, "jwk": {"kty": "OKP"}, "jku": "http://127.0.0.1:9/"}
        ),
        "nothing": "",
        "no token": "abc",
        "dots": "...",
        "much": "a" * 100_000,
        "no text": "\u00e9.\u00fc.\u0000",
    }
    for what, one in forged.items():
        assert refused(access, one), what
    assert access.principal(token, None).name == "analyst"


def test_a_rotation_overlaps(access: Access, elsewhere: Access, token: str, clock: SetClock) -> None:
    assert elsewhere.principal(token, None).name == "analyst"
    old, old_key = access.keys.signing()
    new = access.keys.rotate()
    assert access.keys.signing()[0] == new
    for one in (access, elsewhere):  # the token of the old key goes on until it expires
        assert one.principal(token, None).name == "analyst"
    following = access.log_in_program("analyst", PASSWORD, where="x").access_token
    assert jwt.get_unverified_header(following)["kid"] == new
    elsewhere.keys._look(now=True)  # another process looks by itself, at most half a second later
    assert elsewhere.principal(following, None).name == "analyst"

    clock.move(seconds=60)  # a thief of the old key signs with it after it was retired
    now = int(clock().replace(tzinfo=dt.UTC).timestamp())
    late = {**claims_of(token), "iat": now, "nbf": now, "exp": now + ACCESS_SECONDS}
    forged = jwt.encode(late, old_key, algorithm="EdDSA", headers={"kid": old})
    assert "not used any more" in refused(access, forged)

    clock.move(hours=2)
    access.keys.rotate()
    assert old not in {key.kid for key in access.keys.listed()}, "old keys go once nothing of theirs can be valid"


def test_a_key_that_was_seen_is_gone_at_once(access: Access, token: str) -> None:
    assert access.principal(token, None).name == "analyst"
    access.keys.rotate(at_once=True)
    assert "not one of this workspace" in refused(access, token)
    assert len(access.keys.listed()) == 1


def test_keys_are_the_same_after_a_restart(access: Access, token: str, clock: SetClock) -> None:
    again = Access.open(access.settings, clock)
    assert again.principal(token, None).name == "analyst"
    again.ledger.dispose()
