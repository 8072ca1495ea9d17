"""Parts and their broadcast: nothing is lost, nothing is sent twice."""

from __future__ import annotations

from typing import Any

from medisync.dashboards.live import Broadcast
from medisync.dashboards.parts import Part, announcement, slots

TILE = Part("tile", "tiles", "<p>old</p>", says="Tile: Current.")
HEAD = Part("head", "head", "<p>head</p>")
NEWER = Part("tile", "tiles", "<p>new</p>", says="Tile: Updating.")


def test_a_version_tells_the_content() -> None:
    assert TILE.version == Part("other", "elsewhere", "<p>old</p>").version
    assert TILE.version != NEWER.version
    assert f'data-version="{TILE.version}"' in TILE.element
    assert "<p>old</p>" in TILE.element


def test_names_are_escaped_in_the_frame() -> None:
    assert '"><script>' not in Part('"><script>', "tiles", "").element


def test_slots_keep_the_order() -> None:
    assert slots([TILE, HEAD, Part("b", "tiles", "")]) == {"tiles": [TILE, Part("b", "tiles", "")], "head": [HEAD]}


def test_many_changes_are_only_counted() -> None:
    assert announcement([HEAD]) == ""
    assert announcement([HEAD, TILE]) == "Tile: Current."
    assert announcement([TILE] * 4) == "4 parts of this page changed."


def test_a_viewer_gets_what_it_misses_and_what_follows() -> None:
    broadcast, sent = Broadcast(), list[dict[str, Any]]()
    broadcast.update([HEAD, TILE])
    broadcast.join("viewer", sent.append, {"head": HEAD.version, "tile": "older"})
    assert list(sent[-1]["parts"]) == ["tile"]
    assert sent[-1]["slots"] == {"head": ["head"], "tiles": ["tile"]}

    assert broadcast.update([HEAD, NEWER]) == [NEWER]
    assert list(sent[-1]["parts"]) == ["tile"]
    assert sent[-1]["says"] == "Tile: Updating."
    assert len(sent) == 2


def test_nothing_is_sent_when_nothing_changed() -> None:
    broadcast, sent = Broadcast(), list[dict[str, Any]]()
    broadcast.update([HEAD, TILE])
    broadcast.join("viewer", sent.append, {"head": HEAD.version, "tile": TILE.version})
    assert sent.pop()["parts"] == {}
    assert broadcast.update([HEAD, TILE]) == []
    assert sent == []


def test_a_part_that_goes_and_one_that_moves_are_told() -> None:
    broadcast, sent = Broadcast(), list[dict[str, Any]]()
    other = Part("other", "tiles", "")
    broadcast.update([TILE, other])
    broadcast.join("viewer", sent.append, {})
    broadcast.update([other, TILE])
    assert sent[-1]["slots"] == {"tiles": ["other", "tile"]}
    broadcast.update([other])
    assert sent[-1]["slots"] == {"tiles": ["other"]}
    assert sent[-1]["parts"] == {}


def test_trouble_is_told_once_and_its_end_too() -> None:
    broadcast, sent = Broadcast(), list[dict[str, Any]]()
    broadcast.update([TILE])
    broadcast.join("viewer", sent.append, {})
    sent.clear()
    for trouble in ("The disk is full.", "The disk is full.", None):
        broadcast.update([TILE], trouble)
    assert [message["trouble"] for message in sent] == ["The disk is full.", None]


def test_who_comes_back_is_one_viewer() -> None:
    broadcast, before, now = Broadcast(), list[dict[str, Any]](), list[dict[str, Any]]()
    broadcast.join("viewer", before.append, {})
    broadcast.join("viewer", now.append, {})
    before.clear()
    broadcast.update([TILE])
    assert before == []
    assert len(now) == 2
