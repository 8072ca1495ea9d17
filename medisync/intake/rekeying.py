"""Rotating the key of the pseudonyms, without anybody's name.

Nobody keeps the names that pseudonyms were made of, so they cannot be made anew from a new key alone. Instead each new
key is applied to the pseudonyms themselves: in generation n a person is ``k_n(... k_2(k_1(name)))``. The lake is
brought to the next generation by one transaction over its keys; later deliveries apply all keys in turn and match it.
Who has learnt old keys, but not the newest, can neither find a person nor check a guess.

The other way, making all pseudonyms anew from the archive, was left out: it takes every file ever delivered, in which
rows may have been corrected or deleted since, and archives are emptied.

The file ``data/keys/pseudonyms.key`` holds the keys one after the other; how many are in force is said by the lake
(``clinical.key_generations``), so that the moment of its commit is the moment of the change. A crash before it leaves a
key too many in the file, and the next start finishes the rotation.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import __version__
from medisync.backend.locks import Lock
from medisync.errors import MediSyncError, UserError
from medisync.intake import generations, pseudonyms
from medisync.intake.generations import KEY_BYTES
from medisync.lake import Lake

if TYPE_CHECKING:
    import duckdb


class WrongKeyError(UserError):
    """The key file is not the one that the lake's pseudonyms were made with."""

    code = "wrong-key"
    exit_code = 26
    http_status = 503


class KeyRotatedError(MediSyncError):
    """The key was rotated after a delivery was staged and before it was committed: it is to be staged again."""

    code = "key-rotated"
    exit_code = 27
    http_status = 503


@dataclass(frozen=True)
class Rotation:
    """``rows``: table -> rows with a new key. ``pinned_snapshots``: those of kept runs; like all earlier ones
    (``old_snapshots``), they hold the old keys until they expire."""

    generation: int
    rows: dict[str, int]
    snapshot: int
    old_snapshots: int
    pinned_snapshots: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def keys_in_force(lake: Lake) -> bytes:
    """The keys of all generations the lake's pseudonyms are made with, the oldest first.

    A rotation that a crash cut short is finished first. Raises WrongKeyError when the key file is another one.
    """
    keys = keys_in_file(lake)
    generation, fingerprint = _in_force(lake)
    if generation * KEY_BYTES > len(keys) or fingerprint not in (None, _fingerprint(keys[: generation * KEY_BYTES])):
        raise WrongKeyError(
            "The key file is not the one this lake's pseudonyms were made with.",
            hint="Restore data/keys/pseudonyms.key from the backup; with another key no patient would be known again.",
        )
    if len(keys) > generation * KEY_BYTES or _unfinished(lake):
        finish(lake)
        return keys_in_force(lake)
    return keys


def confirm(transaction: duckdb.DuckDBPyConnection, keys: bytes) -> None:
    """Inside a delivery's transaction: the rows were staged under the keys in force. Raises KeyRotatedError."""
    row = transaction.execute("SELECT max(generation) FROM lake.clinical.key_generations").fetchone()
    generation = row[0] if row else None
    if generation is None:
        _record(transaction, 1, keys)
    elif generation != len(keys) // KEY_BYTES:
        raise KeyRotatedError("The key was rotated while the delivery was staged.", hint="It is staged again.")


def rotate(lake: Lake) -> Rotation:
    """Make a new key and bring the whole lake to it, in one transaction. Counts and results stay as they are."""
    with _alone(lake):
        keys = keys_in_file(lake)
        generation, _ = _in_force(lake)
        if len(keys) == generation * KEY_BYTES:
            _write_keys(lake.settings.keys / "pseudonyms.key", keys + secrets.token_bytes(KEY_BYTES))
        return _rekey(lake)


def finish(lake: Lake) -> Rotation | None:
    """Finish a rotation that a crash cut short; None when there is none."""
    with _alone(lake):
        generation, _ = _in_force(lake)
        if len(keys_in_file(lake)) > generation * KEY_BYTES:
            return _rekey(lake)
        _put_dates_in_place(lake)
        return None


def keys_in_file(lake: Lake) -> bytes:
    """The keys of the file, one that is not in force yet included."""
    keys = pseudonyms.pseudonym_key(lake.settings)
    try:
        generations.split(keys)
    except ValueError:
        raise WrongKeyError(
            "The key file is damaged.", hint="Restore data/keys/pseudonyms.key from the backup."
        ) from None
    return keys


