"""The ledger's engine and tables."""

from __future__ import annotations

import os
import weakref
from typing import Any

import sqlalchemy as sa

from medisync.lake.lock import write_lock
from medisync.settings import Settings

metadata = sa.MetaData()

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("delivery_id", sa.String, primary_key=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("claimed_at", sa.DateTime, nullable=False),
    sa.Column("announced_at", sa.DateTime),
    sa.Column("finished_at", sa.DateTime),
)


def open_ledger(settings: Settings) -> sa.Engine:
    """An engine on the workspace's ledger, its tables made when missing, the file for the owner alone."""
    settings.make_folders()
    if not settings.ledger.exists():
        os.close(os.open(settings.ledger, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(f"sqlite:///{settings.ledger}", connect_args={"timeout": 30})
    sa.event.listen(engine, "connect", _tune)
    # Whoever lets go of an engine lets go of its connections: from Python 3.13 on SQLite complains of those left open.
    weakref.finalize(engine, engine.pool.dispose)
    # One at a time: of two processes that make the tables at once, one would be told that they exist already.
    with write_lock(settings.ledger.with_suffix(".lock"), seconds=settings.lock_seconds):
        metadata.create_all(engine)
    return engine


def _tune(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
