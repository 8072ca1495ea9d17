"""Pages drawn once for all who look at them: what the page reader keeps, and how a page's kernel follows it.

The page reader (:mod:`medisync.dashboards.page_reader`) keeps the parts of each page as everybody sees it who chose
nothing, one file for each audience. A kernel takes them from there and opens no lake. Where the reader is away, or
something was chosen, the kernel reads by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync.dashboards.parts import Part, Source
from medisync.settings import Settings

ALIVE_SECONDS = 5.0
"""A reader that has not given a sign of life for so long is taken for dead or stuck."""

WANTED_SECONDS = 3.0
"""A page nobody has asked for in so long has no viewers."""

ASK_SECONDS = 1.0
"""How often a kernel says that somebody looks at its page."""

FRESH_SECONDS = 1.0
"""How long a page that is being opened waits for the reader to look at the lake."""


@dataclass(frozen=True)
class KeptPages:
    """The folder of kept pages. One process writes it, any number read it; a file is replaced as a whole."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> KeptPages:
        """Those of a workspace."""
        return cls(settings.run_state / "pages")

    def clear(self) -> None:
        """Forget what an earlier reader left; the folder is the owner's alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def say_alive(self) -> None:
        """The reader is there and not stuck."""
        _touch(self.folder / "alive")

    def is_alive(self) -> bool:
        """Whether the reader said so lately."""
        return _age(self.folder / "alive") < ALIVE_SECONDS

    def want(self, name: str) -> None:
        """Somebody looks at the page ``name``."""
        _touch(self.folder / f"{name}.wanted")

    def is_wanted(self, name: str) -> bool:
        """Whether somebody said so lately."""
        return _age(self.folder / f"{name}.wanted") < WANTED_SECONDS

    def write(self, name: str, parts: Sequence[Part]) -> None:
        """Replace what is kept of the page ``name``."""
        draft = self.folder / f".{name}"
        with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump([asdict(part) for part in parts], file)
        draft.replace(self.folder / f"{name}.json")

    def read(self, name: str) -> list[Part]:
        """What is kept; raises OSError when nothing is."""
        return [Part(**part) for part in json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))]

    def drop(self, name: str) -> None:
        """Keep nothing of the page ``name``: its viewers read by themselves."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def mark(self, name: str) -> Hashable | None:
        """Another value when something else is kept; None when nothing is, or nobody looks after it."""
        try:
            status = (self.folder / f"{name}.json").stat()
        except FileNotFoundError:
            return None
        return ("kept", status.st_mtime_ns, status.st_ino) if self.is_alive() else None

    def looked_at(self, name: str, moment: float) -> None:
        """What is kept of ``name`` was true at ``moment``, seconds since 1970, or later."""
        path = self.folder / f"{name}.true"
        _touch(path)
        os.utime(path, (moment, moment))

    def is_true_since(self, name: str, moment: float) -> bool:
        """Whether the reader has looked since ``moment``."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / f"{name}.true").stat().st_mtime >= moment
        return False


class FollowedSource:
    """``source``, taken from the reader's kept pages while they hold what it would show."""

    def __init__(self, source: Source, kept: KeptPages) -> None:
        self._source = source
        self._kept = kept
        self._asked_at = float("-inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)  # ``choose``, where the page has controls

    def signature(self) -> Hashable:
        mark = self._mark()
        return self._source.signature() if mark is None else mark

    def parts(self) -> list[Part]:
        return self._parts() or self._source.parts()

    def preview(self) -> list[Part]:
        return self._parts() or self._source.preview()  # type: ignore[attr-defined]

    def _mark(self) -> Hashable | None:
        name = kept_as(self._source)
        if name is None:
            return None
        now = time.time()
        is_opened = not self._asked_at <= now < self._asked_at + WANTED_SECONDS
        if is_opened or now - self._asked_at >= ASK_SECONDS:
            with contextlib.suppress(OSError):  # there is no folder: nobody keeps pages here
                self._kept.want(name)
                self._asked_at = now
        mark = self._kept.mark(name)
        if mark is None or not is_opened:
            return mark
        # Nobody looked at this page until now, and so the reader may not have either.
        while time.time() < now + FRESH_SECONDS and not self._kept.is_true_since(name, now):
            time.sleep(0.01)
        return self._kept.mark(name)

    def _parts(self) -> list[Part] | None:
        name = kept_as(self._source)
        if name is not None and self._mark() is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                return self._kept.read(name)
        return None

    def show_to(self, audience: Any) -> None:
        self._source.show_to(audience)
        self._asked_at = float("-inf")

    def frame(self, parts: Sequence[Part]) -> str:
        return self._source.frame(parts)


def followed(source: Source) -> Source:
    """``source`` as a kernel shows it: what is kept of it, where it is one of our pages and no page made from one."""
    is_ours = type(source).__module__.startswith(f"{__package__}.") and hasattr(source, "kept_as")
    return FollowedSource(source, KeptPages.of(source.settings)) if is_ours else source  # type: ignore[attr-defined]


def kept_as(source: Source) -> str | None:
    """The name under which what ``source`` shows now may be kept; None when it is for one viewer alone."""
    name: str | None = source.kept_as()  # type: ignore[attr-defined]
    return name


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    os.utime(path)


def _age(path: Path) -> float:
    try:
        return abs(time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")
