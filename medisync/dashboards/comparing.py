"""Two runs side by side on a page, by the function ``medisync compare`` calls."""

from __future__ import annotations

from collections.abc import Mapping

from medisync.analyses.contract import Table
from medisync.dashboards.panels import SLOT
from medisync.dashboards.parts import Part
from medisync.dashboards.rendering import render
from medisync.errors import MediSyncError
from medisync.lake import Lake
from medisync.reports.page import words
from medisync.reports.phrases import when
from medisync.runs import registry
from medisync.runs.compare import Comparison, compare
from medisync.runs.record import RunRecord, RunStatus
from medisync.settings import Settings

SHOWN_CHANGES = 20


def run_options(lake: Lake, settings: Settings, choices: Mapping[str, str], number: int) -> list[tuple[str, str]]:
    """Completed runs that can be compared, newest first, as (id, words): the newest, and those that are chosen."""
    asked = [text for name in ("before", "after") if (text := choices.get(name, ""))]
    rows = lake.query(
        "SELECT record FROM (SELECT record, run_id, finished_at, row_number() OVER (ORDER BY finished_at DESC, run_id "
        "DESC) AS place FROM analytics.runs WHERE status = ?) WHERE place <= ? OR run_id IN "
        "(SELECT unnest(?::VARCHAR[])) ORDER BY place",
        [RunStatus.COMPLETED.value, number, asked],
    )
    defaults = {one.analysis: one.defaults for one in registry.analyses(settings)}
    records = [RunRecord.model_validate_json(row["record"]) for row in rows]
    return [(one.run_id, _label(one, defaults.get(one.analysis, {}))) for one in records]


def comparison_part(lake: Lake, before: str, after: str, *, has_records: bool) -> Part:
    """The comparison as a panel; ``has_records``: whether the viewer may see what differs in code and environment."""
    try:
        found = compare(lake, before, after)
    except MediSyncError as error:
        html = render("data_comparison.html", trouble=str(error))
    else:
        html = _html(found, has_records)
    return Part("panel-comparison", SLOT, html, says="The comparison changed.")


def _html(found: Comparison, has_records: bool) -> str:
    differences = [one for one in found.differences if has_records or one.kind == "parameters"]
    rows = tuple(
        (" · ".join(part for part in (_place(one.place), one.row, one.column) if part), one.before, one.after,
         None if one.relative is None else round(100 * one.relative, 1))
        for one in found.changes
    )  # fmt: skip
    columns = ("number", "before", "after", "difference_percent")
    shown = Table(title="Largest changes", columns=columns, rows=rows[:SHOWN_CHANGES])
    return render(
        "data_comparison.html",
        sentence=found.sentence(),
        note=found.note,
        between=[
            f"{one.file_label or one.delivery_id}: {one.created:,} admissions created, {one.updated:,} updated, "
            f"{one.deleted:,} deleted"
            for one in found.deliveries
        ],
        differences=Table(
            title="What else differs",
            columns=("what", "before", "after"),
            rows=tuple((one.what, one.before or "none", one.after or "none") for one in differences),
        )
        if differences
        else None,
        changes=shown if rows else None,
        all_changes=Table(title="Changes", columns=columns, rows=rows),
        file_name=f"{found.snapshots[0]}-{found.snapshots[1]}-changes",
    )


def _place(place: str) -> str:
    return "" if place in ("metrics", "text") else words(place.removeprefix("table ").removeprefix("rows "))


def _label(record: RunRecord, defaults: Mapping[str, object]) -> str:
    """Title, moment, and the parameters that are not the notebook's own."""
    other = [f"{name} = {value}" for name, value in record.parameters.items() if defaults.get(name, value) != value]
    return f"{when(record.finished_at)}: {record.title}" + (f" ({', '.join(other)})" if other else "")
