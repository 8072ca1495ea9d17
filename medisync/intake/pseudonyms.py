"""Keyed pseudonyms: HMAC-SHA256 (RFC 2104) computed inside DuckDB, so that names never reach Python.

The key is made at first start, lies in ``data/keys/`` readable by the owner alone, and is never logged. Without it
nobody can find a patient from a key or check a guess.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from medisync.settings import Settings

if TYPE_CHECKING:
    import duckdb

KEY_BYTES = 32
BLOCK_BYTES = 64  # of SHA-256


def pseudonym_key(settings: Settings) -> bytes:
    """The workspace's secret key, made on first use; of two processes that try at once one wins for both."""
    path = settings.keys / "pseudonyms.key"
    settings.make_folders()
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # atomic, and never replaces a key that is there
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()


def install(cursor: duckdb.DuckDBPyConnection, key: bytes) -> None:
    """Give ``cursor`` the function ``pseudonym(text) -> UUID``: the first 128 bits of HMAC-SHA256(key, text).

    ``key`` is one key of KEY_BYTES for each generation, the oldest first: the pseudonym of the first generation is
    pseudonymised again under each later one (see :mod:`medisync.intake.rekeying`).
    """
    expression = "message"
    for generation, one in enumerate(generations(key)):
        _set_pads(cursor, one, str(generation))
        text = expression if generation == 0 else f"({expression})::VARCHAR"
        expression = _hmac(text, str(generation))
    cursor.execute(f"CREATE OR REPLACE TEMP MACRO pseudonym(message) AS {expression}")
    cursor.execute("SET VARIABLE pseudonym_generations = ?", [len(key) // KEY_BYTES])


def install_step(cursor: duckdb.DuckDBPyConnection, key: bytes) -> None:
    """Give ``cursor`` the function ``next_pseudonym(UUID) -> UUID``: the pseudonym under one more key."""
    _set_pads(cursor, key, "step")
    cursor.execute(f"CREATE OR REPLACE TEMP MACRO next_pseudonym(old) AS {_hmac('old::VARCHAR', 'step')}")


def generations(key: bytes) -> list[bytes]:
    """The keys of each generation, the oldest first."""
    if not key or len(key) % KEY_BYTES:
        raise ValueError(f"keys have {KEY_BYTES} bytes each")  # a damaged file; its bytes are not for a message
    return [key[start : start + KEY_BYTES] for start in range(0, len(key), KEY_BYTES)]


def forget(cursor: duckdb.DuckDBPyConnection) -> None:
    """Take the keys out of the connection's memory again."""
    row = cursor.execute("SELECT getvariable('pseudonym_generations')").fetchone()
    count = int(row[0]) if row and row[0] is not None else 0
    for name in (*(str(generation) for generation in range(count)), "step"):
        cursor.execute(f"RESET VARIABLE pseudonym_inner_{name}")
        cursor.execute(f"RESET VARIABLE pseudonym_outer_{name}")


def _set_pads(cursor: duckdb.DuckDBPyConnection, key: bytes, name: str) -> None:
    padded = key.ljust(BLOCK_BYTES, b"\0")
    inner, outer = bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)
    cursor.execute(f"SET VARIABLE pseudonym_inner_{name} = ?::BLOB", [inner])
    cursor.execute(f"SET VARIABLE pseudonym_outer_{name} = ?::BLOB", [outer])


def _hmac(text: str, name: str) -> str:
    return (
        f"left(sha256(getvariable('pseudonym_outer_{name}') || "
        f"unhex(sha256(getvariable('pseudonym_inner_{name}') || encode({text})))), 32)::UUID"
    )
