"""The forecasts page: admissions and beds ahead, with the measured accuracy of such forecasts beside them.

The default is what is published; another site, period or horizon is computed here by the same analysis, and so are the
beds that would be needed with more or fewer admissions, or with longer or shorter stays.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medisync.analyses.contract import Result
from medisync.dashboards.chosen import ChoosingPage, or_trouble, result_or_trouble
from medisync.dashboards.overview import heading
from medisync.dashboards.panels import Control, Panel, controls_part, of_result, panel_part
from medisync.dashboards.parts import Part, slots
from medisync.dashboards.patients import published_panels
from medisync.dashboards.reading import Reader, View
from medisync.dashboards.rendering import render
from medisync.lake import Snapshot
from medisync.runs.record import RunRecord
from medisync.settings import Settings

if TYPE_CHECKING:
    from medisync.analyses.bed_what_if import BedOutlook

ANALYSIS = "patient_volume_prediction"
FREQUENCIES = (("weekly", "Weeks"), ("daily", "Days"), ("monthly", "Months"))
NUMBERS = {"horizon": (1, 52), "beds": (0, 100_000), "admissions": (-50, 100), "stay": (-50, 100)}
"""The smallest and the largest value that can be chosen."""

OF_BEDS = ("admissions", "stay", "beds")
SLIDERS = ("admissions", "stay")
LONGEST_NUMBER = 9
BEDS = "census"
"""The panel of the beds, whether published or computed here."""

STEP_PERCENT = 5
SCOREBOARD_WAITS = "Each forecast is scored here by itself once the periods it was about have come."


class Forecasts(ChoosingPage):
    """The page of one workspace, as a live page's source."""

    known = ("site", "frequency", "horizon", "beds", "admissions", "stay")
    defaults = {"frequency": FREQUENCIES[0][0], "admissions": "0", "stay": "0"}  # noqa: RUF012 - never changed

    def __init__(self, settings: Settings, reader: Reader | None = None) -> None:
        super().__init__(settings, reader)
        self._outlook: tuple[Hashable, BedOutlook] | None = None

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
        snapshot_id = view.data.snapshot_id
        change: dict[str, int] = {name: chosen.pop(name) for name in OF_BEDS if name in chosen}
        if chosen:
            key = (snapshot_id, *sorted(chosen.items()))
            panels, shown = self.once(key, lambda: self._computed(snapshot_id, chosen)), None
        elif one.result is None:
            panels, shown = published_panels(view, [ANALYSIS]), one
        else:
            panels, shown = details(one.result, one.record), one
        if change:
            key = (snapshot_id, *sorted({**chosen, **change}.items()))
            beds = self.once(key, lambda: self._what_if(snapshot_id, chosen, change), "beds")
            panels = [*panels[:1], *beds, *(panel for panel in panels[1:] if panel.name != BEDS)]
        return made + [panel_part(panel, view, one=shown if panel is panels[0] else None) for panel in panels]

    def _parameters(self, view: View) -> tuple[dict[str, Any], list[str]]:
        """The parameters that differ from the defaults, and the names of choices that are none."""
        chosen: dict[str, Any] = {}
        wrong = []
        for name, text in self.choices.items():
            number = number_chosen(name, text)
            if (name == "site" and text in self.sites(view)) or (name == "frequency" and text in dict(FREQUENCIES)):
                chosen[name] = text
            elif number is not None:
                chosen[name] = number
            else:
                wrong.append(name)
        return chosen, wrong

    def _controls(self, chosen: dict[str, Any], view: View) -> list[Control]:
        def number(name: str, label: str, hint: str) -> Control:
            least, most = map(str, NUMBERS[name])
            return Control(name, label, str(chosen.get(name, "")), kind="number", least=least, most=most, hint=hint)

        def slider(name: str, label: str) -> Control:
            least, most = map(str, NUMBERS[name])
            value, step = str(chosen.get(name, 0)), str(STEP_PERCENT)
            return Control(name, label, value, (), "range", least, most, "as forecast", step=step, none="0")

        return [
            *self.site_control(view, chosen.get("site", "")),
            Control("frequency", "Length of a period", chosen.get("frequency", "weekly"), FREQUENCIES),
            number("horizon", "Periods ahead", "8"),
            number("beds", "Beds there are", "not set"),
            slider("admissions", "What if: admissions"),
            slider("stay", "What if: length of stay"),
        ]

    def _computed(self, snapshot_id: int, chosen: dict[str, Any]) -> list[Panel]:
        note = _note(snapshot_id)
        with Snapshot(self.settings, snapshot_id) as snapshot:
            found = result_or_trouble(ANALYSIS, snapshot, **chosen)
        if isinstance(found, str):
            return [Panel("forecast", "Admissions ahead", trouble=found, note=note)]
        return details(found, None, note)

    def _what_if(self, snapshot_id: int, chosen: dict[str, Any], change: dict[str, int]) -> list[Panel]:
        """The beds with ``change``; the forecast they are drawn from is made once for all changes."""
        from medisync.analyses.bed_what_if import BedChange, bed_outlook, bed_what_if
        from medisync.analyses.patient_volume_prediction import Params, load

        key = (snapshot_id, *sorted(chosen.items()))
        note = f"{_note(snapshot_id)} Present patients and those to come are counted at midnight; 500 sample paths."

        def make() -> Result:
            if self._outlook is None or self._outlook[0] != key:
                params = Params.checked(chosen)
                with Snapshot(self.settings, snapshot_id) as snapshot:
                    self._outlook = (key, bed_outlook(load(snapshot, params), params))
            wanted = BedChange(change.get("admissions", 0), change.get("stay", 0), change.get("beds"))
            return bed_what_if(self._outlook[1], wanted)

        found = or_trouble(ANALYSIS, make)
        if isinstance(found, str):
            return [Panel(BEDS, "Beds ahead: what if", trouble=found, note=note)]
        return [replace(of_result(found, name=BEDS, note=note), finding="")]


def number_chosen(name: str, text: str) -> int | None:
    """The number chosen, or None: numerals alone, within their bounds, and on a slider's step."""
    if name not in NUMBERS or not text.removeprefix("-").isdecimal() or len(text) > LONGEST_NUMBER:
        return None
    number, (least, most) = int(text), NUMBERS[name]
    return number if least <= number <= most and (name not in SLIDERS or number % STEP_PERCENT == 0) else None


def _note(snapshot_id: int) -> str:
    return f"Computed on this page from snapshot {snapshot_id} for the choice above; not kept."


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
        result, name="accuracy", title="How good such forecasts were", figures=(), tables=("accuracy",), is_wide=True
    )
    panels.append(replace(accuracy, headline=_in_words(result), finding="", warnings=()))
    for figure in further:
        assert figure is not None  # noqa: S101 - None is only ever the first
        one = of_result(result, name=figure.name, title=figure.title, figures=[figure.name])
        panels.append(replace(one, headline="", finding="", warnings=()))
    rest = [name for name in result.tables if name not in {*shown, "accuracy", "history"}]
    for name in rest:
        title, is_waiting = result.tables[name].title, not result.tables[name].rows
        if is_waiting and name == "scoreboard":
            panels.append(Panel(name, title, note=SCOREBOARD_WAITS))
        elif not is_waiting:
            one = of_result(result, name=name, title=title, figures=(), tables=(name,))
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
