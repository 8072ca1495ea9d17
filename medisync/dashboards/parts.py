"""A live page is made of parts: pieces of HTML that are replaced one by one, when their content changes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from medisync.access.principal import Audience
from medisync.reports import page

TEMPLATES = Path(__file__).parent / "templates"

ANNOUNCED_AT_ONCE = 3
"""So many changes are read out one by one; of more, only the number is told."""


@dataclass(frozen=True)
class Part:
    """One piece of a page. ``html`` is trusted: whoever makes it escapes what comes from outside."""

    name: str  # unique on the page
    slot: str  # the place it stands in; a slot holds its parts in order
    html: str
    says: str = ""  # what is announced when it changes; nothing for ""
    basis: str | None = None  # what a change is told by instead of ``html``: controls keep what the viewer is typing

    @functools.cached_property
    def version(self) -> str:
        """A short hash of the content, by which an open page tells whether it shows this one."""
        return hashlib.sha256((self.html if self.basis is None else self.basis).encode()).hexdigest()[:16]

    @property
    def element(self) -> Markup:
        """The part with its frame, as the page holds it."""
        return Markup('<div class="part" data-part="{}" data-version="{}">{}</div>').format(
            self.name,
            self.version,
            Markup(self.html),  # noqa: S704 - see above
        )


class Source(Protocol):
    """What a live page shows. Its methods may be called from any thread, one at a time.

    A page with controls also has ``choose(choices: Mapping[str, str]) -> bool``: what the viewer chose in the page's
    form, or the page's address says; True when ``parts`` may have changed. Unknown names and values are for the page to
    answer. And it has ``preview() -> list[Part]``: the parts without what would have to be computed first.
    """

    def show_to(self, audience: Audience) -> None:
        """From now on show what ``audience`` may see; everything until then."""

    def signature(self) -> Hashable:
        """Cheap to ask many times a second; another value when ``parts`` may have changed."""

    def parts(self) -> list[Part]:
        """The page as it should look now. Faults are shown on the page, not raised."""

    def frame(self, parts: Sequence[Part]) -> str:
        """The page's HTML with ``parts`` in their slots."""


@functools.cache
def stylesheet() -> str:
    """The rules of every page: those shared with the reports, and the pages' own."""
    return page.stylesheet() + (TEMPLATES / "pages.css").read_text(encoding="utf-8")


def slots(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """The parts of each slot, in order."""
    filled: dict[str, list[Part]] = {}
    for part in parts:
        filled.setdefault(part.slot, []).append(part)
    return filled


def announcement(changed: Sequence[Part]) -> str:
    """What changed, in words."""
    said = [part.says for part in changed if part.says]
    if len(said) <= ANNOUNCED_AT_ONCE:
        return " ".join(said)
    return f"{len(said)} parts of this page changed."
