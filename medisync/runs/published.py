"""What is served: per analysis the last good result, and whether it is still what the data say."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from medisync.analyses.contract import Result, Scalar, Table
from medisync.errors import UserError
from medisync.lake import Lake
from medisync.runs import identity, recall, registry
from medisync.runs.closure import Closure
from medisync.runs.record import RunRecord, RunStatus
from medisync.runs.registry import AnalysisNotebook


class Freshness(StrEnum):
    CURRENT = "current"  # made from the data as they are
    UPDATING = "updating"  # newer data or a newer analysis are there; this is the result from before them
    STALE = "stale"  # a later run failed; this is the last good result
    FAILED = "failed"  # every run so far failed
    NEVER = "never"  # no run yet


@dataclass(frozen=True)
class Published:
    """One analysis as a page, program or report shows it."""

    analysis: str
    title: str
    freshness: Freshness
    reason: str | None = None  # why it is not current, in words
    record: RunRecord | None = None
    result: Result | None = None
    failed_run_id: str | None = None  # the latest failed run, when nothing better came after it


@dataclass(frozen=True)
class DataState:
    """The newest loaded delivery and the span of the admissions; None before the first."""

    snapshot_id: int
    delivered_at: dt.datetime | None
    admissions: int
    admitted_from: dt.date | None
    admitted_until: dt.date | None
    deliveries: int


@dataclass(frozen=True)
class DeliveryLine:
    """One delivery as a page lists it. ``status`` is loaded, repeat or refused; no patient's value is in it."""

    delivery_id: str
    file_label: str | None
    status: str
    reason: str | None  # reason code of a refusal; the first delivery's id of a repeat
    message: str | None
    created: int
    updated: int
    deleted: int
    unchanged: int
    quarantined: int
    finished_at: dt.datetime | None  # UTC, without its zone


def published(
    lake: Lake, *, known: Mapping[str, Result] | None = None, audience: Literal["full", "released"] = "full"
) -> list[Published]:
    """Every analysis with default parameters, in the registry's order, as ``audience`` may see it.

    Results never change once published: ``known`` are those the caller holds already, by run id and of the same
    audience; they are not read again.
    """
    if not known:
        recall.take_up_files(lake.settings)  # a first look
    notebooks = registry.analyses(lake.settings)
    versions = {
        row["table_name"]: int(row["version"])
        for row in lake.query("SELECT table_name, version FROM clinical.table_versions")
    }
    latest = _latest(lake)
    shelf: list[Published] = []
    found: list[tuple[AnalysisNotebook, dict[RunStatus, dict[str, Any]]]] = []
    for notebook in notebooks:
        try:
            parameters = notebook.parameters({})
        except UserError as error:  # its module or its defaults are broken; the others are served
            shelf.append(Published(notebook.analysis, notebook.title, Freshness.FAILED, str(error)))
            continue
        found.append((notebook, latest.get((notebook.analysis, identity.hash_of(parameters)), {})))
    served = [runs[RunStatus.COMPLETED]["run_id"] for _, runs in found if RunStatus.COMPLETED in runs]
    results = dict(known or {})
    results |= results_of(lake, [run_id for run_id in served if run_id not in results], audience)
    for notebook, runs in found:
        inputs = {table: versions.get(table, 0) for table in notebook.reads}
        good, bad = runs.get(RunStatus.COMPLETED), runs.get(RunStatus.FAILED)
        shelf.append(_judge(lake, notebook, good, bad, inputs, results.get))
    order = {notebook.analysis: place for place, notebook in enumerate(notebooks)}
    shelf.sort(key=lambda one: order[one.analysis])
    return shelf if audience == "full" else [_without_reasons(one) for one in shelf]


def data_state(lake: Lake) -> DataState:
    """What the lake holds; raises nothing on an empty one."""
    row = lake.query(
        "FROM (SELECT max(finished_at) FILTER (status = 'loaded') AS delivered_at, count(*) AS deliveries "
        "FROM clinical.deliveries), (SELECT count(*) AS admissions, min(admitted_at)::DATE AS admitted_from, "
        "max(admitted_at)::DATE AS admitted_until FROM clinical.admissions)"
    )[0]
    return DataState(snapshot_id=lake.last_snapshot_id() or 0, **row)


def recent_deliveries(lake: Lake, number: int) -> list[DeliveryLine]:
    """The ``number`` newest deliveries of every outcome, newest first."""
    return _lines(lake, f"ORDER BY finished_at DESC, delivery_id DESC LIMIT {int(number)}")


def deliveries_called(lake: Lake, delivery_ids: Sequence[str]) -> list[DeliveryLine]:
    """Those of the deliveries that are on record."""
    if not delivery_ids:
        return []
    # The bounds let DuckLake leave out the files of other deliveries.
    return _lines(
        lake,
        "WHERE delivery_id BETWEEN ? AND ? AND delivery_id IN (SELECT unnest(?::VARCHAR[]))",
        [min(delivery_ids), max(delivery_ids), list(delivery_ids)],
    )


