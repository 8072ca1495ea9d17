"""Several machines: one Postgres database with a schema each for the lake's catalog, the ledger and Prefect."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from medisync.backend.backend import Backend, HeldLock, NewestSnapshot, quoted
from medisync.backend.choice import note_server
from medisync.backend.database import DEAD_AFTER_SECONDS, LAKE, LEDGER, PREFECT, Address, address_of
from medisync.backend.locks import Lock, busy
from medisync.errors import DatabaseAwayError

if TYPE_CHECKING:
    import duckdb
    import psycopg
    import sqlalchemy as sa

    from medisync.settings import Settings

WRITER_SECONDS = 30.0
"""How long whoever is about to write waits for a database that is away, such as one that is just restarting."""

NEWEST = f"SELECT max(snapshot_id) FROM {LAKE}.ducklake_snapshot"


class PostgresBackend(Backend):
    """``settings.database_url`` says where. A process that was forked makes connections of its own."""

    extensions = ("ducklake", "postgres_scanner", "icu")
    holds_files = False
    metadata = f"__ducklake_metadata_lake.{LAKE}"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.address = address_of(settings)
        self._found: set[str] = set()

    @property
    def title(self) -> str:
        return f"Postgres database {self.address}"

    def wait(self, say: Callable[[str], None], *, seconds: float) -> None:
        try:
            self.address.connect().close()
        except DatabaseAwayError as error:
            say(f"{error.message} Waiting for it.")
            self.address.connect_patiently(seconds).close()
            say(f"The database {self.address} answers.")

    def has_lake(self) -> bool:
        return self._has(f"{LAKE}.ducklake_snapshot")

    def make_room(self) -> None:
        """Its schemas, also Prefect's, which does not make its own. Waits for a database that is just starting."""
        for name in (LAKE, LEDGER, PREFECT):
            self._make_schema(name)
        note_server(self.settings, str(self.address))

    def _attach(self, connection: duckdb.DuckDBPyConnection, *options: str) -> None:
        import duckdb

        # Where the files lie is each machine's own to know: a shared folder may have another path there.
        files = (f"DATA_PATH '{quoted(self.settings.lake_place)}'", "OVERRIDE_DATA_PATH true")
        given = (f"METADATA_SCHEMA '{LAKE}'", *files, *options)
        address = quoted(f"ducklake:postgres:{self.address.dsn()}")
        try:
            connection.execute(f"ATTACH '{address}' AS lake ({', '.join(given)})")
        except duckdb.IOException as error:
            if "Unable to connect" in str(error):
                raise self.address.away(error) from None
            raise

    def newest(self, ask: Callable[[], int]) -> NewestSnapshot:  # noqa: ARG002 - the catalog itself tells
        return _Newest(self.address)

    def peek_newest(self) -> int | None:
        if not self.has_lake():
            return None
        with closing(_Newest(self.address)) as newest:
            return newest()

    @contextmanager
    def lock(self, name: str, *, seconds: float | None) -> Iterator[HeldLock]:
        """An advisory lock, kept by a connection of its own: Postgres frees it when that ends."""
        with closing(self.address.connect_patiently(WRITER_SECONDS)) as connection:
            with self.address.asked():
                _acquire(connection, name, seconds)
            yield _Advisory(connection, self.address)

    @contextmanager
    def locks(self, names: Sequence[str]) -> Iterator[frozenset[str]]:
        """All on one connection."""
        with closing(self.address.connect_patiently(WRITER_SECONDS)) as connection:
            with self.address.asked():
                _tell_of_the_dead(connection)
                rows = connection.execute(
                    "SELECT name FROM unnest(%s::text[], %s::bigint[]) AS wanted(name, key) "
                    "WHERE pg_try_advisory_lock(key)",
                    [list(names), [key_of(name) for name in names]],
                ).fetchall()
            yield frozenset(name for (name,) in rows)

    def has_ledger(self) -> bool:
        return self._has(f"{LEDGER}.claims")

    def ledger(self, metadata: sa.MetaData) -> sa.Engine:
        import sqlalchemy as sa

        note_server(self.settings, str(self.address))
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: self.address.open(schema=LEDGER),
            pool_pre_ping=True,  # a connection may be of before a restart of the database
        )
        with self.lock(Lock.LEDGER, seconds=self.settings.lock_seconds):
            self._make_schema(LEDGER)
            metadata.create_all(engine)
        return engine

    def prefect_environment(self) -> dict[str, str]:
        """A URL without a password; asyncpg finds that where libpq does."""
        import sqlalchemy as sa

        address = self.address
        if address.host.startswith("/"):
            url = sa.URL.create("postgresql+asyncpg", address.user, database=address.name, port=address.port)
            url = url.update_query_dict({"host": address.host})
        else:
            url = sa.URL.create("postgresql+asyncpg", address.user, None, address.host, address.port, address.name)
        tls = {f"PG{name.upper()}": value for name, value in address.parameters.items()}
        passfile = {} if address.passfile is None else {"PGPASSFILE": str(address.passfile)}
        return {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": url.render_as_string(),
            "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_SEARCH_PATH": f"{PREFECT}, public",
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            **tls,
            **passfile,
        }

    def faults(self) -> list[str]:
        """Whether it can be reached, written to, and what it is lent its memory for."""
        try:
            with closing(self.address.connect()) as connection, self.address.asked():
                row = connection.execute(
                    "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
                ).fetchone()
        except DatabaseAwayError as error:
            return [error.message]
        return [f"the database {self.address} can be read only"] if row and row[0] else []

    def _has(self, table: str) -> bool:
        """Whether the table is there; what was made once is not asked for again."""
        if table not in self._found:
            with closing(self.address.connect()) as connection, self.address.asked():
                row = connection.execute("SELECT to_regclass(%s)", [table]).fetchone()
            if row is None or row[0] is None:
                return False
            self._found.add(table)
        return True

    def _make_schema(self, name: str) -> None:
        with closing(self.address.connect_patiently(WRITER_SECONDS)) as connection, self.address.asked():
            # Two at once can both find it missing; the second is told that it exists after all.
            connection.execute(f"SELECT pg_advisory_lock({key_of(f'schema {name}')})")
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")


