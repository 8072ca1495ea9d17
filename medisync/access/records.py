"""How the ledger is asked here: in transactions that say clearly when it is away, with one idea of time and secrets."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from medisync.access.errors import LedgerAwayError
from medisync.settings import Settings

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """Now, in UTC without a zone, as the ledger keeps times."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


@contextlib.contextmanager
def transaction(ledger: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that commits at the end; raises LedgerAwayError when the ledger cannot be read or written."""
    try:
        with ledger.begin() as connection:
            yield connection
    except sa.exc.IntegrityError:
        raise
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        kind = type(getattr(error, "orig", error)).__name__
        raise LedgerAwayError(
            f"The ledger cannot be read or written ({kind}).", hint="Nobody can be let in until it can; try again."
        ) from error


def digest(secret: str) -> str:
    """What is kept of a secret of 256 random bits: its SHA-256. Such a secret needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def private_key(settings: Settings, name: str, make: Callable[[], bytes] = lambda: secrets.token_bytes(32)) -> bytes:
    """The secret ``data/keys/<name>``, made on first use for the owner alone; of two makers one wins for both."""
    path = settings.keys / name
    if not path.exists():
        settings.make_folders()
        draft = write_private(path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}"), make())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # atomic, and never replaces a secret that is there
        draft.unlink()
    return path.read_bytes()


def write_private(path: Path, content: bytes) -> Path:
    """Write a new file that only its owner can read, through to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path