def _lines(lake: Lake, which: str, parameters: Sequence[Any] = ()) -> list[DeliveryLine]:
    rows = lake.query(
        "SELECT delivery_id, file_label, status, reason, message, coalesce(created, 0) AS created, "
        "coalesce(updated, 0) AS updated, coalesce(deleted, 0) AS deleted, coalesce(unchanged, 0) AS unchanged, "
        f"coalesce(quarantined, 0) AS quarantined, finished_at FROM clinical.deliveries {which}",
        parameters,
    )
    return [DeliveryLine(**row) for row in rows]


def results_of(lake: Lake, run_ids: Sequence[str], audience: Literal["full", "released"]) -> dict[str, Result]:
    """The results of completed runs as ``audience`` may see them, by run id; runs without one are left out."""
    if not run_ids:
        return {}
    rows = lake.query(
        "SELECT run_id, any_value(document) AS document FROM analytics.results WHERE audience = ? AND run_id IN "
        "(SELECT unnest(?::VARCHAR[])) GROUP BY run_id",
        [audience, list(run_ids)],
    )
    read = Result.model_validate_json if audience == "full" else _released
    return {row["run_id"]: read(row["document"]) for row in rows}


def result_of(lake: Lake, run_id: str) -> Result | None:
    """The full result of a completed run."""
    return results_of(lake, [run_id], "full").get(run_id)


def _released(text: str) -> Result:
    from medisync.disclosure.document import ReleasedDocument
    from medisync.disclosure.markers import Withheld

    document = ReleasedDocument.model_validate_json(text)

    def shown(value: Withheld | Scalar) -> Scalar:
        return value.text if isinstance(value, Withheld) else value

    return Result(
        schema_version=document.schema_version,
        analysis=document.analysis,
        title=document.title,
        headline=document.headline,
        finding=document.finding,
        data_from=document.data_from,
        data_until=document.data_until,
        metrics={name: shown(value) for name, value in document.metrics.items()},
        tables={
            name: Table(
                title=table.title,
                columns=table.columns,
                rows=tuple(tuple(shown(value) for value in row) for row in table.rows),
            )
            for name, table in document.tables.items()
        },
        figures=document.figures,
        warnings=(*document.warnings, *document.note.sentences),
    )


def _without_reasons(one: Published) -> Published:
    """For those who see released results only: a notebook's error may speak of what they do not see."""
    record = (
        one.record.model_copy(update={"headline": one.result.headline if one.result else None}) if one.record else None
    )
    reason = one.reason and {
        Freshness.STALE: "A later run failed.",
        Freshness.FAILED: "Its runs failed.",
    }.get(one.freshness, one.reason)
    if one.record and one.result is None:
        reason = "Nothing of this result was released yet."
    return replace(one, reason=reason, record=record, failed_run_id=None)


def _latest(lake: Lake) -> dict[tuple[str, str], dict[RunStatus, dict[str, Any]]]:
    rows = lake.query(  # of thousands of runs this takes half as long as numbering them with their records would
        "SELECT analysis, parameters_hash, status, unnest(arg_max({'run_id': run_id, 'finished_at': finished_at, "
        "'record': record}, finished_at)) FROM analytics.runs GROUP BY analysis, parameters_hash, status"
    )
    latest: dict[tuple[str, str], dict[RunStatus, dict[str, Any]]] = {}
    for row in rows:
        latest.setdefault((row["analysis"], row["parameters_hash"]), {})[RunStatus(row["status"])] = row
    return latest


def _judge(
    lake: Lake,
    notebook: AnalysisNotebook,
    good: dict[str, Any] | None,
    bad: dict[str, Any] | None,
    inputs: dict[str, int],
    read: Callable[[str], Result | None],
) -> Published:
    analysis, title = notebook.analysis, notebook.title
    failed_since = bad is not None and (good is None or bad["finished_at"] > good["finished_at"])
    reason = _why(bad["record"]) if bad is not None and failed_since else None
    failed_run_id = bad["run_id"] if bad is not None and failed_since else None
    if good is None:
        freshness = Freshness.FAILED if reason else Freshness.NEVER
        return Published(analysis, title, freshness, reason, failed_run_id=failed_run_id)
    record = RunRecord.model_validate_json(good["record"])
    result = read(record.run_id)
    if reason:
        return Published(analysis, title, Freshness.STALE, reason, record, result, failed_run_id)
    if record.inputs != inputs:
        return Published(analysis, title, Freshness.UPDATING, "Newer data have arrived.", record, result)
    code = identity.code_of(notebook)
    if (record.notebook_hash, record.code_hash) != (notebook.notebook_hash, code.hash):
        return Published(analysis, title, Freshness.UPDATING, "The analysis has changed.", record, result)
    if record.run_key != _key_now(lake, notebook, record, code):
        return Published(analysis, title, Freshness.UPDATING, "A package or setting has changed.", record, result)
    return Published(analysis, title, Freshness.CURRENT, None, record, result)


def _key_now(lake: Lake, notebook: AnalysisNotebook, record: RunRecord, code: Closure) -> str:
    return identity.run_key(
        analysis=notebook.analysis,
        parameters=record.parameters,
        notebook_hash=notebook.notebook_hash,
        code=code,
        inputs=record.inputs,
        settings=identity.settings_of(notebook, lake.settings),
    )


def _why(record: str) -> str:
    failed = json.loads(record)
    return f"The run of {failed['finished_at'][:16].replace('T', ' ')} UTC failed: {failed['error_message']}"
