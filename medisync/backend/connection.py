"""A connection of psycopg's that may be forgotten."""

from __future__ import annotations

from typing import Any

import psycopg


class OwnedConnection(psycopg.Connection):
    """It is closed with the object that holds it, such as a pool, as those of SQLite are; psycopg's own warns."""

    def __del__(self, *_: Any) -> None:
        return
