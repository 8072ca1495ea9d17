"""What pages with controls share: choices that are checked, sites that can be chosen, results computed for a choice."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from medisync.access.principal import Audience
from medisync.analyses.contract import Result, SnapshotReader
from medisync.dashboards.panels import Control, Panel
from medisync.dashboards.parts import Part
from medisync.dashboards.reading import Reader, View
from medisync.errors import MediSyncError
from medisync.lake import Lake
from medisync.settings import Settings

MOST_SITES = 40
"""So many of the largest sites can be chosen; a source with a site for each admission has no sites to choose from."""

LEAST_ADMISSIONS_A_SITE = 100

log = logging.getLogger(__name__)


class ChoosingPage:
    """A page whose panels depend on choices; computes each choice once per snapshot."""

    known: tuple[str, ...] = ()
    """Names of the page's controls."""

    defaults: Mapping[str, str] = {}
    """The values of controls that mean no choice, where they are not empty."""

    def __init__(self, settings: Settings, reader: Reader | None = None) -> None:
        self.settings = settings
        self.reader = reader or Reader(settings)
        self.choices: dict[str, str] = {}
        self._made: dict[str, tuple[Hashable, list[Panel]]] = {}
        self._sites: tuple[int | None, tuple[str, ...]] = (None, ())
        self._is_hurried = False

    def kept_as(self) -> str | None:
        """The name under which the page reader keeps it; None when something was chosen."""
        return None if self.choices else f"{type(self).__name__.lower()}-{self.reader.audience}"

    def choose(self, choices: Mapping[str, str]) -> bool:
        made = {name: text for name, text in choices.items() if text not in ("", self.defaults.get(name))}
        before, self.choices = self.choices, made
        return before != made

    def show_to(self, audience: Audience) -> None:
        self.reader.show_to(audience)
        self._made.clear()

    @property
    def may_compute(self) -> bool:
        """Whether this viewer may see numbers that no disclosure control has looked at."""
        return self.reader.audience == "full"

    def signature(self) -> Hashable:
        return self.reader.signature()

    def parts(self) -> list[Part]:
        """The page as it should look now."""
        raise NotImplementedError

    def preview(self) -> list[Part]:
        """The page with a word in place of what has yet to be computed."""
        self._is_hurried = True
        try:
            return self.parts()
        finally:
            self._is_hurried = False

    def sites(self, view: View) -> tuple[str, ...]:
        """The sites that can be chosen, by name."""
        snapshot_id = view.data.snapshot_id if view.data else None
        if self._sites[0] != snapshot_id:
            self._sites = (snapshot_id, largest_sites(self.reader.lake))
        return self._sites[1]

    def site_control(self, view: View, chosen: str) -> list[Control]:
        """The list of sites, where there are any to choose from."""
        sites = self.sites(view)
        return [Control("site", "Site", chosen, options("All sites", sites))] if sites else []

    def once(self, key: Hashable, make: Callable[[], list[Panel]], place: str = "panels") -> list[Panel]:
        """What ``make`` gave for ``key``; made again only for another key. Each ``place`` keeps its newest."""
        known = self._made.get(place)
        if known is not None and known[0] == key:
            return known[1]
        if self._is_hurried:
            return [Panel(f"working-{place}", "Computing what you chose", headline="This takes a few seconds.")]
        panels = make()
        self._made[place] = (key, panels)
        return panels

    def complaint(self, wrong: Sequence[str]) -> str:
        """About choices that are none, without repeating what was asked for."""
        named = [name for name in self.known if name in wrong]
        if any(name not in self.known for name in wrong):
            named.append("an unknown filter")
        return f"Not a choice here, and left out: {', '.join(named)}." if named else ""


def largest_sites(lake: Lake) -> tuple[str, ...]:
    """The sites with enough admissions to look at, by name."""
    rows = lake.query(
        "SELECT coalesce(nullif(site, ''), 'Unknown') AS site FROM clinical.admissions GROUP BY ALL "
        f"HAVING count(*) >= {LEAST_ADMISSIONS_A_SITE} ORDER BY count(*) DESC, site LIMIT {MOST_SITES}"
    )
    return tuple(sorted(row["site"] for row in rows))


def options(everything: str, values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The options of a list that begins with no choice."""
    return (("", everything), *((value, value) for value in values))


def compute(analysis: str, snapshot: SnapshotReader, **parameters: Any) -> Result:
    """The analysis with its pictures on ``snapshot``, as a run of its notebook computes it."""
    module = importlib.import_module(f"medisync.analyses.{analysis}")
    params = module.Params.checked(parameters)
    result: Result = module.compute(module.load(snapshot, params), params)
    return result.with_figures(module.figures(result))


def result_or_trouble(analysis: str, snapshot: SnapshotReader, **parameters: Any) -> Result | str:
    """:func:`compute`, or in words why there is no result: what fails leaves the rest of the page alone."""
    return or_trouble(analysis, lambda: compute(analysis, snapshot, **parameters))


def or_trouble(analysis: str, make: Callable[[], Result]) -> Result | str:
    """What ``make`` gives, or in words why it gives nothing."""
    try:
        return make()
    except MediSyncError as error:
        return str(error)
    except Exception as error:
        log.exception("%s could not be computed for a choice.", analysis)
        return f"This could not be computed ({type(error).__name__}); the log of the pages says more."
