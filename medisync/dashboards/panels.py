"""Panels: one result, or a piece of it, as a part of a page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from medisync.analyses.contract import Figure, Result, Table
from medisync.dashboards.parts import Part
from medisync.dashboards.reading import View
from medisync.dashboards.rendering import render
from medisync.runs.published import Published
from medisync.runs.record import RunRecord

SLOT = "panels"


@dataclass(frozen=True)
class Control:
    """One input of a page's form. ``options`` are (value, words) of a list; without them it is a number or a day.

    A slider (``range``) always has a value: ``none`` is the one that means no choice, ``hint`` its words.
    """

    name: str
    label: str
    value: str
    options: tuple[tuple[str, str], ...] = ()
    kind: str = "select"  # select, number, date, range
    least: str = ""
    most: str = ""
    hint: str = ""
    step: str = ""
    none: str = ""


@dataclass(frozen=True)
class Panel:
    """What a panel shows. ``figures`` and ``tables`` are shown in this order; where there is a ``brief``, it is shown
    and the tables behind it open on demand. ``note`` says where it comes from when no stored run does; ``trouble`` says
    why there is nothing to show."""

    name: str
    title: str
    headline: str = ""
    finding: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    brief: Table | None = None
    data: tuple[tuple[str, Table], ...] = ()  # figure name -> the table behind it
    warnings: tuple[str, ...] = ()
    note: str = ""
    trouble: str = ""
    record: RunRecord | None = None
    is_wide: bool = False

    def behind(self, figure: Figure) -> Table | None:
        """The table that holds the figure's data."""
        return dict(self.data).get(figure.name)


def of_result(
    result: Result,
    *,
    name: str,
    title: str | None = None,
    record: RunRecord | None = None,
    note: str = "",
    figures: Sequence[str] | None = None,
    tables: Sequence[str] = (),
    is_wide: bool = False,
) -> Panel:
    """A panel of ``result`` with the named figures (all for None) and, below them, the named tables that have rows."""
    chosen = [one for one in result.figures if figures is None or one.name in figures]
    return Panel(
        name=name,
        title=title or result.title,
        headline=result.headline,
        finding=result.finding.value,
        figures=tuple(chosen),
        tables=tuple(result.tables[one] for one in tables if one in result.tables and result.tables[one].rows),
        data=tuple((one.name, result.tables[one.table]) for one in chosen if one.table in result.tables),
        warnings=result.warnings,
        note=note,
        record=record,
        is_wide=is_wide,
    )


def panel_part(panel: Panel, view: View, slot: str = SLOT, one: Published | None = None) -> Part:
    """``panel`` as a part of the page; with ``one``, also how fresh it is."""
    html = render("panel.html", panel=panel, view=view, one=one)
    return Part(f"panel-{panel.name}", slot, html, says=f"{panel.title} changed.")


def controls_part(controls: Sequence[Control], complaint: str = "") -> Part:
    """The page's form. It is replaced only when what can be chosen differs, not when something else is chosen."""
    html = render("controls.html", controls=controls, complaint=complaint)
    basis = repr([(one.name, one.label, one.options, one.least, one.most) for one in controls]) + complaint
    return Part("controls", "controls", html, basis=hashlib.sha256(basis.encode()).hexdigest())