def _rekey(lake: Lake) -> Rotation:
    """The transaction. Dates of birth lie outside the lake: before its commit their files hold old and new
    pseudonyms, after it the new ones take their place."""
    lake = lake.on_all_cores()
    keys = keys_in_file(lake)
    generation, _ = _in_force(lake)
    new = keys[: (generation + 1) * KEY_BYTES]
    rows: dict[str, int] = {}
    with closing(lake.cursor()) as cursor:
        step = generations.applied(cursor, [new[-KEY_BYTES:]], "old_key")
        cursor.execute(f"CREATE OR REPLACE TEMP MACRO next_pseudonym(old_key) AS {step}")
        try:
            with lake.transaction(
                f"pseudonyms of key generation {generation + 1}",
                extra={"key_generation": generation + 1, "version": __version__},
                cursor=cursor,
            ) as transaction:
                if generation == 1 and _in_force(lake)[1] is None:
                    _record(transaction, 1, new[:KEY_BYTES])
                _stage_dates(lake, transaction)
                for table, columns in _keyed_tables(transaction).items():
                    sets = ", ".join(f"{column} = next_pseudonym({column})" for column in columns)
                    row = transaction.execute(f"UPDATE lake.{table} SET {sets}").fetchone()
                    rows[table] = int(row[0]) if row else 0
                _record(transaction, generation + 1, new)
        finally:
            generations.forget(cursor)
    _put_dates_in_place(lake)
    snapshot = lake.last_snapshot_id() or 0
    old = lake.query("SELECT count(*) AS n FROM lake.snapshots() WHERE snapshot_id < ?", [snapshot])[0]["n"]
    pinned = lake.query(
        "SELECT DISTINCT snapshot_id FROM analytics.runs WHERE snapshot_id < ? "
        "AND snapshot_id IN (SELECT snapshot_id FROM lake.snapshots()) ORDER BY 1",
        [snapshot],
    )
    return Rotation(generation + 1, rows, snapshot, int(old), tuple(int(row["snapshot_id"]) for row in pinned))


def _keyed_tables(cursor: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Every table with pseudonyms and their columns: whatever in the lake is a UUID called a key."""
    tables: dict[str, list[str]] = {}
    for schema, table, column in cursor.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake' "
        "AND data_type = 'UUID' AND column_name LIKE '%\\_key' ESCAPE '\\' ORDER BY ALL"
    ).fetchall():
        tables.setdefault(f"{schema}.{table}", []).append(column)
    return tables


def _date_files(lake: Lake) -> list[Path]:
    return sorted((lake.settings.keys / "birth_dates").glob("*.parquet"))


def _next_of(path: Path) -> Path:
    return path.with_suffix(".next")


def _unfinished(lake: Lake) -> bool:
    return any(_next_of(path).exists() for path in _date_files(lake))


def _stage_dates(lake: Lake, cursor: duckdb.DuckDBPyConnection) -> None:
    for path in _date_files(lake):
        known = f"read_parquet('{_quoted(path)}')"
        new = f"SELECT next_pseudonym(patient_key) AS patient_key, birth_date FROM {known}"
        _copy(cursor, new, _next_of(path))
        _copy(cursor, f"FROM {known} UNION ALL {new}", path)


def _copy(cursor: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    draft = path.with_suffix(".draft")
    cursor.execute(f"COPY ({query}) TO '{_quoted(draft)}' (FORMAT parquet)")
    draft.chmod(0o600)
    _sync(draft)
    draft.replace(path)


def _put_dates_in_place(lake: Lake) -> None:
    for path in _date_files(lake):
        if _next_of(path).exists():
            _next_of(path).replace(path)


def _in_force(lake: Lake) -> tuple[int, str | None]:
    rows = lake.query("SELECT generation, fingerprint FROM clinical.key_generations ORDER BY generation DESC LIMIT 1")
    return (int(rows[0]["generation"]), rows[0]["fingerprint"]) if rows else (1, None)


def _record(transaction: duckdb.DuckDBPyConnection, generation: int, keys: bytes) -> None:
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    transaction.execute(
        "INSERT INTO lake.clinical.key_generations (generation, fingerprint, since) VALUES (?, ?, ?)",
        [generation, _fingerprint(keys[: generation * KEY_BYTES]), now],
    )


def _fingerprint(keys: bytes) -> str:
    return hmac.new(keys, b"medisync key fingerprint", hashlib.sha256).hexdigest()[:16]


def _write_keys(path: Path, keys: bytes) -> None:
    """In one step: the file is the old one or the new one, whenever the power fails."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(keys)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(lake: Lake) -> Iterator[None]:
    """One rotation at a time; the lock goes with its holder."""
    lake.settings.make_folders()
    with lake.backend.lock(Lock.ROTATION, seconds=None):
        yield


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
