"""The address of the server profile's Postgres database, and connections to it.

The password is never in it: libpq reads it from a password file (``MEDISYNC_DATABASE_PASSFILE``, ``PGPASSFILE`` or
``~/.pgpass``), so that no process, log or error of ours ever holds it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from medisync.errors import DatabaseAwayError

if TYPE_CHECKING:
    import psycopg

    from medisync.settings import Settings

SCHEMES = ("postgresql", "postgres")
PARAMETERS = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey")
"""What may follow the question mark, as in https://www.postgresql.org/docs/current/libpq-connect.html."""

CONNECT_SECONDS = 5
DEAD_AFTER_SECONDS = 20
"""A peer whose machine vanished without a word is given up after that; so are locks it held."""
KEEPALIVE = {"keepalives_idle": "5", "keepalives_interval": "5", "keepalives_count": "3"}

LAKE, LEDGER, PREFECT = "lake", "ledger", "prefect"
"""Its schemas."""


@dataclass(frozen=True)
class Address:
    """Where a database is. ``parameters`` are libpq's."""

    host: str
    port: int
    user: str
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    passfile: Path | None = None

    def __str__(self) -> str:
        """For people."""
        return f"{self.name} on {self.host}:{self.port}"

    def libpq(self) -> dict[str, str]:
        """For libpq, which psycopg and DuckDB both use."""
        found = {
            "host": self.host,
            "port": str(self.port),
            "user": self.user,
            "dbname": self.name,
            "connect_timeout": str(CONNECT_SECONDS),
            "application_name": "medisync",
            **KEEPALIVE,
            "tcp_user_timeout": str(DEAD_AFTER_SECONDS * 1000),
            **self.parameters,
        }
        return found if self.passfile is None else {**found, "passfile": str(self.passfile)}

    def dsn(self) -> str:
        """The same as one text."""
        return " ".join(f"{name}='{_escaped(value)}'" for name, value in self.libpq().items())

    def open(self, *, autocommit: bool = False, schema: str | None = None) -> psycopg.Connection:
        """A connection that ends with whatever holds it; raises psycopg.Error."""
        from medisync.backend.connection import OwnedConnection

        options = None if schema is None else f"-c search_path={schema}"
        return OwnedConnection.connect(self.dsn(), autocommit=autocommit, options=options)

    def connect(self) -> psycopg.Connection:
        """A connection that commits each statement; raises DatabaseAwayError."""
        import psycopg

        try:
            return self.open(autocommit=True)
        except psycopg.Error as error:
            raise self.away(error) from None

    def connect_patiently(self, seconds: float) -> psycopg.Connection:
        """The same, tried again until ``seconds`` have passed."""
        deadline, pause = time.monotonic() + seconds, 0.1
        while True:
            try:
                return self.connect()
            except DatabaseAwayError:
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 2.0)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """What psycopg says of a connection that broke becomes a DatabaseAwayError."""
        import psycopg

        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self.away(error) from None

    def away(self, error: BaseException) -> DatabaseAwayError:
        """The error for whatever the database, or the way to it, says."""
        return DatabaseAwayError(
            f"The database {self} cannot be reached: {reason(error)}.",
            hint="What was committed is safe; work goes on when it is back. See: medisync doctor",
        )


def parse(url: str, passfile: Path | None = None) -> Address:
    """The address ``postgresql://user@host:port/name`` gives; raises ValueError that repeats nothing of it."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("it must begin with postgresql://")
    if parts.password is not None:
        raise ValueError("it must hold no password: write that into a file and name it in MEDISYNC_DATABASE_PASSFILE")
    try:
        port = parts.port or 5432
    except ValueError:
        raise ValueError("its port is no number") from None
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(name for name in parameters if name not in PARAMETERS)
    if unknown:
        raise ValueError(f"it may have the parameters {', '.join(PARAMETERS)} and no others")
    host = parameters.pop("host", None) or unquote(parts.hostname or "")
    name = unquote(parts.path.removeprefix("/"))
    if not (host and parts.username and name):
        raise ValueError("it must name user, host and database: postgresql://user@host:5432/database")
    return Address(host, port, unquote(parts.username), name, parameters, passfile)


def address_of(settings: Settings) -> Address:
    """The address the settings give."""
    return parse(settings.database_url, settings.database_passfile)


def reason(error: BaseException) -> str:
    """Why, as the server or the library said it, on one line and without what was sent."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line.rpartition(" failed: ")[2] for line in lines if " failed: " in line] or lines[:1]
    return said[0].rstrip(".") if said else type(error).__name__


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
