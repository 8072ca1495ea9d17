"""Several generations of the pseudonyms' key: each later one is applied to the pseudonym of the one before."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

KEY_BYTES = 32
SUBKEY_BYTES = 16
MOST_GENERATIONS = 1000


def split(keys: bytes) -> list[bytes]:
    """The key of each generation, the oldest first. Raises ValueError when the bytes are no keys."""
    if not keys or len(keys) % KEY_BYTES or len(keys) > MOST_GENERATIONS * KEY_BYTES:
        raise ValueError(f"keys have {KEY_BYTES} bytes each")  # the bytes are not for a message
    return [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]


def applied(cursor: duckdb.DuckDBPyConnection, later: list[bytes], expression: str) -> str:
    """SQL: the UUID ``expression`` under each of the keys ``later`` in turn; NULL stays NULL.

    The keys go into variables of ``cursor`` until :func:`forget`. Each step is the first 128 bits of SHA-256(subkey,
    text), its subkey HMAC-SHA256(key, purpose) cut to 128 bits, like a person's first pseudonym.
    """
    for number, key in enumerate(later):
        subkey = hmac.digest(key, b"pseudonym", "sha256")[:SUBKEY_BYTES]
        cursor.execute(f"SET VARIABLE later_subkey_{number} = ?::BLOB", [subkey])
        digest = f"sha256(getvariable('later_subkey_{number}') || encode(({expression})::VARCHAR))"
        expression = f"unhex(substring({digest}, 1, 32))::UUID"
    return expression


def forget(cursor: duckdb.DuckDBPyConnection) -> None:
    """Take the keys out of the connection's memory again."""
    names = cursor.execute("SELECT name FROM duckdb_variables() WHERE starts_with(name, 'later_subkey_')").fetchall()
    for (name,) in names:
        cursor.execute(f"RESET VARIABLE {name}")
