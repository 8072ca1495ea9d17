"""How a page stays live: one task in the page's kernel looks at the lake and sends what changed to the browser.

The HTML of a page is complete without any script. A small script of ours then opens a comm to the kernel, says which
version of each part it shows, and replaces a part when the kernel sends a newer one. So nothing is lost between
rendering and connecting, nor while a connection was down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from medisync.access.page_audience import audience_told
from medisync.access.principal import Audience
from medisync.dashboards.kept import followed
from medisync.dashboards.parts import Part, Source, announcement, slots, stylesheet

log = logging.getLogger(__name__)

TARGET = "medisync.page"
"""The comm target the page's script opens."""

VIEWER_WAIT_SECONDS = 5.0
"""How long a kernel that was started ahead tries to reach the server that will tell it of its viewer."""

Send = Callable[[dict[str, Any]], None]


class Broadcast:
    """The newest state of a page and the viewers it is sent to. Holds no thread and no clock."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.trouble: str | None = None
        self._is_working = False
        self._viewers: dict[str, Send] = {}

    def join(self, viewer: str, send: Send, versions: Mapping[str, str]) -> None:
        """A viewer that shows ``versions`` (part name to version) gets what it misses, and all that follows.

        One that joins again, after its connection was lost, is the same viewer.
        """
        self._viewers[viewer] = send
        missing = [part for part in self.parts if versions.get(part.name) != part.version]
        send(self._message(missing))

    def update(self, parts: Sequence[Part], trouble: str | None = None) -> list[Part]:
        """Take the newest state; the parts that changed are sent to everybody and returned."""
        before = {part.name: part.version for part in self.parts}
        changed = [part for part in parts if before.get(part.name) != part.version]
        is_same = not changed and [part.name for part in parts] == [part.name for part in self.parts]
        if is_same and trouble == self.trouble and not self._is_working:
            return []
        self.parts, self.trouble, self._is_working = list(parts), trouble, False
        for send in list(self._viewers.values()):
            send(self._message(changed))
        return changed

    def working(self) -> None:
        """What was asked for takes a moment; the next update, changed or not, ends it."""
        self._is_working = True
        for send in list(self._viewers.values()):
            send({"working": True})

    def _message(self, changed: Sequence[Part]) -> dict[str, Any]:
        return {
            "slots": {slot: [part.name for part in held] for slot, held in slots(self.parts).items()},
            "parts": {part.name: str(part.element) for part in changed},
            "says": announcement(changed),
            "trouble": self.trouble,
            "working": self._is_working,
        }


class LivePage:
    """One page in one kernel: ``prepare``, ``wait_for_viewer``, ``show``, ``go_live``, in this order."""

    def __init__(self, source: Source) -> None:
        self.source = followed(source)
        self.broadcast = Broadcast()
        self._seen: Hashable = None
        self._task: asyncio.Task[None] | None = None
        self._comms: dict[str, Any] = {}
        self._choices: dict[str, str] | None = None  # the newest, not looked at yet
        self._is_preview = False  # what is shown lacks what has to be computed
        self._woken = asyncio.Event()

    def prepare(self) -> None:
        """Read everything once, so that the page opens at once when somebody asks for it."""
        self._take(*self._look())

    def wait_for_viewer(self) -> None:
        """In a kernel that Voila started ahead: return when somebody opens the page. Elsewhere: return at once."""
        if os.environ.get("VOILA_PREHEAT") != "True":
            if "VOILA_KERNEL_ID" in os.environ or "VOILA_REQUEST_URL" in os.environ:  # else an analyst in JupyterLab
                self._show_to(audience_told(os.environ))
            self._choose(choices_of(os.environ.get("QUERY_STRING", "")))
            return
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        audience = audience_told({})  # the narrow one, unless we are told of another
        port, prefix = os.environ["VOILA_APP_PORT"], os.environ.get("VOILA_SERVER_URL", "/")
        address = f"ws://127.0.0.1:{port}{prefix}voila/query/{os.environ['VOILA_KERNEL_ID']}"
        try:
            with connect(address, open_timeout=VIEWER_WAIT_SECONDS, ping_interval=None, proxy=None) as server:
                request = json.loads(server.recv())
            audience = audience_told(request)
            self._choose(choices_of(str(request.get("QUERY_STRING", ""))))
        except (
            OSError,
            ValueError,
            AttributeError,
            WebSocketException,
        ) as error:
            # Then the page is as old as this kernel until it connects.
            log.warning("Not told of a viewer: %s", type(error).__name__)
        self._show_to(audience)

    def _show_to(self, audience: Audience) -> None:
        """What was prepared is for those who may see everything; the others get a page made for them."""
        if audience != "full":
            self.source.show_to(audience)
            self.broadcast, self._seen = Broadcast(), None

    def show(self) -> None:
        """Display the page as it is now: text and pictures, complete without a script."""
        from IPython.display import HTML, display

        if self._choices is not None:
            # What has to be computed first must not keep the page from opening: ``go_live`` comes back to it.
            choices, self._choices = self._choices, None
            self.source.choose(choices)  # type: ignore[attr-defined]
            self.broadcast.update(self.source.preview())  # type: ignore[attr-defined]
            self._is_preview = True
        elif self.source.signature() != self._seen:
            self._take(*self._look())
        style = "" if "VOILA_PREHEAT" in os.environ else f"<style>{stylesheet()}</style>"  # Voila's template has it
        display(HTML(style + self.source.frame(self.broadcast.parts)))

    def go_live(self, *, every_seconds: float) -> None:
        """From now on send every change to the open page; looks at the lake every ``every_seconds``."""
        from IPython import get_ipython

        shell = get_ipython()  # type: ignore[no-untyped-call,unused-ignore]
        shell.kernel.comm_manager.register_target(TARGET, self._opened)
        self._task = asyncio.get_running_loop().create_task(self._watch(every_seconds))

    async def _watch(self, every_seconds: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), every_seconds)
            self._woken.clear()
            try:
                choices, self._choices = self._choices, None
                if choices is not None and self.source.choose(choices):  # type: ignore[attr-defined]
                    self.broadcast.working()
                # Threads, since the lake may be locked or large: the kernel's loop must keep answering the page.
                elif (
                    not self._is_preview
                    and await asyncio.to_thread(self.source.signature) == self._seen
                    and not self.broadcast.trouble
                ):
                    continue
                self._take(*await asyncio.to_thread(self._look))
            except Exception as error:
                log.exception("The page could not look at the lake.")
                self.broadcast.update(self.broadcast.parts, f"The data could not be read ({type(error).__name__}).")

    def _look(self) -> tuple[Hashable, list[Part]]:
        self._is_preview = False
        seen, parts = self.source.signature(), self.source.parts()
        # What changed in between is looked at again, also when it is by then as it was before.
        return (seen if self.source.signature() == seen else None), parts

    def _take(self, seen: Hashable, parts: list[Part]) -> None:
        self._seen = seen
        self.broadcast.update(parts)

    def _opened(self, comm: Any, message: dict[str, Any]) -> None:
        """The page's script has connected."""
        greeting = message["content"]["data"]
        viewer = str(greeting.get("viewer"))
        comm.on_msg(lambda said: self._said(comm, said["content"]["data"]))
        before = self._comms.pop(viewer, None)
        if before is not None:
            before.close()  # its connection was lost and nobody could say goodbye
        self._comms[viewer] = comm
        self.broadcast.join(viewer, comm.send, greeting.get("versions", {}))
        if greeting.get("choices"):
            self._choose(greeting["choices"])

    def _said(self, comm: Any, data: dict[str, Any]) -> None:
        """The viewer chose something, or asks whether we are still here."""
        if "choices" in data:
            self._choose(data["choices"])
        comm.send({"alive": True})

    def _choose(self, choices: Any) -> None:
        """Keep the newest choices until the page is looked at next; a page without controls has none."""
        if hasattr(self.source, "choose") and isinstance(choices, Mapping) and choices:
            self._choices = {str(name): str(value) for name, value in choices.items()}
            self._woken.set()


def choices_of(query: str) -> dict[str, str]:
    """The choices in a page's address, such as ``site=North&period=2024``; of a name that comes twice the last."""
    return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100)) if query.count("&") < 100 else {}
