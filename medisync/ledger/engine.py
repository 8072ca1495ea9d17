"""The ledger's engine and tables."""

from __future__ import annotations

import weakref

import sqlalchemy as sa

from medisync.backend.choice import backend_of
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
    """An engine on the workspace's ledger, its tables made when missing, a file for the owner alone."""
    settings.make_folders()
    engine = backend_of(settings).ledger(metadata)
    # Whoever lets go of an engine lets go of its connections: from Python 3.13 on SQLite complains of those left open.
    weakref.finalize(engine, engine.pool.dispose)
    return engine
