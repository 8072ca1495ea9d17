"""The page reader draws each page once for all who look at it: ``python -m medisync.dashboards.page_reader``.

Pages somebody looks at are looked after several times a second. The others are drawn anew once nothing has been
committed for a while and no analysis runs, so that they, too, open at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field

from medisync.access.page_audience import TRIGGER_VARIABLE
from medisync.access.principal import Audience
from medisync.dashboards.data import Data
from medisync.dashboards.forecasts import Forecasts
from medisync.dashboards.kept import KeptPages, kept_as
from medisync.dashboards.overview import Overview
from medisync.dashboards.parts import Source
from medisync.dashboards.patients import Patients
from medisync.dashboards.reading import Reader, View
from medisync.dashboards.surges import Surges
from medisync.ending import ToldToEnd
from medisync.lake import Lake
from medisync.runs.progress import runs_in_progress
from medisync.settings import Settings, load_settings

STEP_SECONDS = 0.02
"""How soon a page that is being opened is noticed."""

LOOK_SECONDS = 0.1
"""How often pages with viewers are looked after."""

QUIET_SECONDS = 2.0
"""A page without viewers is looked at so often, and drawn when it is the same as the time before."""

STUCK_SECONDS = 60.0
"""A step that takes longer ends the signs of life: kernels then read by themselves."""

log = logging.getLogger(__name__)


class _SharedReader(Reader):
    """Reads once for all pages of an audience, until something changes."""

    _known: tuple[Hashable, View] | None = None

    def read(self) -> View:
        before = self.signature()
        if self._known is None or self._known[0] != before:
            view = super().read()
            is_sure = not view.trouble and self.signature() == before
            self._known = (before, view) if is_sure else None
            return view
        return self._known[1]


@dataclass
class _Page:
    """One page for one audience. ``drawn``: the signature of what is kept; ``seen``: that of the look before."""

    name: str
    source: Source
    drawn: Hashable = None
    seen: Hashable = None
    looked_at: float = float("-inf")
    has_viewers: bool = False
    versions: list[tuple[str, str, str]] = field(default_factory=list)


class PageReader:
    """Keeps every page of one workspace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake = Lake(settings)
        self._kept = KeptPages.of(settings)
        self._kept.clear()
        self._trouble = ""
        self._pages = [_Page(str(kept_as(source)), source) for source in sources(settings, self._lake)]

    def step(self) -> None:
        """Look after all pages that have viewers, and after one that has none."""
        others = []
        for page in self._pages:
            had_viewers, page.has_viewers = page.has_viewers, self._kept.is_wanted(page.name)
            if not page.has_viewers:
                others.append(page)
            elif not had_viewers or time.monotonic() - page.looked_at >= LOOK_SECONDS:
                self._look(page)
        due = min(others, key=lambda page: page.looked_at, default=None)
        if due is None or time.monotonic() - due.looked_at < QUIET_SECONDS:
            return
        if runs_in_progress(self._settings):  # they need the cores, and there will be something else to show soon
            due.looked_at = time.monotonic()
        else:
            self._look(due)

    def try_step(self) -> bool:
        """A step, or why it failed in the log, once for as long as that lasts; whether it went well."""
        try:
            self.step()
        except Exception as error:
            if repr(error) != self._trouble:
                log.exception("The pages could not be read for their viewers; each of them tries by itself.")
            self._trouble = repr(error)
            self.forget()
            return False
        self._trouble = ""
        return True

    def _look(self, page: _Page) -> None:
        """Draw ``page`` anew when there may be something else to show; without viewers, once that has settled."""
        moment, page.looked_at = time.time(), time.monotonic()
        signature = page.source.signature()
        if signature != page.drawn and (page.has_viewers or signature == page.seen):
            self._draw(page, signature)
        page.seen = signature
        if page.drawn == signature:
            self._kept.looked_at(page.name, moment)

    def _draw(self, page: _Page, signature: Hashable) -> None:
        parts = page.source.parts()
        page.drawn = signature if page.source.signature() == signature else None  # else it is looked at again
        versions = [(part.slot, part.name, part.version) for part in parts]
        if versions != page.versions or self._kept.mark(page.name) is None:
            self._kept.write(page.name, parts)
            page.versions = versions

    def forget(self) -> None:
        """Keep nothing, after a fault: what would be kept might not be true any more."""
        for page in self._pages:
            page.drawn, page.versions = None, []
            self._kept.drop(page.name)

    def close(self) -> None:
        self._kept.clear()
        self._lake.close()


def sources(settings: Settings, lake: Lake) -> list[Source]:
    """Every page for everybody it can be made for; those for one audience share what was read."""
    made: list[Source] = []
    audiences: tuple[Audience, ...] = ("full", "released")
    for audience in audiences:
        reader = _SharedReader(settings, lake=lake)
        reader.show_to(audience)
        made += [Overview(settings, reader=reader)]
        made += [page(settings, reader) for page in (Forecasts, Surges, Patients)]
        told = ({}, {TRIGGER_VARIABLE: "yes"}) if audience == "full" else ({},)
        made += [Data(settings, one, reader) for one in told]
    return made


def main() -> None:
    """Read until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    told_to_end = ToldToEnd()
    settings = load_settings()
    settings.make_folders()
    reader, kept = PageReader(settings), KeptPages.of(settings)
    stepped_at = [time.monotonic()]

    def live() -> None:
        while not told_to_end:
            if time.monotonic() - stepped_at[0] < STUCK_SECONDS:
                kept.say_alive()
            time.sleep(1.0)

    threading.Thread(target=live, daemon=True).start()
    log.info("Reading for the pages")
    while not told_to_end:
        stepped_at[0] = time.monotonic()
        time.sleep(STEP_SECONDS if reader.try_step() else QUIET_SECONDS)
    reader.close()


if __name__ == "__main__":
    main()
