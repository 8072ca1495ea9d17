"""Drawings are laid out once, and say what they would say laid out by saving them."""

from __future__ import annotations

import datetime as dt
import re

import pytest

from medisync.analyses import figures
from medisync.analyses.contract import Figure

TEXT = re.compile(r">([^<>]+)</text>")
NUMBER = re.compile(r"-?\d+\.\d+")


def drawn() -> Figure:
    """Two panels over the same days, with a legend."""
    drawing, axes = figures.canvas(nrows=2, sharex=True)
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=day) for day in range(200)]
    for number, one in enumerate(axes):
        one.plot(days, [(number + 1) * day for day in range(200)], label="admissions")
        one.set_ylabel("Admissions")
    axes[0].legend()
    return figures.as_figure(drawing, name="days", title="Days", alt="Two lines.")


def test_ticks_labels_and_places_are_those_of_the_stock_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = drawn()
    monkeypatch.setattr(figures, "_lay_out", lambda _drawing: None)
    stock = drawn()
    assert TEXT.findall(ours.svg) == TEXT.findall(stock.svg)
    assert any("2024" in text for text in TEXT.findall(ours.svg))
    pairs = zip(NUMBER.findall(ours.svg), NUMBER.findall(stock.svg), strict=True)
    assert max(abs(float(one) - float(other)) for one, other in pairs) < 3.0  # points of some 500


def test_the_same_drawing_gives_the_same_bytes() -> None:
    assert drawn().svg == drawn().svg
