"""The forecasts page: admissions and beds ahead, with the measured accuracy of such forecasts beside them.

The default is what is published; another site, period or horizon is computed here by the same analysis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medisync.analyses.contract import Result
from medisync.dashboards.chosen import ChoosingPage, result_or_trouble
from medisync.dashboards.overview import heading
from medisync.dashboards.panels import Control, Panel, controls_part, of_result, panel_part
from medisync.dashboards.parts import Part, slots
from medisync.dashboards.patients import published_panels
from medisync.dashboards.reading import View
from medisync.dashboards.rendering import render
from medisync.lake import Snapshot
from medisync.runs.record import RunRecord

ANALYSIS = "patient_volume_prediction"
FREQUENCIES = (("weekly", "Weeks"), ("daily", "Days"), ("monthly", "Months"))
NUMBERS = {"horizon": (1, 52), "beds": (0, 100_000)}
"""The smallest and the largest value that can be chosen."""


class Forecasts(ChoosingPage):
    """The page of one workspace, as a live page's source."""

    known = ("site", "frequency", "horizon", "beds")
    defaults = {"frequency": FREQUENCIES[0][0]}  # noqa: RUF012 - never changed

    def frame(self, parts: Sequence[Part]) -> str:
        return render("page.html", title="Forecasts", slots=slots(parts))

    def parts(self) -> list[Part]:
        view = self.reader.read()
        made = heading(view, self.settings)
        one = view.of(ANALYSIS)
        if view.data is None or not view.has_data or one is None:
            return made
        chosen, wrong = self._parameters(view) if self.may_compute else ({}, [])
        if self.may_compute:
            made.append(controls_part(self._controls(chosen, view), self.complaint(wrong)))
        if not chosen:
            if one.result is None:
                return made + [panel_part(panel, view, one=one) for panel in published_panels(view, [ANALYSIS])]
            panels = details(one.result, one.record)
            return made + [panel_part(panel, view, one=one if panel is panels[0] else None) for panel in panels]
        snapshot_id = view.data.snapshot_id
        panels = self.once((snapshot_id, *sorted(chosen.items())), lambda: self._computed(snapshot_id, chosen))
        return made + [panel_part(panel, view) for panel in panels]

    def _parameters(self, view: View) -> tuple[dict[str, Any], list[str]]:
        """The parameters that differ from the defaults, and the names of choices that are none."""
        chosen: dict[str, Any] = {}
        wrong = []
        for name, text in self.choices.items():
            least, most = NUMBERS.get(name, (1, 0))
            if (name == "site" and text in self.sites(view)) or (name == "frequency" and text in dict(FREQUENCIES)):
                chosen[name] = text
            elif text.isdecimal() and least <= int(text[:9]) <= most:
                chosen[name] = int(text[:9])
            else:
                wrong.append(name)
        return chosen, wrong

    def _controls(self, chosen: dict[str, Any], view: View) -> list[Control]:
        def number(name: str, label: str, hint: str) -> Control:
            least, most = map(str, NUMBERS[name])
            return Control(name, label, str(chosen.get(name, "")), kind="number", least=least, most=most, hint=hint)

        return [
            *self.site_control(view, chosen.get("site", "")),
            Control("frequency", "Length of a period", chosen.get("frequency", "weekly"), FREQUENCIES),
            number("horizon", "Periods ahead", "8"),
            number("beds", "Beds there are", "not compared"),
        ]

    def _computed(self, snapshot_id: int, chosen: dict[str, Any]) -> list[Panel]:
        note = f"Computed on this page from snapshot {snapshot_id} for the choice above; not kept."
        with Snapshot(self.settings, snapshot_id) as snapshot:
            found = result_or_trouble(ANALYSIS, snapshot, **chosen)
        if isinstance(found, str):
            return [Panel("forecast", "Admissions ahead", trouble=found, note=note)]
        return details(found, None, note)


def details(result: Result, record: RunRecord | None, note: str = "") -> list[Panel]:
    """The forecast with its accuracy, then each further picture of the result with its numbers."""
    first, *further = result.figures or (None,)
    panels = [
        of_result(
            result,
            name="forecast",
            title="Admissions ahead",
            figures=[first.name] if first else (),
            record=record,
            note=note,
            is_wide=True,
        )
    ]
    shown = {one.table for one in result.figures}
    accuracy = of_result(
        result, name="accuracy", title="How good such forecasts were", figures=(), tables=("accuracy",)
    )
    panels.append(replace(accuracy, headline=_in_words(result), finding="", warnings=()))
    for figure in further:
        assert figure is not None  # noqa: S101 - None is only ever the first
        one = of_result(result, name=figure.name, title=figure.title, figures=[figure.name])
        panels.append(replace(one, headline="", finding="", warnings=()))
    rest = [name for name in result.tables if name not in {*shown, "accuracy", "history"}]
    for name in rest:
        if result.tables[name].rows:
            one = of_result(result, name=name, title=result.tables[name].title, figures=(), tables=(name,))
            panels.append(replace(one, headline="", finding="", warnings=()))
    return panels


def _in_words(result: Result) -> str:
    """The backtest in a sentence."""
    numbers = result.metrics
    origins, inside, error = (numbers.get(name) for name in ("backtest_origins", "coverage_80_percent", "mase"))
    if not isinstance(origins, int) or not isinstance(inside, (int, float)) or not isinstance(error, (int, float)):
        return ""
    return (
        f"The same forecast was made at {origins} past moments with what was known then: {inside:.0f} % of what came "
        f"lay within the 80 % interval, and the error was {error:.2f} times that of repeating the season before."
    )
