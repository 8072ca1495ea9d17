"""Failed logins are counted and slowed down, in the ledger, so that a restart forgives nothing.

Attempts are counted in lanes. A browser that logged in to this account before has a lane of its own (the device cookie
of OWASP's "Slow down online guessing attacks with device cookies"), so nobody else's guessing delays it; every other
attempt is counted for the account and for the address it comes from. An attempt is counted before the password is
looked at, so that a hundred at once get no further than one after the other.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from medisync.access.errors import TooManyAttemptsError
from medisync.access.records import Clock, transaction, utc_now
from medisync.ledger.access import login_attempts


@dataclass(frozen=True)
class Rule:
    """``free`` failures cost nothing; from then on the wait doubles from one second up to ``longest_seconds``. One
    failure is forgiven every ``forgiven_seconds``."""

    free: int
    longest_seconds: int
    forgiven_seconds: int


RULES = {
    "device": Rule(free=5, longest_seconds=900, forgiven_seconds=3600),
    "account": Rule(free=5, longest_seconds=300, forgiven_seconds=1800),
    "address": Rule(free=20, longest_seconds=300, forgiven_seconds=120),  # many people may share one
}


class Attempts:
    """The counted attempts of one ledger. A lane is ``kind:hash``, its kind one of RULES."""

    def __init__(self, ledger: sa.Engine, clock: Clock = utc_now) -> None:
        self._ledger = ledger
        self._clock = clock

    def begin(self, lanes: Sequence[str]) -> None:
        """Count an attempt in every lane; raises TooManyAttemptsError, and counts nothing, when one must wait."""
        try:
            seconds = self._begin(lanes)
        except sa.exc.IntegrityError:  # another process made one of the rows just now
            seconds = self._begin(lanes)
        if seconds > 0:
            whole = max(1, math.ceil(seconds))
            raise TooManyAttemptsError(
                f"Too many failed logins. Try again in {whole} seconds.", retry_after_seconds=whole
            )

    def _begin(self, lanes: Sequence[str]) -> float:
        """How long to wait; 0: not at all, and the attempt is counted."""
        now = self._clock()
        with transaction(self._ledger) as connection:
            self._lock(connection, lanes, now)
            # A clock that was set back must not make anybody wait until it is as late again.
            ahead = login_attempts.c.lane.in_(lanes) & (login_attempts.c.last_at > now)
            connection.execute(login_attempts.update().where(ahead).values(last_at=now))
            rows = connection.execute(sa.select(login_attempts).where(login_attempts.c.lane.in_(lanes))).all()
            counted, wait = {}, 0.0
            for row in rows:
                rule = RULES[row.lane.partition(":")[0]]
                quiet_seconds = (now - row.last_at).total_seconds()
                counted[row.lane] = max(0, row.failures - int(quiet_seconds // rule.forgiven_seconds))
                wait = max(wait, wait_seconds(rule, counted[row.lane], quiet_seconds))
            if wait <= 0:
                for lane, failures in counted.items():
                    of_lane = login_attempts.c.lane == lane
                    connection.execute(
                        login_attempts.update().where(of_lane).values(failures=failures + 1, last_at=now)
                    )
        return wait

    def succeeded(self, lanes: Sequence[str]) -> None:
        """The password was right: account and device start afresh; the address gets this one attempt back, no more,
        or a guesser with an account of his own could clear it again and again."""
        with transaction(self._ledger) as connection:
            for lane in lanes:
                of_lane = login_attempts.c.lane == lane
                if lane.startswith("address:"):
                    fewer = login_attempts.update().where(of_lane & (login_attempts.c.failures > 0))
                    connection.execute(fewer.values(failures=login_attempts.c.failures - 1))
                else:
                    connection.execute(login_attempts.delete().where(of_lane))

    def _lock(self, connection: sa.Connection, lanes: Sequence[str], now: dt.datetime) -> None:
        """Make the lanes' rows where they are missing and hold them until the transaction ends.

        The first statement writes: on SQLite it takes the write lock, on Postgres the rows'.
        """
        for lane in sorted(lanes):
            touched = login_attempts.update().where(login_attempts.c.lane == lane)
            if connection.execute(touched.values(failures=login_attempts.c.failures)).rowcount == 0:
                self._make_room(connection, now)
                connection.execute(login_attempts.insert().values(lane=lane, failures=0, last_at=now))

    def _make_room(self, connection: sa.Connection, now: dt.datetime) -> None:
        """Made-up names must not fill the disk: what was quiet for two days is forgotten."""
        old = login_attempts.c.last_at < now - dt.timedelta(days=2)
        connection.execute(login_attempts.delete().where(old))


def wait_seconds(rule: Rule, failures: int, quiet_seconds: float) -> float:
    """How long the next attempt has to wait, ``quiet_seconds`` after the last of ``failures``; 0 or less: no longer."""
    if failures < rule.free:
        return 0.0
    return float(min(2 ** min(failures - rule.free, 30), rule.longest_seconds)) - quiet_seconds
