"""The audit log: who did what, when, on which data, from where, and whether it was allowed.

Each row carries the SHA-256 of itself and of the row before it, and the head of the chain is kept apart, so that a row
that is changed, removed, inserted or moved is found by :func:`verify`. Whoever can rewrite the whole ledger can rewrite
the whole chain: note the head somewhere else from time to time (``medisync audit verify`` prints it, ``--head`` checks
it). No row holds a patient's value or a password.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from medisync.access.errors import AuditBrokenError
from medisync.access.records import transaction
from medisync.ledger.access import audit_head, audit_log

START = "0" * 64
"""What the first row has in place of a previous hash."""

CHAIN = "audit"


@dataclass(frozen=True)
class Entry:
    """One row. ``at`` is UTC in ISO 8601; ``on`` names a run, delivery, account or page; ``where`` is an address."""

    number: int
    at: str
    who: str
    what: str
    on: str
    where: str
    allowed: bool
    previous: str
    hash: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def right_hash(self) -> str:
        """The hash this row must have."""
        values = [self.number, self.at, self.who, self.what, self.on, self.where, bool(self.allowed), self.previous]
        return hashlib.sha256(json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Head:
    """The end of the chain."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


def record(ledger: sa.Engine, who: str, what: str, on: str = "", where: str = "", allowed: bool = True) -> None:
    """Append one row; texts that are too long are cut. Raises LedgerAwayError when it cannot be written: what cannot
    be recorded must not be done."""
    try:
        _append(ledger, who, what, on, where, allowed)
    except sa.exc.IntegrityError:  # two processes began the chain at once; it is there now
        try:
            _append(ledger, who, what, on, where, allowed)
        except sa.exc.IntegrityError:
            raise _broken("there are rows after the one that was written last") from None


def _append(ledger: sa.Engine, who: str, what: str, on: str, where: str, allowed: bool) -> None:
    with transaction(ledger) as connection:
        # The first statement writes: it takes SQLite's write lock, or the row's on Postgres, so that nobody else can
        # append between reading the head and moving it.
        one = audit_head.update().where(audit_head.c.name == CHAIN)
        if connection.execute(one.values(number=audit_head.c.number)).rowcount == 0:
            connection.execute(audit_head.insert().values(name=CHAIN, number=0, hash=START))
        head = _head(connection)
        at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        draft = Entry(
            head.number + 1, at, _short(who, 128), _short(what, 64), _short(on, 256), _short(where, 128), allowed,
            previous=head.hash, hash="",
        )  # fmt: skip
        values = {**draft.as_json(), "hash": draft.right_hash()}
        connection.execute(audit_log.insert().values(**values))
        connection.execute(one.values(number=values["number"], hash=values["hash"]))


def entries(ledger: sa.Engine, *, page: int = 5000) -> Iterator[Entry]:
    """All rows in their order, read in pages so that a long log needs little memory."""
    after = None
    while True:
        query = sa.select(audit_log).order_by(audit_log.c.number).limit(page)
        with transaction(ledger) as connection:
            rows = connection.execute(query if after is None else query.where(audit_log.c.number > after)).all()
        yield from (Entry(**row._mapping) for row in rows)
        if len(rows) < page:
            return
        after = rows[-1].number


def verify(ledger: sa.Engine, *, noted: Head | None = None) -> Head:
    """The head, when every row is what was written; else AuditBrokenError names the first row that is not.

    ``noted`` is a head that was printed or exported earlier: the chain must still go through it.
    """
    with transaction(ledger) as connection:
        head = _head(connection)
    number, previous, is_noted_met = 0, START, noted is None or noted.number == 0
    for entry in entries(ledger):
        if entry.number > head.number and entry.number == number + 1 and entry.previous == previous:
            with transaction(ledger) as connection:  # appended while we read
                head = _head(connection)
        if entry.number != number + 1:
            raise _broken(f"row {number + 1} is missing, row {entry.number} follows row {number}")
        if entry.hash != entry.right_hash():
            raise _broken(f"row {entry.number} was changed")
        if entry.previous != previous:
            raise _broken(f"row {entry.number} does not follow from row {number}")
        if noted is not None and entry.number == noted.number:
            if entry.hash != noted.hash:
                raise _broken(f"row {entry.number} is not the one that was noted")
            is_noted_met = True
        number, previous = entry.number, entry.hash
    if (number, previous) != (head.number, head.hash):
        raise _broken(f"it ends with row {number}, but row {head.number} was written last")
    if not is_noted_met:
        raise _broken("it is shorter than the head that was noted")
    return head


def parse_head(text: str) -> Head:
    """A head as it was printed; raises AuditBrokenError when the text is none."""
    number, _, value = text.partition(":")
    if not number.isdecimal() or len(value) != 64:
        raise AuditBrokenError("The head must have the form NUMBER:HASH, as medisync audit verify prints it.")
    return Head(int(number), value)


def _head(connection: sa.Connection) -> Head:
    row = connection.execute(sa.select(audit_head).where(audit_head.c.name == CHAIN)).one_or_none()
    return Head(0, START) if row is None else Head(row.number, row.hash)


def _broken(what: str) -> AuditBrokenError:
    return AuditBrokenError(f"The audit log is not what was written: {what}.", hint="Compare it with the last export.")


def _short(text: str, longest: int) -> str:
    """On one line and short enough for its column."""
    clean = "".join(sign if sign.isprintable() else " " for sign in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"
