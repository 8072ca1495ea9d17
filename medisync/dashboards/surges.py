"""The surges page: which conditions are above what their past leads one to expect, where, and what is ahead.

Over all sites it shows what is published; for one site the same analysis is computed here on that site's admissions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medisync.analyses.contract import Result, Scalar, Table
from medisync.dashboards.chosen import ChoosingPage, options, result_or_trouble
from medisync.dashboards.overview import heading
from medisync.dashboards.panels import Control, Panel, controls_part, of_result, panel_part
from medisync.dashboards.parts import Part, slots
from medisync.dashboards.patients import published_panels
from medisync.dashboards.rendering import render
from medisync.lake.cohort import Cohort, CohortFilter
from medisync.runs.record import RunRecord

ANALYSIS = "illness_surge_prediction"
STATES = {
    "surge": ("surge", "Confirmed surge"),
    "above": ("above", "Above its threshold"),
    "quiet": ("quiet", "Quiet"),
    "not judged": ("unknown", "Not judged"),
}
"""State in the result -> the cell's class and its words."""

AHEAD_SHOWN = 8
"""Series of the outlook that are shown; all of them open on demand."""


class Surges(ChoosingPage):
    """The page of one workspace, as a live page's source."""

    known = ("condition", "site")

    def frame(self, parts: Sequence[Part]) -> str:
        return render("page.html", title="Surges", slots=slots(parts))

    def parts(self) -> list[Part]:
        view = self.reader.read()
        made = heading(view, self.settings)
        one = view.of(ANALYSIS)
        if view.data is None or not view.has_data or one is None:
            return made
        if one.result is None or "current" not in one.result.tables:
            return made + [panel_part(panel, view, one=one) for panel in published_panels(view, [ANALYSIS])]
        if not self.may_compute:
            if {"condition", "site", "kind", "state"} <= set(one.result.tables["current"].columns):
                made.append(Part("heat", "panels", render("heat.html", heat=heat_map(one.result), states=STATES)))
            return made + [panel_part(panel, view, one=one) for panel in published_panels(view, [ANALYSIS])]
        conditions, sites = listed(one.result, "condition"), self.sites(view)
        wrong = [name for name, text in self.choices.items() if name not in self.known]
        chosen = {}
        for name, known in (("condition", conditions), ("site", sites)):
            text = self.choices.get(name, "")
            chosen[name] = text if text in known else ""
            wrong += [name] if text and text not in known else []
        controls = [Control("condition", "Condition", chosen["condition"], options("All conditions", conditions))]
        controls += self.site_control(view, chosen["site"])
        made.append(controls_part(controls, self.complaint(wrong)))
        made.append(Part("heat", "panels", render("heat.html", heat=heat_map(one.result), states=STATES)))
        if not chosen["site"]:
            panels = details(one.result, chosen["condition"], one.record)
            return made + [panel_part(panel, view, one=one if panel is panels[0] else None) for panel in panels]
        snapshot_id = view.data.snapshot_id
        key = (snapshot_id, chosen["condition"], chosen["site"])
        panels = self.once(key, lambda: self._at_site(snapshot_id, chosen["site"], chosen["condition"]))
        return made + [panel_part(panel, view) for panel in panels]

    def _at_site(self, snapshot_id: int, site: str, condition: str) -> list[Panel]:
        note = f"Computed on this page from snapshot {snapshot_id} for {site}; not kept."
        with Cohort(self.settings, CohortFilter(site=site), snapshot_id) as cohort:
            found = result_or_trouble(ANALYSIS, cohort, most_sites=0)
        if isinstance(found, str):
            return [Panel("alerts", "This week", trouble=found, note=note)]
        return details(found, condition, None, note)


