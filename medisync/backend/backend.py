"""What both kinds of backend can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from medisync.backend import object_storage

if TYPE_CHECKING:
    import duckdb
    import sqlalchemy as sa

    from medisync.settings import Settings

BUSY_MILLISECONDS = 30_000


class HeldLock(ABC):
    """A lock while it is held."""

    @abstractmethod
    def require(self) -> None:
        """Raises DatabaseAwayError when it was lost, so that nothing is committed without it."""


class NewestSnapshot(ABC):
    """Tells the newest snapshot's number at almost no cost, from any thread."""

    @abstractmethod
    def __call__(self) -> int:
        """The number; 0 when there is none."""

    def close(self) -> None:
        """Let go of what it keeps open; the next question opens it again."""
        return


class Backend(ABC):
    """One workspace's databases and locks."""

    extensions: tuple[str, ...]
    """DuckDB's extensions without which the catalog cannot be attached."""
    metadata: str
    """What DuckLake's own tables are called behind, once the lake is attached as ``lake``."""

    holds_files: bool
    """Whether catalog and ledger are files, to be copied as such."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.has_object_storage:
            self.extensions = (*self.extensions, object_storage.EXTENSION)

    @property
    @abstractmethod
    def title(self) -> str:
        """For people, without anything secret."""

    @abstractmethod
    def wait(self, say: Callable[[str], None], *, seconds: float) -> None:
        """Wait until the databases answer, saying so once; raises DatabaseAwayError after ``seconds``."""

    @abstractmethod
    def has_lake(self) -> bool:
        """Whether a lake was made. Raises DatabaseAwayError."""

    @abstractmethod
    def make_room(self) -> None:
        """Make what must be there before a lake is attached for the first time."""

    def attach(self, connection: duckdb.DuckDBPyConnection, *options: str) -> None:
        """Attach the lake as ``lake``, a transaction of its own; ``options`` are those of DuckLake.

        Raises DatabaseAwayError, StorageKeysError or StorageAwayError when there is nobody to ask; duckdb.Error for all
        else.
        """
        if self.settings.has_object_storage:
            object_storage.let_in(connection, self.settings)
            if "READ_ONLY" not in options:  # a writer is told before it begins
                object_storage.require_access(connection, self.settings)
        self._attach(connection, *options)

    @abstractmethod
    def _attach(self, connection: duckdb.DuckDBPyConnection, *options: str) -> None:
        """The same, by one who may read the lake's files."""

    @abstractmethod
    def newest(self, ask: Callable[[], int]) -> NewestSnapshot:
        """For the attached lake that ``ask`` asks."""

    @abstractmethod
    def peek_newest(self) -> int | None:
        """The newest snapshot as a process without DuckDB can read it; None when that cannot be told."""

    @abstractmethod
    def lock(self, name: str, *, seconds: float | None) -> AbstractContextManager[HeldLock]:
        """Hold the lock ``name`` (one of Lock, or a folder below the workspace's data), for everybody who works on
        this workspace. It is free again when its holder dies.

        Raises LockBusyError when it is not free within ``seconds``; None waits for as long as it takes. On one machine
        raises FileNotFoundError for a folder that is not there.
        """

    @abstractmethod
    def locks(self, names: Sequence[str]) -> AbstractContextManager[frozenset[str]]:
        """Hold those of the locks ``names`` that are free now, as :meth:`lock` does; yields which."""

    @abstractmethod
    def has_ledger(self) -> bool:
        """Whether a ledger was made."""

    @abstractmethod
    def ledger(self, metadata: sa.MetaData) -> sa.Engine:
        """An engine on the ledger, its tables made when missing."""

    @abstractmethod
    def prefect_environment(self) -> dict[str, str]:
        """The variables that tell Prefect's server where its database is."""

    @abstractmethod
    def faults(self) -> list[str]:
        """What is wrong with the databases themselves."""


def quoted(text: object) -> str:
    """For an SQL string."""
    return str(text).replace("'", "''")
