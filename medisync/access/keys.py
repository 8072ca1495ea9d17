"""The keys that sign access tokens: Ed25519, made at first start, rotated with overlap.

Ed25519 and not a shared secret: pages, JupyterLab and other machines only need the public half to check a token, and
no key can be taken for one of another algorithm. All keys lie in one file, so that a rotation is one atomic rename;
``retired_at`` says until when a key signed. A retired key still verifies what it signed before, until that expired.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medisync.access.records import Clock, private_key, utc_now, write_private
from medisync.backend.choice import backend_of
from medisync.backend.locks import Lock
from medisync.settings import Settings

FILE = "tokens.json"
LOOK_SECONDS = 0.5
"""How often a process looks whether another one has rotated the keys."""

KEPT_AFTER_RETIREMENT = dt.timedelta(hours=1)
"""Longer than any access token lives."""


@dataclass(frozen=True)
class SigningKey:
    """One key; times are UTC without a zone, in ISO 8601."""

    kid: str
    secret: str
    made_at: str
    retired_at: str | None = None

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(self.secret))

    @property
    def retired(self) -> dt.datetime | None:
        return None if self.retired_at is None else dt.datetime.fromisoformat(self.retired_at)


@dataclass(frozen=True)
class _Held:
    """A key, ready to be used."""

    key: SigningKey
    private: Ed25519PrivateKey
    public: Ed25519PublicKey


class SigningKeys:
    """The keys of one workspace; ``version`` changes whenever they do."""

    def __init__(self, settings: Settings, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._path = settings.keys / FILE
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._looked_at = float("-inf")
        self._held: dict[str, _Held] = {}  # replaced as a whole: other threads read it meanwhile
        self.version = 0

    def signing(self) -> tuple[str, Ed25519PrivateKey]:
        """The id and private half of the key that signs now."""
        self._look()
        one = next(one for one in self._held.values() if one.key.retired_at is None)
        return one.key.kid, one.private

    def verifying(self, kid: str) -> tuple[Ed25519PublicKey, dt.datetime | None] | None:
        """The public half of the key ``kid`` and until when it signed; None when there is no such key."""
        self._look()
        found = self._held.get(kid)
        return None if found is None else (found.public, found.key.retired)

    def listed(self) -> list[SigningKey]:
        """All keys, the one that signs last."""
        self._look(now=True)
        return [one.key for one in self._held.values()]

    def rotate(self, *, at_once: bool = False) -> str:
        """Make a new key and sign with it; its id. The old ones verify what they signed until that expired, or, with
        ``at_once`` (a key may have been seen), nothing any more."""
        self._look()
        with backend_of(self._settings).lock(Lock.TOKENS, seconds=self._settings.lock_seconds):
            now = self._clock()
            held = [SigningKey(**one) for one in json.loads(self._path.read_bytes())]
            stamp = now.isoformat()
            kept = [
                SigningKey(key.kid, key.secret, key.made_at, key.retired_at or stamp)
                for key in held
                if not at_once and (key.retired is None or now - key.retired < KEPT_AFTER_RETIREMENT)
            ]
            made = _new_key(now)
            draft = write_private(self._path.with_name(f".{FILE}.{secrets.token_hex(4)}"), _as_file([*kept, made]))
            os.replace(draft, self._path)
        self._look(now=True)
        return made.kid

    def _look(self, *, now: bool = False) -> None:
        """Read the file when it is another one than before; at most every LOOK_SECONDS."""
        moment = time.monotonic()
        if not now and moment - self._looked_at < LOOK_SECONDS:
            return
        with self._lock:
            if not self._path.exists():
                private_key(self._settings, FILE, lambda: _as_file([_new_key(self._clock())]))
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            if stamp != self._stamp:
                keys = [SigningKey(**one) for one in json.loads(self._path.read_bytes())]
                self._held = {key.kid: _Held(key, key.private, key.private.public_key()) for key in keys}
                self._stamp = stamp
                self.version += 1
            self._looked_at = moment


def _new_key(now: dt.datetime) -> SigningKey:
    raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return SigningKey(f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}", base64.b64encode(raw).decode(), now.isoformat())


def _as_file(keys: list[SigningKey]) -> bytes:
    values: list[dict[str, Any]] = [asdict(key) for key in keys]
    return json.dumps(values, indent=1).encode()
