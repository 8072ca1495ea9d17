"""The pages in a real Chromium, and the report pack: ``python -m bench.pages [--json]``.

The sample in a workspace of its own; the fork server of kernels and the pages' server as ``medisync up`` starts them.
Seconds are counted by the browser, from the click. The peer: stock Voila with preheated kernels and its own template,
which shows the same overview in the same run (what it asks of other machines is refused at once, in its favour).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psutil

from bench.report import Metric, main
from medisync import intake
from medisync.access.page_audience import AUDIENCE_HEADER
from medisync.analyses.contract import Result
from medisync.dashboards import server
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.reports import bulletins, pack
from medisync.runs.published import published
from medisync.runs.publishing import publish
from medisync.runs.record import RunRecord, new_run_id
from medisync.settings import Settings
from medisync.supervisor.ready import SAMPLE
from tests.support.fork_servers import fork_server
from tests.support.login import log_in
from tests.support.pages import LIVE, Watched, chromium, running_pages
from tests.support.running import child_environment, free_ports, medisync, trial_settings, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

VISITS = 5
VISITS_ELSEWHERE = 3
"""To each of the other pages; the median counts."""
VIEWERS = 20
UPDATES = 3
CLOSED_VISITS = 9
LIMIT_SECONDS = 180.0
PEER = "stock Voila 0.5.13, preheated"
CHANGED = "medication_analysis"
"""The analysis whose headline is changed before the viewers' eyes."""

WATCH = """(() => {
  const seen = { first: null, live: null };
  window.__seen = seen;
  const shows = (one) => one && one.checkVisibility({ opacityProperty: true, visibilityProperty: true })
    && one.getBoundingClientRect().height > 0;
  const look = () => {
    const words = document.querySelector("main .headline, main h2, .jp-OutputArea-output .headline");
    const picture = document.querySelector("main .picture svg, .jp-OutputArea-output .picture svg");
    const isText = location.pathname.endsWith("/data.ipynb");
    if (seen.first === null && shows(words) && (isText || shows(picture))) seen.first = performance.now();
    if (seen.live === null && document.querySelector("#connection[data-state=live]")) seen.live = performance.now();
    if (seen.first === null || seen.live === null) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()"""
"""Notes when words and pictures can be read, and when the page is alive, in milliseconds since the click."""

AWAIT = """(token) => {
  window.__changed = null;
  const main = document.querySelector("main");
  const look = () => { if (main.textContent.includes(token)) { window.__changed = Date.now(); watch.disconnect(); } };
  const watch = new MutationObserver(look);
  watch.observe(main, { childList: true, subtree: true, characterData: true });
  look();
}"""


@dataclass
class Visit:
    """What one visit took, in seconds, and what came over the wire, in bytes."""

    first_content: float
    whole: float
    wire: int
    elsewhere: list[str] = field(default_factory=list)


def measure() -> dict[str, Metric]:
    """How soon pages show, come alive and change, what they weigh, and how long a PDF takes."""
    with tempfile.TemporaryDirectory(prefix="medisync-bench-") as folder:
        settings = trial_settings(Path(folder))
        lake = Lake(settings)
        command = ("-m", kernels.__name__, str(kernels.socket_path(settings)))
        settings.make_folders()
        with contextlib.closing(lake), fork_server(settings.run_state, *command) as forks:
            forks.wait_ready()
            intake.ingest(lake, SAMPLE)
            done = medisync(settings, "run")
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
            pdf = _pdf_seconds(lake)
            with chromium() as browser, running_pages(settings):
                ours = _ours(browser, settings, lake)
            with chromium() as browser, _stock_voila(settings) as address:
                stock = _stock(browser, address)
    peer_first, peer_wire = stock
    return {
        **_with_peer(ours, peer_first, peer_wire),
        "stock_voila_seconds": Metric(round(peer_first, 2), "s", "shown"),
        "pdf_seconds": Metric(round(pdf, 2), "s", "<= 3"),
    }


def _with_peer(ours: dict[str, Metric], first: float, wire: float) -> dict[str, Metric]:
    peers = {"first_content_seconds": first, "wire_megabytes_first_visit": wire}
    return {
        name: Metric(one.value, one.unit, one.goal, PEER, round(peers[name], 2)) if name in peers else one
        for name, one in ours.items()
    }


