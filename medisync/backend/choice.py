"""Which backend a workspace has, and that nobody works on the wrong one.

A workspace that lives in Postgres has a note in its data folder. So nobody fills the old SQLite files by forgetting a
setting, and nobody begins an empty lake in Postgres beside a full one in SQLite.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from medisync.errors import WrongProfileError

if TYPE_CHECKING:
    from medisync.backend.backend import Backend
    from medisync.settings import Settings

NOTE = "server.json"


def backend_of(settings: Settings) -> Backend:
    """The backend the settings choose; raises WrongProfileError when the workspace's data lie in the other."""
    note = settings.data / NOTE
    if settings.is_server:
        if settings.catalog_file.exists() and not note.exists():
            raise WrongProfileError(
                f"The data of this workspace lie in SQLite files in {settings.data}, not in Postgres.",
                hint="Move them with: medisync migrate",
            )
    elif note.exists():
        raise WrongProfileError(
            f"The data of this workspace lie in Postgres ({_noted(settings)}).",
            hint="Set MEDISYNC_PROFILE=server and MEDISYNC_DATABASE_URL for every command.",
        )
    return _made(settings)


@lru_cache(maxsize=64)
def _made(settings: Settings) -> Backend:
    if settings.is_server:
        from medisync.backend.postgres import PostgresBackend

        return PostgresBackend(settings)
    from medisync.backend.sqlite import SqliteBackend

    return SqliteBackend(settings)


def note_server(settings: Settings, database: str) -> None:
    """From now on this workspace lives in Postgres; ``database`` is for people."""
    path = settings.data / NOTE
    if not path.exists():
        settings.make_folders()
        draft = path.with_name(f".{NOTE}")
        draft.write_text(json.dumps({"database": database}) + "\n", encoding="utf-8")
        draft.replace(path)


def _noted(settings: Settings) -> str:
    try:
        return str(json.loads((settings.data / NOTE).read_text(encoding="utf-8"))["database"])
    except (OSError, ValueError, KeyError, TypeError):
        return "its database was not noted"
