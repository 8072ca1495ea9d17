"""The ledger: operational rows that change often, in SQLite (or Postgres) through SQLAlchemy Core."""

from medisync.ledger import access, release_requests, released  # their tables belong to every ledger
from medisync.ledger.claims import Claim, Claims, ClaimState
from medisync.ledger.engine import open_ledger

__all__ = ["Claim", "ClaimState", "Claims", "access", "open_ledger", "release_requests", "released"]
