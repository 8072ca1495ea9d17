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
    """Give ``cursor`` the function ``pseudonym(text) -> UUID``: the first 128 bits of HMAC-SHA256(key, text)."""
    padded = key.ljust(BLOCK_BYTES, b"\0")
    inner, outer = bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)
    cursor.execute("SET VARIABLE pseudonym_inner = ?::BLOB", [inner])
    cursor.execute("SET VARIABLE pseudonym_outer = ?::BLOB", [outer])
    cursor.execute(
        "CREATE OR REPLACE TEMP MACRO pseudonym(message) AS left(sha256(getvariable('pseudonym_outer') || "
        "unhex(sha256(getvariable('pseudonym_inner') || encode(message)))), 32)::UUID"
    )


def forget(cursor: duckdb.DuckDBPyConnection) -> None:
    """Take the key out of the connection's memory again."""
    cursor.execute("RESET VARIABLE pseudonym_inner")
    cursor.execute("RESET VARIABLE pseudonym_outer")
