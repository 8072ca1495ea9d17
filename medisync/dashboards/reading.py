"""What every page reads: the published results, the data they are made from, and in words what could not be read."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medisync.access.principal import Audience
from medisync.analyses.contract import Result
from medisync.errors import MediSyncError
from medisync.lake import Lake
from medisync.runs import registry
from medisync.runs.published import (
    DataState,
    DeliveryLine,
    Freshness,
    Published,
    data_state,
    published,
    recent_deliveries,
    results_of,
)
from medisync.settings import Settings

log = logging.getLogger(__name__)

DELIVERIES = 5
"""So many of the latest deliveries are read."""

RETRY_SECONDS = 3.0
"""A lake that could not be read is tried again so often."""


@dataclass(frozen=True)
class View:
    """What is published, read at one moment. ``trouble`` says in words why something could not be read."""

    shelf: tuple[Published, ...] = ()
    data: DataState | None = None  # None: there is no lake yet
    deliveries: tuple[DeliveryLine, ...] = ()
    reports: frozenset[str] = frozenset()  # run ids whose report is kept
    trouble: str | None = None
    is_whole: bool = True  # False: what is shown was released, and anything may be missing from it

    @property
    def has_data(self) -> bool:
        return self.data is not None and self.data.admissions > 0

    @property
    def last_run_at(self) -> dt.datetime | None:
        """When the newest result shown here was made, UTC."""
        return max((one.record.finished_at for one in self.shelf if one.record is not None), default=None)

    def count(self, freshness: Freshness | str) -> int:
        """How many analyses are in this state."""
        return sum(one.freshness == freshness for one in self.shelf)

    def of(self, analysis: str) -> Published | None:
        """What is published of ``analysis``; None when there is no such notebook."""
        return next((one for one in self.shelf if one.analysis == analysis), None)


class Reader:
    """Reads one workspace again and again; each result is read once."""

    def __init__(self, settings: Settings, *, deliveries: int = DELIVERIES, lake: Lake | None = None) -> None:
        self.settings = settings
        self.lake = Lake(settings) if lake is None else lake
        self.deliveries = deliveries
        self.audience: Audience = "full"
        self._results: dict[str, Result] = {}
        self._snapshot_id: int | None = None
        self._last = View()

    def show_to(self, audience: Audience) -> None:
        """From now on read what ``audience`` may see."""
        if audience != self.audience:
            self.audience, self._last = audience, View()
            self._results.clear()

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

    def results(self, run_ids: Sequence[str]) -> dict[str, Result]:
        """The results of any completed runs, as the audience may see them, by run id."""
        return results_of(self.lake, run_ids, self.audience)

    def _read(self) -> View:
        snapshot_id = self.lake.last_snapshot_id()
        if snapshot_id is None or (self._snapshot_id or 0) > snapshot_id:
            self.lake.close()  # the lake was removed, or replaced by a younger one
            self._results.clear()
        self._snapshot_id = snapshot_id
        if snapshot_id is None:  # a page never makes a lake
            return View(shelf=tuple(_without_lake(self.settings)))
        has_all = self.audience == "full"
        shelf = tuple(published(self.lake, known=self._results, audience=self.audience))
        self._results = {one.record.run_id: one.result for one in shelf if one.record and one.result}
        return View(
            shelf=shelf,
            data=data_state(self.lake),
            deliveries=tuple(_line(line, has_all) for line in recent_deliveries(self.lake, self.deliveries)),
            reports=self._reports(shelf),
            is_whole=has_all,
        )

    def _reports(self, shelf: Sequence[Published]) -> frozenset[str]:
        """The runs on ``shelf`` whose report is kept; a report is the whole result, and so not for everybody."""
        if self.audience != "full":
            return frozenset()
        shown = {one.record.run_id for one in shelf if one.record} | {one.failed_run_id for one in shelf}
        return frozenset(run_id for run_id in shown if run_id and report_path(self.settings, run_id).exists())


def report_path(settings: Settings, run_id: str) -> Path:
    """The report of a run."""
    return settings.reports / "runs" / run_id / "report.html"


def _line(line: DeliveryLine, has_all: bool) -> DeliveryLine:
    """A delivery without its reasons, unless all may be seen."""
    return line if has_all else replace(line, reason=None, message="It could not be loaded." if line.message else None)


def _without_lake(settings: Settings) -> list[Published]:
    return [Published(one.analysis, one.title, Freshness.NEVER) for one in registry.analyses(settings)]
