"""The released document of a run, made with the memory of earlier releases.

Call within the lake's write transaction: the write lock is what keeps two releases from overlooking one another. The
memory is written before the document is committed; after a crash in between it knows too much, which withholds more.
"""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from medisync.analyses.contract import Result
from medisync.disclosure.document import ReleasedDocument
from medisync.disclosure.policy import policy_of
from medisync.disclosure.release import release
from medisync.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import sqlalchemy as sa

    from medisync.lake import Lake

log = logging.getLogger(__name__)

_guard = threading.Lock()
_ledgers: dict[str, sa.Engine] = {}


def released(settings: Settings, run_id: str, result: Result) -> ReleasedDocument:
    """What may be shown of ``result``; remembered."""
    from medisync.disclosure.cells import collect
    from medisync.ledger.released import released_before, remember

    ledger = _ledger(settings)
    counted = sorted({key[0] for key in collect(result).by_key})
    before = released_before(ledger, counted) if counted else []
    document = release(result, policy_of(settings), before)
    remember(ledger, run_id, document.cells, before)
    return document


def released_json(settings: Settings, run_id: str, result: Result) -> str | None:
    """The document as JSON; None, and a line in the log, when it cannot be made: the run is published all the same,
    and :func:`release_missing` tries again."""
    try:
        return released(settings, run_id, result).model_dump_json()
    except Exception:
        log.exception("No released document of run %s could be made", run_id)
        return None


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
    query = "SELECT audience, analysis, document FROM lake.analytics.results WHERE run_id = ?"
    with lake.transaction(f"release of run {run_id}", extra={"run_id": run_id}) as transaction:
        found = {row[0]: (row[1], row[2]) for row in transaction.execute(query, [run_id]).fetchall()}
        if "released" in found:
            return True
        if "full" not in found:
            return False
        analysis, text = found["full"]
        document = released_json(lake.settings, run_id, Result.model_validate_json(text))
        if document is None:
            return False
        insert(transaction, run_id, analysis, document)
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
        name = str(settings.ledger)
        if name not in _ledgers or not settings.ledger.exists():
            _ledgers[name] = open_ledger(settings)
        return _ledgers[name]
