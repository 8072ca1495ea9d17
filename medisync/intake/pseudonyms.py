"""Keyed pseudonyms computed inside DuckDB, so that names never reach Python.

The key is made at first start, lies in ``data/keys/`` readable by the owner alone, and is never logged. Without it
nobody can find a patient from a key or check a guess. A person's pseudonym is a keyed SHA-256 cut to half its length
(AMAC: Bellare, Bernstein, Tessaro, Eurocrypt 2016), which costs a short text one block where HMAC costs four. That of
an admission, of which there is another one in every row, is a keyed MD5, a quarter of that. docs/privacy.md has the
argument for both.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from medisync.intake import generations
from medisync.intake.generations import KEY_BYTES, SUBKEY_BYTES
from medisync.settings import Settings

if TYPE_CHECKING:
    import duckdb


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


def install(cursor: duckdb.DuckDBPyConnection, key: bytes, source: str) -> None:
    """Give ``cursor`` the functions ``patient_pseudonym(text) -> UUID`` and ``practitioner_pseudonym``: the first 128
    bits of SHA-256(subkey, text); and ``admission_pseudonym``: MD5(subkey, text), its bytes reversed, which is how
    DuckDB makes a UUID of the number without writing it out. NULL for NULL.

    Each purpose has a subkey of its own, HMAC-SHA256(key, purpose) cut to 128 bits. Admissions belong to their source,
    so theirs holds the source; a patient or practitioner whom two sources know by one identifier stays the same one.
    ``key`` may be the keys of several generations, the oldest first: what the first gives goes through all others.
    """
    first, *later = generations.split(key)
    for purpose, message in (
        ("admission", f"admission\x1f{source}"),
        ("patient", "patient"),
        ("practitioner", "practitioner"),
    ):
        subkey = hmac.digest(first, message.encode(), "sha256")[:SUBKEY_BYTES]
        cursor.execute(f"SET VARIABLE {purpose}_subkey = ?::BLOB", [subkey])
        keyed = f"getvariable('{purpose}_subkey') || encode(message)"
        if purpose == "admission":
            pseudonym = f"md5_number({keyed})::BIT::BLOB::UUID"
        else:
            pseudonym = f"unhex(substring(sha256({keyed}), 1, 32))::UUID"
        for name in (f"{purpose}_pseudonym", f"computed_{purpose}_pseudonym"):
            cursor.execute(
                f"CREATE OR REPLACE TEMP MACRO {name}(message) AS {generations.applied(cursor, later, pseudonym)}"
            )


def learn_practitioners(cursor: duckdb.DuckDBPyConnection, texts: str) -> None:
    """Compute the pseudonyms of the practitioners that the query ``texts`` gives once, rather than for each row.

    A hospital has few of them. Those ``texts`` does not give are computed as before; so are all, when it fails.
    """
    import duckdb

    _forget_practitioners(cursor)
    with suppress(duckdb.Error):
        cursor.execute(f"CREATE TEMP TYPE known_practitioners AS ENUM ({texts})")
        cursor.execute(
            "SET VARIABLE practitioner_keys = (SELECT list(computed_practitioner_pseudonym(message) ORDER BY place) "
            "FROM (SELECT unnest(enum_range(NULL::known_practitioners))::VARCHAR AS message, "
            "generate_subscripts(enum_range(NULL::known_practitioners), 1) AS place))"
        )
        known = cursor.execute("SELECT len(getvariable('practitioner_keys'))").fetchone()
        if known and known[0]:
            place = "enum_code(try_cast(message AS known_practitioners)) + 1"
            cursor.execute(
                "CREATE OR REPLACE TEMP MACRO practitioner_pseudonym(message) AS coalesce("
                f"getvariable('practitioner_keys')[{place}], computed_practitioner_pseudonym(message))"
            )


def forget(cursor: duckdb.DuckDBPyConnection) -> None:
    """Take the keys out of the connection's memory again."""
    for purpose in ("admission", "patient", "practitioner"):
        cursor.execute(f"RESET VARIABLE {purpose}_subkey")
    _forget_practitioners(cursor)
    generations.forget(cursor)


def _forget_practitioners(cursor: duckdb.DuckDBPyConnection) -> None:
    cursor.execute("RESET VARIABLE practitioner_keys")
    cursor.execute("DROP TYPE IF EXISTS temp.known_practitioners")
