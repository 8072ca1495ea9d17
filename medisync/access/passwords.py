"""Passwords: argon2id (RFC 9106), a few rules, and one-time passwords."""

from __future__ import annotations

import functools
import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from medisync.access.errors import WeakPasswordError

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 256
"""Longer texts are refused before they are hashed: hashing must not be a way to keep the server busy."""

COMMON = frozenset(
    {
        "123456789012",
        "1234567890123",
        "administrator",
        "changemechangeme",
        "hospitalhospital",
        "letmeinletmein",
        "medisyncmedisync",
        "passwordpassword",
        "password1234",
        "password12345",
        "password123456",
        "qwertyuiop12",
        "qwertyuiopasdf",
        "welcome12345",
        "iloveyou1234",
    }
)

# OWASP's Password Storage Cheat Sheet names 46 MiB with one pass as enough; this takes two.
_hasher = PasswordHasher(time_cost=2, memory_cost=46 * 1024, parallelism=1)

_at_once = threading.BoundedSemaphore(2)
"""Each check takes 46 MiB: a flood of logins must not take the memory of the machine."""


def hash_password(password: str) -> str:
    """An argon2id hash with its parameters and salt."""
    with _at_once:
        return _hasher.hash(password)


def is_right(password: str, stored: str | None) -> bool:
    """Whether ``password`` made the hash ``stored``; as slow for None (nobody has that name) as for a wrong one."""
    if len(password) > MOST_CHARACTERS:
        password, stored = "", None
    with _at_once:
        try:
            _hasher.verify(stored or _nobody(), password)
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(stored)


def require_strong(password: str, *, name: str, old: str | None = None) -> None:
    """Raises WeakPasswordError, naming the rule that is broken. Length counts, not kinds of signs (NIST 800-63B)."""
    folded = password.casefold()
    if len(password) < LEAST_CHARACTERS:
        raise WeakPasswordError(
            f"The password has {len(password)} characters; at least {LEAST_CHARACTERS} are needed.",
            hint="A few unrelated words do well.",
        )
    if len(password) > MOST_CHARACTERS:
        raise WeakPasswordError(f"The password has more than {MOST_CHARACTERS} characters.")
    if len(set(folded)) < 5 or folded in COMMON or folded.replace(name.casefold(), "").strip("0123456789 ") == "":
        raise WeakPasswordError("The password is one of the first anybody would try.", hint="Choose another one.")
    if password == old:
        raise WeakPasswordError("The new password is the old one.", hint="Choose another one.")


def one_time_password() -> str:
    """A password to be read out and typed once: 80 random bits in five groups."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another
    return "-".join("".join(secrets.choice(alphabet) for _ in range(4)) for _ in range(4))


@functools.cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(32))
