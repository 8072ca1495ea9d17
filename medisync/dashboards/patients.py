"""The patients page: who comes, with what, and what they get; of everybody, or of a part chosen on the page.

Notebooks that were dropped into the folder of analyses are further sections of it.

Without a choice it shows what is published. With one, the same analyses are computed here on that part of the data, at
the snapshot that is newest then, and nothing of it is kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medisync.dashboards.chosen import ChoosingPage, options, result_or_trouble
from medisync.dashboards.overview import heading
from medisync.dashboards.panels import Control, Panel, controls_part, of_result, panel_part
from medisync.dashboards.parts import Part, slots
from medisync.dashboards.reading import View
from medisync.dashboards.rendering import render
from medisync.lake.cohort import Cohort, CohortFilter
from medisync.reports.page import words

ANALYSES = ("patient_demographics", "patient_health_trends", "illness_prediction", "medication_analysis")
ELSEWHERE = ("patient_volume_prediction", "illness_surge_prediction")
"""Analyses that have a page of their own."""

AGE_BANDS = ((0, 17), (18, 39), (40, 64), (65, 79), (80, 90))
"""Years; the last band holds everybody above, since ages from 90 on are pooled."""

GENDERS = ("female", "male", "other", "unknown")


class Patients(ChoosingPage):
    """The page of one workspace, as a live page's source."""

    known = ("site", "from", "until", "age", "gender")

    def frame(self, parts: Sequence[Part]) -> str:
        return render("page.html", title="Patients", slots=slots(parts))

    def parts(self) -> list[Part]:
        view = self.reader.read()
        made = heading(view, self.settings)
        if view.data is None or not view.has_data:
            return made
        chosen, wrong = self._filter(view) if self.may_compute else (CohortFilter(), [])
        if self.may_compute:
            made.append(controls_part(self._controls(chosen, view), self.complaint(wrong)))
        others = published_panels(view, further(view))
        if chosen.is_everything:
            panels = [*published_panels(view, ANALYSES), *others]
            return made + [panel_part(panel, view, one=view.of(panel.name)) for panel in panels]
        snapshot_id = view.data.snapshot_id
        panels = self.once((snapshot_id, chosen), lambda: self._computed(view, snapshot_id, chosen))
        note = "Of all admissions: this analysis is not narrowed to the choice above."
        panels = [*panels, *(replace(panel, note=note) for panel in others)]
        return made + [panel_part(panel, view) for panel in panels]

    def _filter(self, view: View) -> tuple[CohortFilter, list[str]]:
        """What the choices amount to, and the names of those that are none."""
        chosen, wrong = CohortFilter(), []
        for name, text in self.choices.items():
            try:
                chosen = replace(chosen, **self._field(name, text, view))
            except (KeyError, ValueError):
                wrong.append(name)
        if chosen.admitted_from and chosen.admitted_until and chosen.admitted_from > chosen.admitted_until:
            chosen, wrong = replace(chosen, admitted_until=None), [*wrong, "until"]
        return chosen, wrong

    def _field(self, name: str, text: str, view: View) -> dict[str, Any]:
        if name == "site" and text in self.sites(view):
            return {"site": text}
        if name in ("from", "until"):
            return {f"admitted_{name}": dt.date.fromisoformat(text)}
        if name == "age":
            bands = {f"{youngest}-{oldest}": (youngest, oldest) for youngest, oldest in AGE_BANDS}
            youngest, oldest = bands[text]
            return {"age_from_years": youngest, "age_until_years": oldest if oldest < AGE_BANDS[-1][1] else None}
        if name == "gender" and text in GENDERS:
            return {"gender": text}
        raise KeyError(name)

    def _controls(self, chosen: CohortFilter, view: View) -> list[Control]:
        bands = tuple((f"{low}-{high}", _band(low, high)) for low, high in AGE_BANDS)
        age = next((value for value, _ in bands if value.startswith(f"{chosen.age_from_years}-")), "")
        return [
            *self.site_control(view, chosen.site or ""),
            Control("from", "Admitted from", str(chosen.admitted_from or ""), kind="date"),
            Control("until", "until", str(chosen.admitted_until or ""), kind="date"),
            Control("age", "Age, years", age, (("", "All ages"), *bands)),
            Control("gender", "Gender", chosen.gender or "", options("All", GENDERS)),
        ]

    def _computed(self, view: View, snapshot_id: int, chosen: CohortFilter) -> list[Panel]:
        note = f"Computed on this page from snapshot {snapshot_id} for the choice above; not kept."
        panels = []
        with Cohort(self.settings, chosen, snapshot_id) as cohort:
            for name in ANALYSES:
                one, found = view.of(name), result_or_trouble(name, cohort)
                title = one.title if one else words(name)
                if isinstance(found, str):
                    panels.append(Panel(name, title, trouble=found, note=note))
                else:
                    panels.append(of_result(found, name=name, title=title, note=note))
        return panels


def further(view: View) -> list[str]:
    """Analyses no page is made for: notebooks somebody dropped into the folder."""
    return [one.analysis for one in view.shelf if one.analysis not in (*ANALYSES, *ELSEWHERE)]


def published_panels(view: View, analyses: Sequence[str]) -> list[Panel]:
    """A panel of what is published of each analysis that there is."""
    panels = []
    for name in analyses:
        one = view.of(name)
        if one is None:
            continue
        if one.result is None:
            panels.append(Panel(name, one.title, trouble="" if one.reason else "Waiting for its first run."))
        else:
            panels.append(of_result(one.result, name=name, title=one.title, record=one.record))
    return panels


def _band(low: int, high: int) -> str:
    return f"{low} and older" if high == AGE_BANDS[-1][1] else f"{low} to {high}"