def _ours(browser: Browser, settings: Settings, lake: Lake) -> dict[str, Metric]:
    links = server.page_links(settings)
    overview = settings.pages_url
    first_visit = _visit(browser, settings, overview, is_fresh=True)
    warm = [_visit(browser, settings, overview) for _ in range(VISITS)]
    others = [
        [_visit(browser, settings, f"{overview}{link.path}") for _ in range(VISITS_ELSEWHERE)]
        for link in links
        if link.path
    ]
    visits = [first_visit, *warm, *itertools.chain(*others)]
    left = _kernels_left(browser, settings)
    update, mb = _viewers(browser, settings, lake)
    return {
        "first_content_seconds": Metric(round(statistics.median(one.first_content for one in warm), 2), "s", "<= 1"),
        "whole_page_seconds": Metric(round(statistics.median(one.whole for one in warm), 2), "s", "<= 2.5"),
        "slowest_page_first_content_seconds": Metric(
            round(max(statistics.median(one.first_content for one in each) for each in others), 2), "s", "<= 1"
        ),
        "slowest_page_whole_seconds": Metric(
            round(max(statistics.median(one.whole for one in each) for each in others), 2), "s", "<= 2.5"
        ),
        "wire_megabytes_first_visit": Metric(round(first_visit.wire / 1e6, 3), "MB", "<= 2"),
        "wire_megabytes_later_visit": Metric(round(warm[-1].wire / 1e6, 3), "MB", "shown"),
        "kernels_left_after_a_minute": Metric(left, "kernels", "0"),
        "live_update_seconds_20_viewers": Metric(round(update, 2), "s", "<= 2"),
        "mb_per_viewer": Metric(round(mb, 1), "MB", "<= 150"),
        "external_requests": Metric(sum(len(one.elsewhere) for one in visits), "requests", "0"),
        "axe_violations": Metric(_axe(browser, settings, [link.path for link in links]), "violations", "0"),
    }


def _context(browser: Browser, settings: Settings) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    log_in(context, settings)
    context.add_init_script(WATCH)
    return context


_cached: list[BrowserContext] = []
"""The browser profile of the later visits: what it has fetched once it need not fetch again."""


def _visit(browser: Browser, settings: Settings, address: str, *, is_fresh: bool = False) -> Visit:
    """Open ``address``, in a profile of its own for a fresh visit, wait until it is alive, and close it."""
    if not is_fresh and not _cached:
        _cached.append(_context(browser, settings))
    context = _context(browser, settings) if is_fresh else _cached[0]
    time.sleep(2)  # a reader between two pages; the kernel for the next one is started ahead in that time
    page = context.new_page()
    watched = Watched(page)
    sizes = _wire(context, page)
    page.goto(address, wait_until="commit")
    page.wait_for_selector(LIVE, timeout=LIMIT_SECONDS * 1000)
    seen = wait_until(
        lambda: page.evaluate("window.__seen.first !== null && window.__seen.live !== null && window.__seen"),
        seconds=LIMIT_SECONDS,
        what="words and pictures show",
    )
    made = Visit(seen["first"] / 1000, seen["live"] / 1000, sum(sizes), watched.elsewhere())
    page.close(run_before_unload=False)
    if is_fresh:
        context.close()
    return made


def _wire(context: BrowserContext, page: Page) -> list[int]:
    """Bytes of each answer as they came, compressed, headers included; it grows while the page loads."""
    sizes: list[int] = []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    return sizes


def _kernels_left(browser: Browser, settings: Settings) -> int:
    """Kernels beyond those before, a minute after several pages were opened and closed."""
    before = _kernel_processes()
    for number in range(CLOSED_VISITS):
        links = server.page_links(settings)
        _visit(browser, settings, f"{settings.pages_url}{links[number % len(links)].path}")
    time.sleep(60)
    return max(0, _kernel_processes() - before)


