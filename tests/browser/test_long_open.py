"""A page left open: a day's worth of updates in a short time, and the end of the viewer's session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from medisync.access.gate import session_cookie
from medisync.access.service import Access
from medisync.settings import Settings, environment, project_root
from tests.support.login import log_in
from tests.support.pages import LIVE, PagesServer, Watched, running_pages
from tests.support.running import trial_settings, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession

pytestmark = pytest.mark.browser

PATIENCE = 180.0
WARM_UP = 20
DAY = 200
"""What a day brings, with a delivery or a round of analyses every seven minutes, and each changes everything."""

SOURCE = """
from medisync.dashboards.live import LivePage
from medisync.dashboards.overview import Overview
from medisync.dashboards.parts import Part
from medisync.settings import load_settings

class Ticking(Overview):
    '''The overview's frame with six tiles of 10 kB, changed whenever the file ``tick`` is.'''

    def signature(self):
        return int((self.settings.data / "tick").read_text() or 0)

    def parts(self):
        self.number = self.signature()
        marks = "".join(f'<path d="M{x} {self.number % 97}h3"/>' for x in range(500))
        tile = f'<h3>Number</h3><details data-keep="x"><summary>more</summary></details><svg>{marks}</svg>'
        head = Part("data", "head", f"<h1>Ticking</h1><p id='number'>{self.number}</p>", says=f"Now {self.number}.")
        return [head, *(Part(f"tile-{n}", "tiles", f"{tile}{self.number}", says="changed.") for n in range(6))]

page = LivePage(Ticking(load_settings()))
page.prepare()
page.wait_for_viewer()
page.show()
page.go_live(every_seconds=0.02)
"""


@dataclass(frozen=True)
class Held:
    """What an open page holds. Memory in MB."""

    nodes: float
    listeners: float
    documents: float
    heap_mb: float
    kernel_mb: float
    kernel_files: int
    server_sockets: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PagesServer]:
    """The pages' server with a page that changes when it is told to, by the code of every live page."""
    settings = trial_settings(tmp_path_factory.mktemp("long"))
    with pytest.MonkeyPatch.context() as patch:
        settings = settings.model_copy(update={"notebooks": settings.data.parent / "notebooks"})
        for name, value in environment(settings).items():
            patch.setenv(name, value)
        settings.dashboards.mkdir(parents=True)
        settings.data.mkdir(parents=True)
        tick(settings, 0)
        overview = (project_root() / "notebooks" / "dashboards" / "overview.ipynb").read_text(encoding="utf-8")
        (settings.dashboards / "overview.ipynb").write_text(overview, encoding="utf-8")
        document = json.loads(overview)
        document["metadata"]["title"] = "Ticking"
        code = next(cell for cell in document["cells"] if cell["cell_type"] == "code")
        document["cells"] = [{**code, "id": "all", "metadata": {}, "source": SOURCE}]
        (settings.dashboards / "ticking.ipynb").write_text(json.dumps(document), encoding="utf-8")
        with running_pages(settings) as server:
            yield server


def tick(settings: Settings, number: int) -> None:
    draft = settings.data / ".tick"
    draft.write_text(str(number), encoding="utf-8")
    draft.replace(settings.data / "tick")


def kernel_of(server: PagesServer) -> psutil.Process:
    """The kernel of the page opened last."""
    found = [
        one
        for one in psutil.Process(server.process.pid).children(recursive=True)
        if "ipykernel_launcher" in " ".join(one.cmdline())
    ]
    return max(found, key=lambda one: one.create_time())


def held(cdp: CDPSession, server: PagesServer, kernel: psutil.Process) -> Held:
    cdp.send("HeapProfiler.collectGarbage")
    told = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    sockets = [one for one in psutil.Process(server.process.pid).net_connections("tcp") if one.status == "ESTABLISHED"]
    return Held(
        nodes=told["Nodes"],
        listeners=told["JSEventListeners"],
        documents=told["Documents"],
        heap_mb=told["JSHeapUsedSize"] / 1e6,
        kernel_mb=kernel.memory_full_info().uss / 1e6,
        kernel_files=kernel.num_fds(),
        server_sockets=len(sockets),
    )


def test_a_day_of_updates_makes_nothing_grow(served: PagesServer, browser: Browser) -> None:
    context = browser.new_context()
    log_in(context, served.settings)
    watched = Watched(context.new_page())
    page = watched.page
    page.goto(f"{served.url}voila/render/ticking.ipynb", wait_until="domcontentloaded")
    page.wait_for_selector(LIVE, timeout=PATIENCE * 1000)
    page.click("[data-part=tile-3] summary")
    page.evaluate("window.neverReloaded = true")
    kernel = kernel_of(served)
    cdp = context.new_cdp_session(page)
    cdp.send("Performance.enable")

    def updates(first: int, last: int) -> None:
        for number in range(first, last):
            tick(served.settings, number)
            shown = f"document.getElementById('number').textContent === '{number}'"
            wait_until(lambda told=shown: page.evaluate(told), seconds=PATIENCE, what=f"update {number}", every=0.005)  # type: ignore[misc]

    updates(1, WARM_UP)
    before = held(cdp, served, kernel)
    updates(WARM_UP, WARM_UP + DAY)
    # One update's nodes may wait to be collected; a leak would hold hundreds of times as many, and for ever.
    after = wait_until(
        lambda: now if (now := held(cdp, served, kernel)).nodes <= before.nodes + 9_000 else None,
        seconds=PATIENCE,
        what="the nodes of earlier updates are collected",
        every=0.5,
    )
    assert page.evaluate("window.neverReloaded")
    assert page.locator("[data-part=tile-3] details[open]").count() == 1, "what the viewer opened stays open"
    assert after.listeners <= before.listeners + 5
    assert after.documents <= before.documents + 1
    assert after.heap_mb <= before.heap_mb + 3, "200 updates of 60 kB passed through"
    assert after.kernel_mb <= before.kernel_mb + 8
    assert after.kernel_files <= before.kernel_files + 2
    assert after.server_sockets <= before.server_sockets + 2
    assert watched.complaints == []
    context.close()


def test_when_the_session_ends_the_open_page_leads_to_the_login(served: PagesServer, browser: Browser) -> None:
    context = browser.new_context()
    log_in(context, served.settings)
    watched = Watched(context.new_page())
    page = watched.page
    page.goto(served.url, wait_until="domcontentloaded")
    page.wait_for_selector(LIVE, timeout=PATIENCE * 1000)
    end_session(served.settings, {one["name"]: one["value"] for one in context.cookies()})

    def is_led() -> bool:
        page.wait_for_timeout(50)  # in which the browser's news come in; the pages' server leads to the API's login
        return any(url.startswith(f"{served.settings.api_url}login?next=") for url in watched.requests)

    wait_until(is_led, seconds=PATIENCE, what="the page asks for the login, with the way back")
    context.close()


def end_session(settings: Settings, held_cookies: dict[str, str]) -> None:
    """As somebody who logs out elsewhere, or whose time is up."""
    access = Access.open(settings)
    access.log_out(access.principal(None, held_cookies[session_cookie(settings)]), where="elsewhere")
    access.ledger.dispose()
