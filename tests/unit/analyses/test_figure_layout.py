"""Drawings are laid out once, and say what they would say laid out by saving them, in the same places."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.dates import ConciseDateFormatter

from medisync.analyses import figures
from medisync.analyses.contract import Figure
from medisync.analyses.figure_ticks import name_ticks

TEXT = re.compile(r"<text ([^>]*)>([^<>]+)</text>")
NUMBER = re.compile(r"-?\d+\.\d+")
WIDTH = 7.2 * 72


def texts(figure: Figure) -> list[str]:
    return [text for _, text in TEXT.findall(figure.svg)]


def drawn() -> Figure:
    """Two panels over the same days, with a legend, a title and a legend outside."""
    drawing, axes = figures.canvas(nrows=2, sharex=True)
    days = [dt.date(2024, 2, 5) + dt.timedelta(days=day) for day in range(200)]
    for number, one in enumerate(axes):
        one.plot(days, [(number + 1) * day for day in range(200)], label="admissions")
        one.set_ylabel("Admissions")
    axes[1].xaxis.set_major_formatter(ConciseDateFormatter(axes[1].xaxis.get_major_locator()))  # the year below
    axes[0].set_title("First of two")
    axes[0].legend()
    drawing.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center")
    return figures.as_figure(drawing, name="days", title="Days", alt="Two lines.")


def named(names: list[str]) -> Figure:
    drawing, axes = figures.canvas()
    axes.barh(range(len(names)), np.linspace(-0.2, 0.2, len(names)))
    axes.set_xlim(-0.2, 0.2)
    name_ticks(axes.yaxis, range(len(names)), names)
    return figures.as_figure(drawing, name="named", title="Named", alt="Bars.")


def own_kind() -> Figure:
    """What is no plain grid: a logarithmic axis, a second one to the right, a title above all."""
    drawing, axes = figures.canvas()
    axes.plot([1, 10, 1000], [1, 2, 3])
    axes.set_xscale("log")
    other = axes.twinx()
    other.plot([1, 10, 1000], [3e7, 2e7, 1e7])
    other.set_ylabel("Right")
    drawing.suptitle("Above all")
    return figures.as_figure(drawing, name="own", title="Own", alt="Two lines.")


def test_ticks_labels_and_places_are_those_of_the_stock_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = drawn()
    monkeypatch.setattr(figures, "_lay_out", lambda _drawing, _renderer: None)
    stock = drawn()
    assert texts(ours) == texts(stock)
    assert any("2024" in text for text in texts(ours))
    assert not re.search(r"clip-path=[^>]*>\s*<text", ours.svg)  # what stands outside the axes is to be seen
    for (one, text), (other, _) in zip(TEXT.findall(ours.svg), TEXT.findall(stock.svg), strict=True):
        pairs = zip(map(float, NUMBER.findall(one)), map(float, NUMBER.findall(other)), strict=True)
        assert max(abs(a - b) for a, b in pairs) < 5.0, text  # points of some 500


@pytest.mark.parametrize("names", [["a", "b", "c"], ["Chronic obstructive disease, with acute exacerbation"] * 3])
def test_long_names_take_room_and_the_ticks_beside_them_keep_apart(names: list[str]) -> None:
    figure = named(names)
    assert [text for text in texts(figure) if text in names] == names
    numbers = [(attributes, text) for attributes, text in TEXT.findall(figure.svg) if text not in names]
    places = [float(re.findall(r' x="([\d.]+)"', attributes)[0]) for attributes, _ in numbers]
    widths = [6.4 * len(text) for _, text in numbers]  # a digit is 6.4 points wide at size 10
    assert len(places) >= 2
    assert all(after - before > (one + other) / 2 for (before, one), (after, other) in itertools.pairwise(
        zip(places, widths, strict=True)
    ))  # fmt: skip
    assert max(places) < WIDTH


def test_a_drawing_of_another_kind_keeps_all_it_says() -> None:
    found = texts(own_kind())
    assert {"Above all", "Right", "1e7"} <= set(found)
    assert "3.0" in found or "3.00" in found


@pytest.mark.parametrize("draw", [drawn, own_kind])
def test_the_same_drawing_gives_the_same_bytes(draw: Callable[[], Figure]) -> None:
    assert draw().svg == draw().svg


def test_a_drawing_made_ready_is_given_out_once_and_gives_the_same_bytes() -> None:
    plain = drawn().svg
    figures.make_ready(nrows=2, sharex=True)
    assert drawn().svg == plain
    assert figures.canvas(nrows=2, sharex=True)[0] is not figures.canvas(nrows=2, sharex=True)[0]
