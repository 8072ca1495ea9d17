"""The lake: one DuckLake, written under one lock, read through pinned snapshots."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import duckdb

from medisync.backend.backend import HeldLock
from medisync.backend.choice import backend_of
from medisync.backend.locks import Lock
from medisync.errors import MediSyncError, NoDataError
from medisync.lake import schema
from medisync.lake.extensions import open_duckdb
from medisync.lake.history import look_back
from medisync.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


class Lake:
    """A workspace's lake: a DuckLake catalog, in SQLite or Postgres, and Parquet files, for the owner alone.

    One instance holds one DuckDB connection that sees every commit at once; use a cursor per thread. ``threads`` is how
    many DuckDB itself may use, None: one a core. It must not be set later, because DuckDB waits for its threads while
    another cursor waits for what they were to do. While it waits it keeps its core busy: the small statements of which
    nearly everything here consists take twice the CPU time with two threads, and no less time.
    """

    def __init__(self, settings: Settings, *, threads: int | None = 1) -> None:
        self.settings = settings
        self.threads = threads
        self.backend = backend_of(settings)
        self.files = settings.lake_folder
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._newest = self.backend.newest(self._ask_newest)
        self._guard = threading.Lock()
        self._wide: Lake | None = None

    def on_all_cores(self) -> Lake:
        """The same lake by a DuckDB of its own that uses every core: for what reads or writes hundreds of thousands of
        rows. It is closed with this one."""
        if self.threads != 1:
            return self
        with self._guard:
            self._wide = self._wide or Lake(self.settings, threads=None)
            return self._wide

    @property
    def exists(self) -> bool:
        """Whether it was made. Raises DatabaseAwayError."""
        return self.backend.has_lake()

    def connection(self) -> duckdb.DuckDBPyConnection:
        """The process's connection, attached for reading and writing; the lake is made or migrated at the first call.

        Raises LakeVersionError when a newer MediSync wrote the lake, LakeTooOldError when it cannot be migrated, and
        DatabaseAwayError.
        """
        with self._guard:
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _open(self) -> duckdb.DuckDBPyConnection:
        self.settings.make_folders()
        os.umask(0o077)  # whatever this process writes from now on is the owner's alone
        connection = open_duckdb(
            *self.backend.extensions,
            memory_limit_mb=self.settings.memory_limit_mb,
            threads=self.threads,
            temp_directory=self.settings.temporary,
        )
        connection.execute("SET TimeZone = 'UTC'")
        try:
            with self.lock():
                self.backend.make_room()
                self.backend.attach(connection, "DATA_INLINING_ROW_LIMIT 0")
                connection.execute("USE lake")
                schema.migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def lock(self, *, seconds: float | None = None) -> AbstractContextManager[HeldLock]:
        """The lake's one write lock, waited for as long as the settings, or ``seconds``, say; raises LakeBusyError."""
        return self.backend.lock(Lock.WRITE, seconds=self.settings.lock_seconds if seconds is None else seconds)

    def close(self) -> None:
        with self._guard:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._wide is not None:
                self._wide.close()
                self._wide = None
        self._newest.close()

    @contextmanager
    def transaction(
        self,
        message: str,
        *,
        author: str = "medisync",
        extra: Mapping[str, Any] | None = None,
        cursor: duckdb.DuckDBPyConnection | None = None,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """One write transaction under the write lock: all of it becomes one snapshot, or none of it happens.

        ``message`` and ``extra`` (JSON) are kept with the snapshot. Do the heavy work before entering; pass the
        ``cursor`` whose temporary tables hold it.
        """
        if cursor is None:
            with closing(self.cursor()) as own, self.transaction(message, author=author, extra=extra, cursor=own):
                yield own
            return
        with self.lock() as held:
            cursor.execute("BEGIN")
            try:
                yield cursor
                cursor.execute(
                    "CALL lake.set_commit_message(?, ?, extra_info => ?)",
                    [author, message, json.dumps(dict(extra or {}), sort_keys=True)],
                )
                held.require()
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.TransactionException):  # a failed COMMIT has rolled back already
                    cursor.execute("ROLLBACK")
                raise

    def last_snapshot_id(self) -> int | None:
        """The newest snapshot; None before the lake exists. Microseconds while nothing was committed."""
        return self._newest() if self.exists else None

    def _ask_newest(self) -> int:
        with closing(self.connection().cursor()) as cursor:
            row = cursor.execute("SELECT id FROM lake.current_snapshot()").fetchone()
        return int(row[0]) if row else 0

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of its own, with its own temporary tables, for one thread."""
        cursor = self.connection().cursor()
        cursor.execute("USE lake")
        return cursor

    def data_files(self) -> dict[str, int]:
        """What lies where the lake's files do, whether the catalog knows of it or not: path below there -> bytes."""
        if not self.settings.has_object_storage:
            found = {}
            for path in self.files.rglob("*.parquet"):
                with suppress(FileNotFoundError):  # clean-up is faster
                    found[path.relative_to(self.files).as_posix()] = path.stat().st_size
            return found
        place = f"{self.settings.lake_place}/"
        if not self.query("FROM glob(?) LIMIT 1", [f"{place}**/*.parquet"]):
            return {}
        rows = self.query("SELECT filename, size FROM read_blob(?)", [f"{place}**/*.parquet"])
        return {row["filename"].removeprefix(place): int(row["size"]) for row in rows}

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Rows of the newest state as dictionaries."""
        cursor = self.cursor()
        try:
            cursor.execute(sql, parameters or [])
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()


class Snapshot:
    """The lake as it was at one snapshot, read-only. What a kernel works on.

    ``query`` runs DuckDB SQL against the tables ``clinical.*`` and ``analytics.*`` of that moment. With ``as_known_on``
    (UTC where it has no zone) patients, admissions, conditions and prescriptions are those known then, as later
    deliveries had not yet added to them or corrected them.
    """

    def __init__(
        self, settings: Settings, snapshot_id: int | None = None, *, as_known_on: dt.datetime | None = None
    ) -> None:
        backend = backend_of(settings)
        if not backend.has_lake():
            raise NoDataError("There is no data yet.", hint="Drop a file into data/inbox/ or run: medisync ingest FILE")
        self._connection = open_duckdb(
            *backend.extensions,
            memory_limit_mb=settings.memory_limit_mb,
            threads=1,
            temp_directory=settings.temporary,
        )
        try:
            if snapshot_id is None:
                backend.attach(self._connection, "READ_ONLY")
                newest = self._connection.execute("SELECT id FROM lake.current_snapshot()").fetchall()
                self._connection.execute("DETACH lake")
                snapshot_id = int(newest[0][0]) if newest else 0
            backend.attach(self._connection, "READ_ONLY", f"SNAPSHOT_VERSION {int(snapshot_id)}")
            self._connection.execute("USE lake")
            if as_known_on is not None:
                look_back(self._connection, as_known_on)
        except MediSyncError:
            self._connection.close()
            raise
        except duckdb.Error as error:
            self._connection.close()
            raise NoDataError(
                f"The lake's snapshot {'latest' if snapshot_id is None else snapshot_id} cannot be opened.",
                hint="It may have expired; those that kept runs are pinned to do not. See: medisync status",
            ) from error
        self._snapshot_id = snapshot_id

    @property
    def snapshot_id(self) -> int:
        return self._snapshot_id

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._connection.execute(sql, parameters or []).df()
        return frame

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Snapshot {self._snapshot_id}>"
