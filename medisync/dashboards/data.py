"""The data and runs page: what arrived and what became of it, what was computed, what failed, which packs there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medisync.dashboards.chosen import ChoosingPage
from medisync.dashboards.overview import heading
from medisync.dashboards.panels import Control, controls_part
from medisync.dashboards.parts import Part, slots
from medisync.dashboards.reading import View, report_path
from medisync.dashboards.rendering import render
from medisync.lake import Lake
from medisync.reports.pack import kept_packs
from medisync.reports.page import quality_path
from medisync.runs.published import recent_deliveries
from medisync.runs.record import RunRecord, RunStatus

LISTED = 30
"""So many deliveries, runs and packs; the API and the command line have all of them."""


class Data(ChoosingPage):
    """The page of one workspace, as a live page's source."""

    known = ("analysis", "status")

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
        analysis, status, wrong = self._chosen(view)
        made.append(controls_part(self._controls(view, analysis, status), self.complaint(wrong)))
        lake = self.reader.lake
        runs = latest_runs(lake, analysis, status)
        reports = {one.run_id for one in runs if report_path(self.settings, one.run_id).exists()}
        deliveries = recent_deliveries(lake, LISTED)
        judged = {line.delivery_id for line in deliveries if quality_path(self.settings, line.delivery_id).exists()}
        faults = quarantined(lake, [line.delivery_id for line in deliveries])
        return [
            *made,
            _panel("runs", runs=runs, reports_kept=reports, is_filtered=bool(analysis or status)),
            _panel("deliveries", deliveries=deliveries, judged=judged),
            _panel("quarantine", faults=faults),
            _panel("packs", packs=kept_packs(self.settings, "full")[:LISTED]),
        ]

    def _chosen(self, view: View) -> tuple[str, str, list[str]]:
        allowed = {"analysis": {one.analysis for one in view.shelf}, "status": {one.value for one in RunStatus}}
        wrong = [name for name, text in self.choices.items() if text not in allowed.get(name, ())]
        analysis, status = ("" if name in wrong else self.choices.get(name, "") for name in self.known)
        return analysis, status, wrong

    def _controls(self, view: View, analysis: str, status: str) -> list[Control]:
        analyses = (("", "All analyses"), *((one.analysis, one.title) for one in view.shelf))
        outcomes = (("", "All"), (RunStatus.COMPLETED.value, "Completed"), (RunStatus.FAILED.value, "Failed"))
        return [
            Control("analysis", "Runs of", analysis, analyses),
            Control("status", "Outcome", status, outcomes),
        ]


def latest_runs(lake: Lake, analysis: str = "", status: str = "", number: int = LISTED) -> list[RunRecord]:
    """The newest runs, of one analysis or outcome where one is named."""
    rows = lake.query(
        "SELECT record FROM analytics.runs WHERE (? = '' OR analysis = ?) AND (? = '' OR status = ?) "
        f"ORDER BY finished_at DESC, run_id DESC LIMIT {int(number)}",
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
