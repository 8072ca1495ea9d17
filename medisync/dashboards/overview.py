"""The overview page: alerts, data as of, what changed since yesterday, a headline and a picture of each analysis,
deliveries. It reads what is published."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

from medisync.access.principal import Audience
from medisync.dashboards.alerts import alerts, watched
from medisync.dashboards.parts import Part, slots
from medisync.dashboards.reading import DELIVERIES, Reader, View
from medisync.dashboards.rendering import render
from medisync.dashboards.since import Since, Yesterday
from medisync.reports.phrases import STATE_WORDS
from medisync.runs.published import DeliveryLine
from medisync.settings import Settings, project_root


class Overview:
    """The overview of one workspace, as a live page's source."""

    def __init__(self, settings: Settings, *, deliveries: int = DELIVERIES, reader: Reader | None = None) -> None:
        self.settings = settings
        self.reader = reader or Reader(settings, deliveries=deliveries)
        self._yesterday = Yesterday(self.reader)

    def kept_as(self) -> str | None:
        """The name under which the page reader keeps it."""
        return f"overview-{self.reader.audience}" if self.reader.deliveries == DELIVERIES else None

    def show_to(self, audience: Audience) -> None:
        self.reader.show_to(audience)

    def signature(self) -> Hashable:
        return self.reader.signature()

    def parts(self) -> list[Part]:
        view = self.reader.read()
        return parts(view, self.settings, Since() if view.trouble else self._yesterday.since(view))

    def frame(self, parts: Sequence[Part]) -> str:
        return render("overview.html", slots=slots(parts))


def parts(view: View, settings: Settings, since: Since | None = None) -> list[Part]:
    """``view``, and what changed ``since`` the day before, as the parts of the page; nothing is read here."""
    made = heading(view, settings)
    found = alerts(view)
    says = f"{len(found)} {'alert' if len(found) == 1 else 'alerts'}." if found else ""
    made.append(
        Part(
            "alerts",
            "alerts",
            render("alerts.html", found=found, is_watched=watched(view), is_whole=view.is_whole),
            says=says,
        )
    )
    if since is not None and view.last_run_at is not None and not view.trouble:
        made.append(Part("since", "since", render("since.html", since=since)))
    if view.deliveries:
        latest = view.deliveries[0]
        html = render("delivery.html", line=latest, label="Latest delivery")
        made.append(Part("latest-delivery", "head", html, says=f"{_name(latest)}: {latest.status}."))
    for one in view.shelf:
        state = STATE_WORDS[one.freshness]
        html = render("tile.html", one=one, view=view, data=view.data)
        made.append(Part(f"tile-{one.analysis}", "tiles", html, says=f"{one.title}: {state}."))
    return made + [
        Part(f"delivery-{line.delivery_id}", "deliveries", render("delivery.html", line=line))
        for line in view.deliveries
    ]


def heading(view: View, settings: Settings) -> list[Part]:
    """What stands on top of every page: the data as of, and what is wrong or to be done first."""
    return [
        Part("data", "head", render("data.html", view=view)),
        Part("notice", "head", render("notice.html", view=view, inbox=_shortest(settings.inbox))),
    ]


def _shortest(path: Path) -> str:
    """``path`` from the checkout where it lies in it, else whole; always with a slash at the end."""
    root = project_root()
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}/"


def _name(line: DeliveryLine) -> str:
    return line.file_label or f"Delivery {line.delivery_id}"
