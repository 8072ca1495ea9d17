"""The pages' server in a process of its own, and a real Chromium that looks at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from medisync.dashboards import server
from medisync.settings import Settings
from tests.support.processes import wait_or_kill
from tests.support.running import PATIENCE_SECONDS, child_environment, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LIVE = "#connection[data-state=live]"


@dataclass
class PagesServer:
    """Voila as the supervisor starts it, and the process that draws the pages."""

    settings: Settings
    process: subprocess.Popen[bytes]
    reader: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.settings.pages_url

    def kernels(self) -> int:
        """How many kernels the server has, the one started ahead included."""
        number = 0
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it may be ending just now
                number += "ipykernel_launcher" in " ".join(child.cmdline())
        return number

    def stop(self) -> None:
        for process in (self.process, self.reader):
            if process.poll() is None:
                process.terminate()
        wait_or_kill(self.process, self.reader)


@contextlib.contextmanager
def running_pages(settings: Settings) -> Iterator[PagesServer]:
    """Start both with the supervisor's own commands, wait until the server is well, stop them at the end."""
    settings.make_folders()
    with (settings.logs / "pages.log").open("ab") as log:
        process, reader = (
            subprocess.Popen(
                command,
                env={**child_environment(settings), **server.environment(settings)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for command in (server.command(settings), server.reader_command())
        )
    running = PagesServer(settings, process, reader)
    try:
        wait_until(lambda: is_well(settings), seconds=60, what="the pages' server answers")
        yield running
    finally:
        running.stop()


def is_well(settings: Settings) -> bool:
    try:
        return httpx.get(server.health_url(settings), timeout=30).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A real browser. Without one the test is skipped, but under CI it fails."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and not os.environ.get("CI"):
        pytest.skip("There is no Chromium on this machine.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """A browser page of which every request and every complaint is kept."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(1000 * PATIENCE_SECONDS)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def elsewhere(self) -> list[str]:
        """Requests to any address but this machine's."""
        local = ("data", "blob", "about")
        parts = ((url, urlsplit(url)) for url in self.requests)
        return [url for url, split in parts if split.scheme not in local and split.hostname != "127.0.0.1"]