def details(result: Result, condition: str, record: RunRecord | None, note: str = "") -> list[Panel]:
    """Alerts, series and outlook, of one condition or of all."""
    shown = only(result, condition) if condition else result
    alerts = of_result(
        _in_words(shown),
        name="alerts",
        title="This week",
        figures=(),
        tables=("alerts",),
        record=record,
        note=note,
        is_wide=True,
    )
    panels = [alerts]
    if shown.figures:
        panels.append(
            of_result(shown, name="series", title="Each series against its threshold", figures=[shown.figures[0].name])
        )
        panels[-1] = _bare(panels[-1], note)
    if not condition and len(result.figures) > 1:
        panels.append(
            _bare(of_result(result, name="weeks", title="Past weeks", figures=[result.figures[1].name]), note)
        )
    if "ahead" in shown.tables and shown.tables["ahead"].rows:
        ahead = of_result(shown, name="ahead", title="The next weeks", figures=(), tables=("ahead",), is_wide=True)
        words = "Probability that a week's admissions exceed the surge threshold, from joint sample paths."
        ahead = _bare(ahead, f"{words} {note}".strip())
        panels.append(replace(ahead, headline=likeliest(ahead.tables[0]), brief=outlook(ahead.tables[0])))
    return panels


def outlook(table: Table) -> Table:
    """The series likeliest to exceed their threshold, in percent."""
    rows = sorted(table.rows, key=_highest, reverse=True)[:AHEAD_SHOWN]
    shown = tuple(tuple(100 * value if isinstance(value, float) else value for value in row) for row in rows)
    title = f"{table.title}, %" if len(rows) == len(table.rows) else f"The likeliest of {len(table.rows):,} series, %"
    return table.model_copy(update={"title": title, "rows": shown})


def likeliest(table: Table) -> str:
    """Which series is likeliest to exceed its threshold, in a sentence; "" where no probability is known."""
    row = max(table.rows, key=_highest)
    share = _highest(row)
    if share < 0:
        return ""
    named = dict(zip(table.columns, row, strict=True))
    return (
        f"Likeliest to exceed its threshold in the weeks ahead: {named.get('condition')}, {named.get('site')} "
        f"({'less than 1' if share < 0.01 else round(100 * share)} % for any of them)."
    )


def _highest(row: Sequence[Scalar]) -> float:
    """Of any of the weeks, which no single one exceeds."""
    return max((value for value in row if isinstance(value, float)), default=-1.0)


def only(result: Result, condition: str) -> Result:
    """``result`` with the rows of one condition, and its series drawn again."""
    from medisync.analyses.illness_surge_prediction_figures import condition_panels

    tables = {name: _rows_of(table, condition) for name, table in result.tables.items()}
    shown = result.model_copy(update={"tables": tables, "figures": ()})
    has_series = bool(tables["weekly"].rows) and bool(tables["current"].rows)
    return shown.with_figures([condition_panels(shown)]) if has_series else shown


def heat_map(result: Result) -> dict[str, object]:
    """Conditions by sites: state, observed and expected admissions of the newest complete week."""
    table = result.tables["current"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    rows = [row for row in rows if row["kind"] != "total"]
    return {
        "title": table.title,
        "sites": list(dict.fromkeys(str(row["site"]) for row in rows)),
        "conditions": list(dict.fromkeys(str(row["condition"]) for row in rows)),
        "cells": {(str(row["condition"]), str(row["site"])): row for row in rows},
    }


def listed(result: Result, column: str) -> tuple[str, ...]:
    """The different values of ``column`` among the judged series, without the total."""
    table = result.tables["current"]
    kind, place = table.columns.index("kind"), table.columns.index(column)
    return tuple(sorted({str(row[place]) for row in table.rows if row[kind] != "total"}))


def _rows_of(table: Table, condition: str) -> Table:
    if "condition" not in table.columns:
        return table
    place = table.columns.index("condition")
    return table.model_copy(update={"rows": tuple(row for row in table.rows if row[place] == condition)})


def _in_words(result: Result) -> Result:
    """With the states of its alerts as people call them."""
    table = result.tables.get("alerts")
    if table is None or "state" not in table.columns:
        return result
    place = table.columns.index("state")
    rows = tuple(
        (*row[:place], STATES.get(str(row[place]), ("", row[place]))[1], *row[place + 1 :]) for row in table.rows
    )
    return result.model_copy(update={"tables": {**result.tables, "alerts": table.model_copy(update={"rows": rows})}})


def _bare(panel: Panel, note: str) -> Panel:
    """Without the headline and cautions that the first panel has."""
    return replace(panel, headline="", finding="", warnings=(), note=note)
