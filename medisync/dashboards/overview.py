"""The overview page: data as of, six headlines with a picture each, deliveries. It reads what is published."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import logging
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2

from medisync.analyses.contract import Result
from medisync.dashboards.parts import TEMPLATES, Part, slots
from medisync.errors import MediSyncError
from medisync.lake import Lake
from medisync.reports.page import TEMPLATES as REPORT_TEMPLATES
from medisync.reports.page import cell, words
from medisync.reports.phrases import FINDING_WORDS, STATE_WORDS, day, iso, tied, when
from medisync.runs import registry
from medisync.runs.published import (
    DataState,
    DeliveryLine,
    Freshness,
    Published,
    data_state,
    published,
    recent_deliveries,
)
from medisync.settings import Settings, project_root

log = logging.getLogger(__name__)

REPORTS_PATH = "/reports/"
"""Where the pages' server serves the reports folder."""

RETRY_SECONDS = 3.0
"""A lake that could not be read is tried again so often."""

ROWS_ON_A_TILE = 60
"""A longer table stands in the full report only."""


@dataclass(frozen=True)
class View:
    """All the overview shows, read at one moment. ``trouble`` says in words why something could not be read."""

    shelf: tuple[Published, ...] = ()
    data: DataState | None = None  # None: there is no lake yet
    deliveries: tuple[DeliveryLine, ...] = ()
    reports: frozenset[str] = frozenset()  # run ids whose report is kept
    trouble: str | None = None

    @property
    def has_data(self) -> bool:
        return self.data is not None and self.data.admissions > 0

    @property
    def last_run_at(self) -> dt.datetime | None:
        """When the newest result shown here was made, UTC."""
        return max((one.record.finished_at for one in self.shelf if one.record is not None), default=None)

    def count(self, freshness: Freshness | str) -> int:
        """How many tiles are in this state."""
        return sum(one.freshness == freshness for one in self.shelf)


class Overview:
    """The overview of one workspace, as a live page's source."""

    def __init__(self, settings: Settings, *, deliveries: int = 5) -> None:
        self.settings = settings
        self.lake = Lake(settings)
        self.deliveries = deliveries
        self._results: dict[str, Result] = {}
        self._snapshot_id: int | None = None
        self._last = View()

    def signature(self) -> Hashable:
        """The newest snapshot and the analysis notebooks: a page may change when one of them does.

        While there is trouble, time is a part of it, too: then it is worth to look again.
        """
        notebooks = []
        for path in sorted(self.settings.analyses.glob("*.ipynb")):
            with contextlib.suppress(FileNotFoundError):  # editors replace files
                notebooks.append((path.name, path.stat().st_mtime_ns))
        trial = time.monotonic() // RETRY_SECONDS if self._last.trouble else None
        return self.lake.last_snapshot_id(), tuple(notebooks), trial

    def parts(self) -> list[Part]:
        return parts(self.read(), self.settings)

    def frame(self, parts: Sequence[Part]) -> str:
        return _templates().get_template("overview.html").render(slots=slots(parts))

    def read(self) -> View:
        """What is published now; what could be read last, and the reason, when the lake cannot be read."""
        try:
            self._last = self._read()
        except MediSyncError as error:
            self._last = replace(self._last, trouble=str(error))
        except Exception as error:
            log.exception("The lake could not be read.")
            trouble = f"The data could not be read ({type(error).__name__}). Run: medisync doctor"
            self._last = replace(self._last, trouble=trouble)
        return self._last

    def _read(self) -> View:
        snapshot_id = self.lake.last_snapshot_id()
        if snapshot_id is None or (self._snapshot_id or 0) > snapshot_id:
            self.lake.close()  # the lake was removed, or replaced by a younger one
            self._results.clear()
        self._snapshot_id = snapshot_id
        if snapshot_id is None:  # a page never makes a lake
            return View(shelf=tuple(_without_lake(self.settings)))
        shelf = tuple(published(self.lake, known=self._results))
        self._results = {one.record.run_id: one.result for one in shelf if one.record and one.result}
        shown = {one.record.run_id for one in shelf if one.record} | {one.failed_run_id for one in shelf}
        return View(
            shelf=shelf,
            data=data_state(self.lake),
            deliveries=tuple(recent_deliveries(self.lake, self.deliveries)),
            reports=frozenset(run_id for run_id in shown if run_id and report_path(self.settings, run_id).exists()),
        )


def report_path(settings: Settings, run_id: str) -> Path:
    """The report of a run."""
    return settings.reports / "runs" / run_id / "report.html"


def parts(view: View, settings: Settings) -> list[Part]:
    """``view`` as the parts of the page; nothing is read here."""
    made = [
        Part("data", "head", _render("data.html", view=view)),
        Part("notice", "head", _render("notice.html", view=view, inbox=_shortest(settings.inbox))),
    ]
    if view.deliveries:
        latest = view.deliveries[0]
        html = _render("delivery.html", line=latest, label="Latest delivery")
        made.append(Part("latest-delivery", "head", html, says=f"{_name(latest)}: {latest.status}."))
    for one in view.shelf:
        state = STATE_WORDS[one.freshness]
        html = _render("tile.html", one=one, view=view, data=view.data)
        made.append(Part(f"tile-{one.analysis}", "tiles", html, says=f"{one.title}: {state}."))
    return made + [
        Part(f"delivery-{line.delivery_id}", "deliveries", _render("delivery.html", line=line))
        for line in view.deliveries
    ]


def _without_lake(settings: Settings) -> list[Published]:
    return [Published(one.analysis, one.title, Freshness.NEVER) for one in registry.analyses(settings)]


def _shortest(path: Path) -> str:
    """``path`` from the checkout where it lies in it, else whole; always with a slash at the end."""
    root = project_root()
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}/"


def _name(line: DeliveryLine) -> str:
    return line.file_label or f"Delivery {line.delivery_id}"


def _render(name: str, **values: object) -> str:
    return _templates().get_template(name).render(values).strip()


@functools.cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, REPORT_TEMPLATES]),  # tables are drawn as in reports
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(when=when, day=day, iso=iso, tied=tied, cell=cell, words=words)
    templates.globals.update(
        state_words=STATE_WORDS, finding_words=FINDING_WORDS, reports=REPORTS_PATH, rows_on_a_tile=ROWS_ON_A_TILE
    )
    return templates
