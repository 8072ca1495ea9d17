"""Requests to release a run's result for export: who asked, why, and who decided."""

from __future__ import annotations

import sqlalchemy as sa

from medisync.ledger.engine import metadata

release_requests = sa.Table(
    "release_requests",
    metadata,
    sa.Column("request_id", sa.String(40), primary_key=True),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("document_hash", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("requested_by", sa.String(64), nullable=False),
    sa.Column("requested_at", sa.DateTime, nullable=False),
    sa.Column("decided_by", sa.String(64)),
    sa.Column("decided_at", sa.DateTime),
    sa.Column("decision_reason", sa.String(500)),
)
