"""Which delivery was claimed by whom, and how far it came. The lake is the truth about what was loaded."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from medisync.ledger.engine import claims


class ClaimState(StrEnum):
    CLAIMED = "claimed"  # the file lies in data/processing/, nobody was told yet
    ANNOUNCED = "announced"  # the event was accepted by the Prefect server
    FINISHED = "finished"  # loaded, a repeat, or refused: see clinical.deliveries


@dataclass(frozen=True)
class Claim:
    delivery_id: str
    source: str
    state: ClaimState
    claimed_at: dt.datetime
    announced_at: dt.datetime | None
    finished_at: dt.datetime | None


class Claims:
    """The claims of one ledger. All times are UTC without a zone."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, delivery_id: str, source: str) -> None:
        """Record a claim; a claim that is known already stays as it is."""
        row = claims.insert().values(
            delivery_id=delivery_id, source=source, state=ClaimState.CLAIMED, claimed_at=_now()
        )
        with suppress(sa.exc.IntegrityError), self._engine.begin() as connection:
            connection.execute(row)  # looking first would leave a moment for another watcher

    def get(self, delivery_id: str) -> Claim | None:
        with self._engine.begin() as connection:
            return self._get(connection, delivery_id)

    def announced(self, *delivery_ids: str) -> None:
        self._set(*delivery_ids, state=ClaimState.ANNOUNCED, announced_at=_now())

    def finished(self, delivery_id: str) -> None:
        self._set(delivery_id, state=ClaimState.FINISHED, finished_at=_now())

    def open(self) -> list[Claim]:
        """Claims that are not finished, oldest first."""
        query = sa.select(claims).where(claims.c.state != ClaimState.FINISHED).order_by(claims.c.claimed_at)
        with self._engine.begin() as connection:
            return [_claim(row) for row in connection.execute(query)]

    def _get(self, connection: sa.Connection, delivery_id: str) -> Claim | None:
        row = connection.execute(sa.select(claims).where(claims.c.delivery_id == delivery_id)).one_or_none()
        return None if row is None else _claim(row)

    def _set(self, *delivery_ids: str, **values: object) -> None:
        with self._engine.begin() as connection:
            connection.execute(claims.update().where(claims.c.delivery_id.in_(delivery_ids)).values(**values))


def _claim(row: sa.Row[tuple[object, ...]]) -> Claim:
    values = dict(row._mapping)
    return Claim(**{**values, "state": ClaimState(values["state"])})


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
