"""The released document of a run, made with the memory of earlier releases.

What may be shown is worked out before the lake's write transaction (:func:`prepare`), since with linked tables that
takes a second, and settled within it (:func:`settle`): the write lock is what keeps two releases from overlooking one
another, so when the memory has grown meanwhile, it is worked out again there. Within a process releases take turns, so
that this is rare. The memory is written before the document is committed; after a crash in between it knows too much,
which withholds more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medisync.analyses.contract import Result
from medisync.backend.choice import backend_of
from medisync.disclosure.document import ReleasedCell, ReleasedDocument
from medisync.disclosure.policy import policy_of
from medisync.disclosure.release import release
from medisync.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import sqlalchemy as sa

    from medisync.lake import Lake

log = logging.getLogger(__name__)

_guard = threading.Lock()
_turns = threading.Lock()
_ledgers: dict[str, sa.Engine] = {}


@dataclass(frozen=True)
class Prepared:
    """A document that holds while the memory knows no more of what it counts than ``number_known`` cells."""

    run_id: str
    result: Result
    document: ReleasedDocument
    counted: tuple[str, ...]
    before: tuple[ReleasedCell, ...]
    number_known: int


@contextmanager
def one_release() -> Iterator[None]:
    """This process's turn to prepare and commit a release. Enter it before the lake's transaction, never within."""
    with _turns:
        yield


def prepare(settings: Settings, run_id: str, result: Result) -> Prepared | None:
    """Work out what may be shown of ``result``; nothing is remembered yet. None, and a line in the log, when it cannot
    be: the run is published all the same, and :func:`release_missing` tries again."""
    try:
        return _prepared(settings, run_id, result)
    except Exception:
        log.exception("No released document of run %s could be made", run_id)
        return None


def settle(settings: Settings, prepared: Prepared | None) -> str | None:
    """The document as JSON, remembered. Call within the lake's write transaction. None as with :func:`prepare`."""
    from medisync.ledger.released import number_known, remember

    if prepared is None:
        return None
    try:
        ledger = _ledger(settings)
        if prepared.counted and number_known(ledger, prepared.counted) != prepared.number_known:
            prepared = _prepared(settings, prepared.run_id, prepared.result)
        remember(ledger, prepared.run_id, prepared.document.cells, prepared.before)
        return prepared.document.model_dump_json()
    except Exception:
        log.exception("No released document of a run could be remembered")
        return None


def _prepared(settings: Settings, run_id: str, result: Result) -> Prepared:
    from medisync.disclosure.cells import collect
    from medisync.ledger.released import released_before

    counted = tuple(sorted({key[0] for key in collect(result).by_key}))
    before = tuple(released_before(_ledger(settings), counted)) if counted else ()
    document = release(result, policy_of(settings), before)
    return Prepared(run_id, result, document, counted, before, len(before))


def release_missing(lake: Lake) -> list[str]:
    """Make the released documents of the latest completed run of each analysis and parameters that has none; their
    run ids."""
    rows = lake.query(
        "SELECT run_id, analysis FROM (SELECT run_id, analysis, finished_at FROM analytics.runs "
        "WHERE status = 'completed' QUALIFY row_number() OVER (PARTITION BY analysis, parameters_hash "
        "ORDER BY finished_at DESC) = 1) WHERE run_id NOT IN (SELECT run_id FROM analytics.results WHERE audience = "
        "'released') ORDER BY run_id"
    )
    return [row["run_id"] for row in rows if release_run(lake, row["run_id"])]


def release_run(lake: Lake, run_id: str) -> bool:
    """Make the released document of one run from its full one, unless it has one; False when there is no full one or
    it cannot be released."""
    full = lake.query("SELECT document FROM analytics.results WHERE run_id = ? AND audience = 'full' LIMIT 1", [run_id])
    if not full:
        return False
    result = Result.model_validate_json(full[0]["document"])
    is_there = "SELECT 1 FROM lake.analytics.results WHERE run_id = ? AND audience = 'released' LIMIT 1"
    with one_release():
        if lake.query(is_there, [run_id]):
            return True
        prepared = prepare(lake.settings, run_id, result)
        with lake.transaction(f"release of run {run_id}", extra={"run_id": run_id}) as transaction:
            if transaction.execute(is_there, [run_id]).fetchone():
                return True
            document = settle(lake.settings, prepared)
            if document is None:
                return False
            insert(transaction, run_id, result.analysis, document)
    return True


def insert(transaction: duckdb.DuckDBPyConnection, run_id: str, analysis: str, document: str) -> None:
    """The row of the released document."""
    transaction.execute(
        "INSERT INTO lake.analytics.results (run_id, analysis, audience, document) VALUES (?, ?, 'released', ?)",
        [run_id, analysis, document],
    )


def released_document(lake: Lake, run_id: str) -> ReleasedDocument | None:
    """The stored document of a run."""
    with closing(lake.cursor()) as cursor:
        row = cursor.execute(
            "SELECT document FROM analytics.results WHERE run_id = ? AND audience = 'released' LIMIT 1", [run_id]
        ).fetchone()
    return ReleasedDocument.model_validate_json(row[0]) if row else None


def _ledger(settings: Settings) -> sa.Engine:
    """One engine a process and ledger: opening one looks at every table."""
    from medisync.ledger import open_ledger

    with _guard:
        name = backend_of(settings).title
        if name not in _ledgers or not backend_of(settings).has_ledger():
            _ledgers[name] = open_ledger(settings)
        return _ledgers[name]
