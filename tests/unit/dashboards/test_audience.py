"""What was prepared for those who may see everything never reaches the others."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest

from medisync.access.page_audience import AUDIENCE_VARIABLE
from medisync.access.principal import Audience
from medisync.dashboards.live import LivePage
from medisync.dashboards.parts import Part


class Source:
    """Shows for whom it is made."""

    audience: Audience = "full"

    def show_to(self, audience: Audience) -> None:
        self.audience = audience

    def signature(self) -> Hashable:
        return 1  # nothing was committed meanwhile

    def parts(self) -> list[Part]:
        return [Part("a", "head", self.audience)]

    def frame(self, parts: Sequence[Part]) -> str:
        return "".join(part.html for part in parts)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({}, "full"),
        ({"VOILA_REQUEST_URL": "u"}, "released"),
        ({"VOILA_REQUEST_URL": "u", AUDIENCE_VARIABLE: "full"}, "full"),
    ],
)
def test_a_page_is_made_for_its_viewer(monkeypatch: pytest.MonkeyPatch, told: dict[str, str], shown: str) -> None:
    """Outside of Voila it is an analyst's; in Voila the server says whose, and the narrow audience is the default."""
    for name in ("VOILA_PREHEAT", "VOILA_KERNEL_ID", "VOILA_REQUEST_URL", AUDIENCE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    displayed: list[object] = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    page = LivePage(Source())
    page.prepare()
    page.wait_for_viewer()
    page.show()
    assert [part.html for part in page.broadcast.parts] == [shown]
    assert str(displayed[0].data).endswith(shown)  # type: ignore[attr-defined]