def _viewers(browser: Browser, settings: Settings, lake: Lake) -> tuple[float, float]:
    """The slowest viewer's seconds from a commit to the change in the page, worst of some updates, and memory each."""
    before = _memory_mb()
    context = _context(browser, settings)
    pages = []
    for _ in range(VIEWERS):
        page = context.new_page()
        page.goto(settings.pages_url, wait_until="commit")
        page.wait_for_selector(LIVE, timeout=LIMIT_SECONDS * 1000)
        pages.append(page)
    time.sleep(5)
    each = (_memory_mb() - before) / VIEWERS
    record, result = _good(lake)
    worst = 0.0
    for number in range(UPDATES):
        token = f"Headline number {number} for all viewers."
        for page in pages:
            page.evaluate(AWAIT, token)
        now = dt.datetime.now(dt.UTC)
        again = record.model_copy(update={"run_id": new_run_id(), "finished_at": now, "headline": token})
        publish(lake, again, result.model_copy(update={"headline": token}))
        committed = time.time()
        for page in pages:
            worst = max(worst, _moment(page, "window.__changed") / 1000 - committed)
    context.close()
    return worst, each


def _moment(page: Page, script: str) -> float:
    """The milliseconds ``script`` gives, once it gives any."""
    return float(wait_until(lambda: page.evaluate(script), seconds=LIMIT_SECONDS, what=script))


def _good(lake: Lake) -> tuple[RunRecord, Result]:
    one = next(one for one in published(lake) if one.analysis == CHANGED)
    if one.record is None or one.result is None:
        raise LookupError(CHANGED)
    return one.record, one.result


def _axe(browser: Browser, settings: Settings, paths: list[str]) -> int:
    from axe_playwright_python.sync_playwright import Axe

    context = _context(browser, settings)
    page = context.new_page()
    number = 0
    for path in paths:
        page.goto(f"{settings.pages_url}{path}", wait_until="commit")
        page.wait_for_selector(LIVE, timeout=LIMIT_SECONDS * 1000)
        page.emulate_media(color_scheme="light")
        number += len(Axe().run(page).response["violations"])
        page.emulate_media(color_scheme="dark")
        number += len(Axe().run(page).response["violations"])
    context.close()
    return number


def _pdf_seconds(lake: Lake) -> float:
    """From what is published to the typeset PDF, in a process that has done it before."""
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        made = pack.collect(lake, bulletins.utc_now())
        with tempfile.TemporaryDirectory() as folder:
            pack.write_pdf(made, Path(folder) / "pack.pdf", Path(folder) / "typst")
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _processes() -> list[psutil.Process]:
    """The pages' server, the fork server, and all below them."""
    names = (kernels.__name__, "medisync.dashboards.application")
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if any(name in line for name in names) or "ipykernel_launcher" in line:
                found.append(process)
    return found


def _kernel_processes() -> int:
    """With a guard beside each kernel: none more than before means no kernel more than before."""
    return len(_processes())


def _memory_mb() -> float:
    """Of these processes, shared pages counted once (PSS)."""
    total = 0
    for process in _processes():
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            total += process.memory_full_info().pss
    return total / 1e6


@contextlib.contextmanager
def _stock_voila(settings: Settings) -> Iterator[str]:
    """Stock Voila over the same notebooks: its own template and kernels, one of them preheated."""
    (port,) = free_ports(1)
    options = (
        f"--port={port}",
        "--no-browser",
        "--preheat_kernel=True",
        "--pool_size=1",
        f"--VoilaConfiguration.http_header_envs={AUDIENCE_HEADER}",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "voila", str(server.dashboards_folder(settings)), *options],
        env={**child_environment(settings), "JUPYTER_CONFIG_DIR": str(settings.run_state / "stock")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{address}voila/static/", timeout=5).status_code < 500
        return False

    try:
        wait_until(answers, seconds=LIMIT_SECONDS, what="stock Voila answers")
        time.sleep(15)  # its preheated kernel
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _stock(browser: Browser, address: str) -> tuple[float, float]:
    """Median seconds until words and pictures show on stock Voila, and the megabytes of the first visit."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, extra_http_headers={AUDIENCE_HEADER: "full"})
    context.add_init_script(WATCH)
    context.route(lambda url: urlsplit(url).hostname != "127.0.0.1", lambda route: route.abort())
    seconds, wires = [], []
    for _ in range(VISITS):
        page = context.new_page()
        sizes = _wire(context, page)
        page.goto(f"{address}voila/render/{server.OVERVIEW}", wait_until="commit")
        seconds.append(_moment(page, "window.__seen.first") / 1000)
        time.sleep(10)  # the next preheated kernel; also the rest of its scripts
        wires.append(sum(sizes))
        page.close()
    context.close()
    return statistics.median(seconds), wires[0] / 1e6


if __name__ == "__main__":
    main(measure)