class _Advisory(HeldLock):
    def __init__(self, connection: psycopg.Connection, address: Address) -> None:
        self._connection = connection
        self._address = address

    def require(self) -> None:
        with self._address.asked():
            self._connection.execute("SELECT 1")


class _Newest(NewestSnapshot):
    """A connection kept for one question, a millisecond's work. Another process, and a broken one, get a new one."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._turn = threading.Lock()
        self._connection: psycopg.Connection | None = None
        self._process = os.getpid()
        self._others: list[psycopg.Connection] = []

    def __call__(self) -> int:
        """The number; raises DatabaseAwayError."""
        with self._turn:
            if self._connection is None or self._process != os.getpid():
                return self._ask_anew()
            try:
                return self._ask(self._connection)
            except DatabaseAwayError:  # it may have been away for a moment since the last time
                return self._ask_anew()

    def close(self) -> None:
        if self._connection is not None and self._process == os.getpid():
            self._connection.close()
        elif self._connection is not None:
            self._others.append(self._connection)  # closing it, as forgetting it would, ends that of another process
        self._connection = None

    def _ask_anew(self) -> int:
        self.close()
        self._connection, self._process = self._address.connect(), os.getpid()
        return self._ask(self._connection)

    def _ask(self, connection: psycopg.Connection) -> int:
        with self._address.asked():
            row = connection.execute(NEWEST).fetchone()
        return int(row[0]) if row and row[0] is not None else 0


def key_of(name: str) -> int:
    """The number of 64 bits by which Postgres knows a lock of ours. Advisory locks are a database's own."""
    return int.from_bytes(hashlib.sha256(f"medisync {name}".encode()).digest()[:8], "big", signed=True)


def _tell_of_the_dead(connection: psycopg.Connection) -> None:
    """Postgres is to hear within DEAD_AFTER_SECONDS of a holder whose machine vanished."""
    connection.execute(f"SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = {DEAD_AFTER_SECONDS // 4}")
    connection.execute("SET tcp_keepalives_count = 3")


def _acquire(connection: psycopg.Connection, name: str, seconds: float | None) -> None:
    """Postgres queues those who wait."""
    import psycopg

    _tell_of_the_dead(connection)
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [key_of(name)]).fetchone()
    if row and row[0]:
        return
    if seconds is not None:
        if seconds <= 0:
            raise busy(name, seconds)
        connection.execute(f"SET lock_timeout = {max(1, round(seconds * 1000))}")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [key_of(name)])
    except psycopg.errors.LockNotAvailable:
        raise busy(name, seconds or 0.0) from None
