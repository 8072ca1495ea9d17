"""Into the lake: run record, result and typed rows of one run, in one transaction."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from medisync.analyses.contract import Result, Scalar, Table
from medisync.lake import Lake
from medisync.runs import releasing
from medisync.runs.record import RunRecord, RunStatus

if TYPE_CHECKING:
    import duckdb

LAKE_ROW_COLUMNS = {
    "forecasts": {
        "unique_id": "text",
        "frequency": "text",
        "method": "text",
        "origin": "day",
        "ds": "day",
        "quantile": "number",
        "value": "number",
    },
    "surges": {
        "unique_id": "text",
        "ds": "day",
        "observed": "number?",
        "expected": "number?",
        "threshold": "number?",
        "p_value": "number?",
        "adjusted_p_value": "number?",
        "state": "text",
    },
}
"""What a result may add to the typed tables; a question mark says that a value may be missing."""

ROWS_AT_ONCE = 500
"""Rows in one INSERT: row by row, a thousand of them take a second of CPU time instead of a tenth."""


def check_lake_rows(result: Result) -> None:
    """Raise ValueError when a row of ``result.lake_rows`` does not fit its table in the lake."""
    for name, table in result.lake_rows.items():
        missing = set(LAKE_ROW_COLUMNS[name]) - set(table.columns)
        if missing:
            raise ValueError(f"lake_rows {name} lacks {', '.join(sorted(missing))}")
        for column, kind in LAKE_ROW_COLUMNS[name].items():
            position = table.columns.index(column)
            if not all(_fits(row[position], kind) for row in table.rows):
                raise ValueError(f"lake_rows {name}: a value of {column} is no {kind.rstrip('?')}")


def _fits(value: Scalar, kind: str) -> bool:
    if value is None:
        return kind.endswith("?")
    if kind == "day":
        try:
            dt.date.fromisoformat(str(value))
        except ValueError:
            return False
        return True
    return isinstance(value, str) if kind == "text" else isinstance(value, (int, float)) and not isinstance(value, bool)


def publish(lake: Lake, record: RunRecord, result: Result | None) -> RunRecord:
    """Commit a run and return its record. Doing it again with the same run id changes nothing, nor does a flow run that
    had completed the same run before, on a machine it had lost sight of, say: that run's record is returned.

    What may be released is worked out before the write lock is taken.
    """
    if result is None:
        return _commit(lake, record, None, None)
    with releasing.one_release():
        return _commit(lake, record, result, releasing.prepare(lake.settings, record.run_id, result))


def _commit(lake: Lake, record: RunRecord, result: Result | None, prepared: releasing.Prepared | None) -> RunRecord:
    with lake.transaction(
        f"run {record.run_id} {record.analysis} {record.status}",
        extra={"run_id": record.run_id, "code": record.code_hash, "parameters_hash": record.parameters_hash},
    ) as transaction:
        known = transaction.execute(
            "SELECT record FROM lake.analytics.runs WHERE run_id = ? OR (run_key = ? AND status = ? "
            "AND json_extract_string(record, '$.flow_run_id') = ?) ORDER BY finished_at LIMIT 1",
            [record.run_id, record.run_key, RunStatus.COMPLETED, record.flow_run_id],
        ).fetchone()
        if known:
            return RunRecord.model_validate_json(known[0])
        _insert(transaction, "runs", run_row(record))
        if result is None:
            return record
        _insert(
            transaction,
            "results",
            {
                "run_id": record.run_id,
                "analysis": record.analysis,
                "audience": "full",
                "document": result.model_dump_json(),
            },
        )
        document = releasing.settle(lake.settings, prepared)
        if document is not None:
            releasing.insert(transaction, record.run_id, record.analysis, document)
        for name, table in result.lake_rows.items():
            _insert_rows(transaction, name, record.run_id, table)
    return record


def run_row(record: RunRecord) -> dict[str, Any]:
    """The row of ``analytics.runs``."""
    return {
        "run_id": record.run_id,
        "analysis": record.analysis,
        "status": record.status.value,
        "run_key": record.run_key,
        "snapshot_id": record.snapshot_id,
        "parameters": json.dumps(record.parameters, sort_keys=True),
        "parameters_hash": record.parameters_hash,
        "notebook_hash": record.notebook_hash,
        "code_version": record.code_hash,
        "headline": record.headline,
        "error_code": record.error_code,
        "error_message": record.error_message,
        "started_at": _naive(record.started_at),
        "finished_at": _naive(record.finished_at),
        "seconds": record.seconds,
        "record": record.model_dump_json(),
    }


def _insert(transaction: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" for _ in row)
    transaction.execute(f"INSERT INTO lake.analytics.{table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def _insert_rows(transaction: duckdb.DuckDBPyConnection, name: str, run_id: str, table: Table) -> None:
    columns = LAKE_ROW_COLUMNS[name]
    positions = [table.columns.index(column) for column in columns]
    rows = [[run_id, *(row[position] for position in positions)] for row in table.rows]
    marks = f"({', '.join('?' for _ in range(len(columns) + 1))})"
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        transaction.execute(
            f"INSERT INTO lake.analytics.{name} (run_id, {', '.join(columns)}) VALUES {', '.join([marks] * len(some))}",
            [value for row in some for value in row],
        )


def _naive(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
