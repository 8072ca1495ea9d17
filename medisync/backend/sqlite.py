"""One machine: SQLite files in the workspace, read by several local processes without a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from medisync.backend.backend import BUSY_MILLISECONDS, Backend, HeldLock, NewestSnapshot, quoted
from medisync.backend.catalog_file import newest_in_file
from medisync.backend.locks import Lock, file_lock
from medisync.errors import LockBusyError

if TYPE_CHECKING:
    import duckdb
    import sqlalchemy as sa


class SqliteBackend(Backend):
    """The catalog and the ledger are files for the owner alone; so is Prefect's database."""

    extensions = ("ducklake", "sqlite_scanner", "icu")
    holds_files = True
    metadata = "__ducklake_metadata_lake"

    @property
    def title(self) -> str:
        return f"SQLite files in {self.settings.data}"

    def wait(self, say: Callable[[str], None], *, seconds: float) -> None:  # noqa: ARG002 - files are always there
        return

    def has_lake(self) -> bool:
        return self.settings.catalog_file.exists()

    def make_room(self) -> None:
        return

    def _attach(self, connection: duckdb.DuckDBPyConnection, *options: str) -> None:
        given = (f"META_BUSY_TIMEOUT {BUSY_MILLISECONDS}", *options)
        if "READ_ONLY" not in options:
            given = ("META_JOURNAL_MODE 'WAL'", f"DATA_PATH '{quoted(self.settings.lake_place)}'", *given)
        address = f"ducklake:sqlite:{quoted(self.settings.catalog_file)}"
        connection.execute(f"ATTACH '{address}' AS lake ({', '.join(given)})")

    def newest(self, ask: Callable[[], int]) -> NewestSnapshot:
        from medisync.backend.newest import Newest

        return Newest(self.settings.catalog_file, ask)

    def peek_newest(self) -> int | None:
        return newest_in_file(str(self.settings.catalog_file))

    def lock(self, name: str, *, seconds: float | None) -> AbstractContextManager[HeldLock]:
        return file_lock(self.settings.data / name, seconds=seconds, name=name)

    @contextmanager
    def locks(self, names: Sequence[str]) -> Iterator[frozenset[str]]:
        with ExitStack() as held:
            free = set()
            for name in names:
                with suppress(LockBusyError, FileNotFoundError):
                    held.enter_context(self.lock(name, seconds=0))
                    free.add(name)
            yield frozenset(free)

    def has_ledger(self) -> bool:
        return self.settings.ledger.exists()

    def ledger(self, metadata: sa.MetaData) -> sa.Engine:
        import sqlalchemy as sa

        path = self.settings.ledger
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_MILLISECONDS / 1000})
        sa.event.listen(engine, "connect", _tune)
        # One at a time: of two processes that make the tables at once, one would be told that they exist already.
        with self.lock(Lock.LEDGER, seconds=self.settings.lock_seconds):
            metadata.create_all(engine)
        return engine

    def prefect_environment(self) -> dict[str, str]:
        path = self.settings.prefect_home / "prefect.db"
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{path}"}

    def faults(self) -> list[str]:
        """SQLite's own check of both files."""
        from medisync.backend.sqlite_copy import quick_check
        from medisync.errors import MediSyncError

        found = []
        for path in (self.settings.catalog_file, self.settings.ledger):
            if path.exists():
                try:
                    quick_check(path)
                except MediSyncError as error:
                    found.append(error.message)
        return found


def _tune(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
