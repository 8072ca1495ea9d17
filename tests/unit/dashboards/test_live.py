"""A page in its kernel: what it shows when somebody opens it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest

from medisync.access.principal import Audience
from medisync.dashboards.live import LivePage
from medisync.dashboards.parts import Part


class Wavering:
    """A source that is another while it is read for the first time, and then as it was before."""

    def __init__(self) -> None:
        self.states = [1, 2, 1]
        self.read = 0

    def show_to(self, audience: Audience) -> None:
        raise AssertionError(audience)

    def signature(self) -> Hashable:
        return self.states[0]

    def parts(self) -> list[Part]:
        self.read += 1
        if self.read == 1:
            del self.states[0]
        return [Part("a", "head", f"state {self.states[0]}")]

    def frame(self, parts: Sequence[Part]) -> str:
        return "".join(part.html for part in parts)


def test_what_came_and_went_while_the_page_was_prepared_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook was written and removed again: the page holds its tile, and the folder looks as before."""
    for name in ("VOILA_PREHEAT", "VOILA_KERNEL_ID", "VOILA_REQUEST_URL"):
        monkeypatch.delenv(name, raising=False)
    displayed: list[object] = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    source = Wavering()
    page = LivePage(source)
    page.prepare()
    del source.states[0]
    page.show()
    assert str(displayed[0].data).endswith("state 1")  # type: ignore[attr-defined]
