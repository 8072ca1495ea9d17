"""The data and runs page: what arrived, what was computed, what failed, which packs there are, what lies between two
runs; and for analysts a form to run an analysis with other parameters."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from medisync.access.page_audience import trigger_told
from medisync.dashboards.chosen import ChoosingPage
from medisync.dashboards.comparing import comparison_part, run_options
from medisync.dashboards.overview import heading
from medisync.dashboards.panels import Control, controls_part
from medisync.dashboards.parts import Part, slots
from medisync.dashboards.reading import Reader, View, report_path
from medisync.dashboards.rendering import render
from medisync.dashboards.run_form import run_forms
from medisync.lake import Lake
from medisync.reports.pack import kept_packs
from medisync.reports.page import quality_path
from medisync.runs.progress import runs_in_progress
from medisync.runs.published import Freshness, recent_deliveries
from medisync.runs.record import RunRecord, RunStatus
from medisync.settings import Settings

LISTED = 30
"""So many deliveries, runs and packs; the API and the command line have all of them."""


class Data(ChoosingPage):
    """The page of one workspace, as a live page's source. ``told``: what the pages' server says of the viewer."""

    known = ("analysis", "status", "before", "after")

    def __init__(self, settings: Settings, told: Mapping[str, str] = os.environ, reader: Reader | None = None) -> None:
        super().__init__(settings, reader)
        self._may_trigger = trigger_told(told)
        self._compared: tuple[Hashable, Part] | None = None

    def kept_as(self) -> str | None:
        """Who may start runs sees a form for that."""
        name = super().kept_as()
        return f"{name}-trigger" if name and self._may_trigger and self.may_compute else name

    def signature(self) -> Hashable:
        """The lake's, which runs are going on, and when a report or pack came or went."""
        notes = tuple(sorted(path.name for path in (self.settings.run_state / "runs").glob("r*.json")))
        return super().signature(), notes, written_at(self.settings)

    def frame(self, parts: Sequence[Part]) -> str:
        return render("page.html", title="Data and runs", slots=slots(parts))

    def parts(self) -> list[Part]:
        view = self.reader.read()
        made = heading(view, self.settings)
        if view.data is None:
            return made
        if not self.may_compute:
            packs = kept_packs(self.settings, "released")[:LISTED]
            return [*made, _panel("deliveries", deliveries=view.deliveries), _panel("packs", packs=packs)]
        lake = self.reader.lake
        options = run_options(lake, self.settings, self.choices, LISTED)
        chosen, wrong = self._chosen(view, options)
        made.append(controls_part(self._controls(view, chosen, options), self.complaint(wrong)))
        if chosen["before"] and chosen["after"]:
            made.append(self._comparison(chosen["before"], chosen["after"]))
        runs = latest_runs(lake, chosen["analysis"], chosen["status"])
        reports = {one.run_id for one in runs if report_path(self.settings, one.run_id).exists()}
        deliveries = recent_deliveries(lake, LISTED)
        judged = {line.delivery_id for line in deliveries if quality_path(self.settings, line.delivery_id).exists()}
        faults = quarantined(lake, [line.delivery_id for line in deliveries])
        failed = [one for one in view.shelf if one.freshness in (Freshness.FAILED, Freshness.STALE)]
        running = runs_in_progress(self.settings)
        if running:
            made.append(_panel("running", running=running))
        made.append(_panel("failures", failed=failed, view=view))
        made.append(_panel("deliveries", deliveries=deliveries, judged=judged))
        made.append(_panel("quarantine", faults=faults))
        made.append(_panel("packs", packs=kept_packs(self.settings, "full")[:LISTED]))
        is_filtered = bool(chosen["analysis"] or chosen["status"])
        made.append(_panel("runs", runs=runs, reports_kept=reports, is_filtered=is_filtered))
        if self._may_trigger:
            made.append(_panel("rerun", forms=run_forms(self.settings)))
        return made

    def _comparison(self, before: str, after: str) -> Part:
        """Results never change: what was compared once stays."""
        if self._compared is None or self._compared[0] != (before, after):
            part = comparison_part(self.reader.lake, before, after, has_records=self._may_trigger)
            self._compared = ((before, after), part)
        return self._compared[1]

    def _chosen(self, view: View, options: Sequence[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
        runs = {run_id for run_id, _ in options}
        allowed = {
            "analysis": {one.analysis for one in view.shelf},
            "status": {one.value for one in RunStatus},
            "before": runs,
            "after": runs,
        }
        wrong = [name for name, text in self.choices.items() if text not in allowed.get(name, ())]
        return {name: "" if name in wrong else self.choices.get(name, "") for name in self.known}, wrong

    def _controls(self, view: View, chosen: Mapping[str, str], runs: Sequence[tuple[str, str]]) -> list[Control]:
        analyses = (("", "All analyses"), *((one.analysis, one.title) for one in view.shelf))
        outcomes = (("", "All"), (RunStatus.COMPLETED.value, "Completed"), (RunStatus.FAILED.value, "Failed"))
        controls = [
            Control("analysis", "Runs of", chosen["analysis"], analyses),
            Control("status", "Outcome", chosen["status"], outcomes),
        ]
        if len(runs) > 1:
            listed = (("", "–"), *runs)
            controls.append(Control("before", "Compare run", chosen["before"], listed))
            controls.append(Control("after", "with run", chosen["after"], listed))
        return controls


def written_at(settings: Settings) -> Hashable:
    """Another value when a report of a run or delivery, or a pack, was written or removed."""
    packs = max((settings.reports / "packs").glob("*/"), default=settings.reports)
    folders = (settings.reports / "runs", settings.reports / "deliveries", packs)
    return tuple(folder.stat().st_mtime_ns for folder in folders if folder.exists())


def latest_runs(lake: Lake, analysis: str = "", status: str = "", number: int = LISTED) -> list[RunRecord]:
    """The newest runs, of one analysis or outcome where one is named."""
    rows = lake.query(
        f"SELECT unnest(arg_max(record, (finished_at, run_id), {int(number)})) AS record FROM analytics.runs "
        "WHERE (? = '' OR analysis = ?) AND (? = '' OR status = ?)",
        [analysis, analysis, status, status],
    )
    return [RunRecord.model_validate_json(row["record"]) for row in rows]


def quarantined(lake: Lake, deliveries: Sequence[str]) -> list[dict[str, Any]]:
    """Rows with a fault by delivery, column and reason; the most frequent first."""
    return lake.query(
        "SELECT d.file_label, q.delivery_id, q.column_name, q.reason, count(*) AS faulty_rows, "
        "min(q.row_number) AS first_row FROM clinical.quarantine q JOIN clinical.deliveries d USING (delivery_id) "
        "WHERE q.delivery_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY ALL "
        f"ORDER BY max(d.finished_at) DESC, faulty_rows DESC, q.column_name, q.reason LIMIT {LISTED}",
        [list(deliveries)],
    )


def _panel(name: str, **values: object) -> Part:
    return Part(f"panel-{name}", "panels", render(f"data_{name}.html", **values))
