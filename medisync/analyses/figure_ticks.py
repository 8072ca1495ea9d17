"""Ticks of a finished drawing as few artists: a path for the grid, a row of marks, and labels measured once.

Matplotlib keeps three lines and two texts for every tick, and places and measures all of them anew for each question of
the layout: half of the time a drawing took. What is painted here looks the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import XAxis
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.ticker import AutoLocator, FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter, Locator

POINTS_PER_INCH = 72

BELOW = 0.5
"""Where an axis is drawn that lies below the data (``axes.axisbelow``)."""

OFFSET_GAP = 3.0
"""Points between the labels of an axis and the text that stands for all of them, as matplotlib has it."""


MOST_INTERVALS = 9
"""Between ticks, of matplotlib's locators; more room than for so many changes nothing."""


class Ticks(NamedTuple):
    """What an axis says: the places in its view, their labels, and the text that stands for all of them."""

    places: NDArray[np.float64]
    labels: list[str]
    offset: str
    locator: Locator
    formatter: Formatter
    room: int
    """For so many intervals; 0 where that does not matter."""


class Painted(NamedTuple):
    """What was painted for an axis."""

    axis: Axis
    ticks: Ticks
    artists: list[Artist]
    reach: float
    """Inches of the labels out of the axes."""


class Labels(Artist):
    """The labels of one axis. How large each is and how far from its place does not depend on the layout."""

    def __init__(self, texts: list[Text], renderer: RendererBase) -> None:
        super().__init__()
        self.texts, transform = texts, texts[0].get_transform()
        self.set_figure(texts[0].figure)
        self.set_transform(transform)
        self.set_clip_on(False)
        self.places = np.array([text.get_position() for text in texts])
        boxes = np.array([text.get_window_extent(renderer).get_points() for text in texts])
        self.corners = (boxes - transform.transform(self.places)[:, None]) / self.figure.dpi
        """From each place to the lower left and the upper right of its label, in inches."""

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:  # noqa: ARG002 - any gives the same
        """The box around all labels, in pixels."""
        found = self.get_transform().transform(self.places)[:, None] + self.corners * self.figure.dpi
        return Bbox([found[:, 0].min(axis=0), found[:, 1].max(axis=0)])

    def draw(self, renderer: RendererBase) -> None:
        """Draw the labels one by one."""
        for text in self.texts:
            text.draw(renderer)


def name_ticks(axis: Axis, places: Sequence[float] | NDArray[Any], names: Sequence[str], *, turned: int = 0) -> None:
    """Put ``names`` at ``places``; ``turned`` by so many degrees they end at their tick."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FixedFormatter(list(names)))
    if turned:
        axis.get_major_ticks(1)[0].label1.set(rotation=turned, ha="right")  # of which the others are copies


def paint_ticks(drawing: Figure, renderer: RendererBase) -> list[Painted]:
    """Replace the ticks of every axis that is a plain one: linear, with ticks on one side, major ones only."""
    plain = [axis for axes in drawing.axes if axes.get_visible() for axis in _plain_axes(axes)]
    return _paint_all(plain, renderer)


def paint_again(painted: list[Painted], renderer: RendererBase) -> bool:
    """Choose the ticks anew of axes that have room for more or fewer than they had; False where there are none."""
    changed = [one for one in painted if _room(one.axis, one.ticks.locator) != one.ticks.room]
    for axis, ticks, artists, reach in changed:
        for artist in artists:
            artist.remove()
        axis.labelpad -= POINTS_PER_INCH * reach
        axis.set_major_locator(ticks.locator)
        axis.set_major_formatter(ticks.formatter)
    _paint_all([one.axis for one in changed], renderer)
    return bool(changed)


def _paint_all(axes: list[Axis], renderer: RendererBase) -> list[Painted]:
    """Ask all before any is replaced, since panels share their locators."""
    said = [_said(axis) for axis in axes]
    return [_paint(axis, ticks, renderer) for axis, ticks in zip(axes, said, strict=True)]


def _room(axis: Axis, locator: Locator) -> int:
    return min(int(axis.get_tick_space()), MOST_INTERVALS) if isinstance(locator, AutoLocator) else 0


def _plain_axes(axes: Axes) -> list[Axis]:
    if axes.name != "rectilinear" or axes.get_axisbelow() is not True or not axes.axison:
        return []
    found: list[Axis] = []
    for axis in (axes.xaxis, axes.yaxis):
        first = axis.get_major_ticks(1)[0]
        is_one_sided = not (first.tick2line.get_visible() or first.label2.get_visible())
        if axis.get_visible() and is_one_sided and isinstance(axis.get_minor_locator(), NullLocator):
            found.append(axis)
    return found


def _said(axis: Axis) -> Ticks:
    formatter = axis.get_major_formatter()
    places = np.asarray(axis.get_majorticklocs(), dtype=float)
    labels = formatter.format_ticks(places.tolist())
    low, high = sorted(axis.get_view_interval())
    nearly = 1e-10 * (high - low)
    seen = (places >= low - nearly) & (places <= high + nearly)
    locator = axis.get_major_locator()
    shown = [labels[number] for number in np.flatnonzero(seen)]
    return Ticks(places[seen], shown, formatter.get_offset(), locator, formatter, _room(axis, locator))


def _paint(axis: Axis, ticks: Ticks, renderer: RendererBase) -> Painted:
    labels, reach = _labels(axis, ticks, renderer)
    silent = FixedFormatter([])
    artists = [*_lines(axis, ticks.places), *labels]
    if isinstance(axis, XAxis):
        artists += _offset(axis, ticks.offset, reach)
    else:  # stands above the axis, wherever the labels are
        silent.set_offset_string(ticks.offset)
    for artist in artists:
        artist.set_zorder(BELOW)
        axis.axes.add_artist(artist)
    axis.labelpad += POINTS_PER_INCH * reach
    axis.set_major_locator(NullLocator())
    axis.set_major_formatter(silent)
    for spine in axis.axes.spines.values():
        spine.set_in_layout(False)  # they lie on the edges
    return Painted(axis, ticks, artists, reach)


def _labels(axis: Axis, ticks: Ticks, renderer: RendererBase) -> tuple[list[Artist], float]:
    """The labels that are to be seen, and how many inches they reach out of the axes."""
    axes, is_flat, patterns = axis.axes, isinstance(axis, XAxis), axis.majorTicks
    texts = []
    for number, (place, label) in enumerate(zip(ticks.places.tolist(), ticks.labels, strict=True)):
        pattern = patterns[min(number, len(patterns) - 1)].label1
        if label and pattern.get_visible():
            text = Text(place if is_flat else 0.0, 0.0 if is_flat else place, label)
            text.update_from(pattern)
            text.set_figure(axes.figure)
            text.axes = axes
            texts.append(text)
    if not texts:
        return [], 0.0
    labels = Labels(texts, renderer)
    edge, box = axes.bbox, labels.get_window_extent()
    return [labels], max(edge.y0 - box.y0 if is_flat else edge.x0 - box.x0, 0.0) / axes.figure.dpi


def _lines(axis: Axis, places: NDArray[np.float64]) -> list[Artist]:
    """The grid as one path, the marks as one row of markers.

    The grid is no line, since legends that look for room keep away from lines.
    """
    is_flat, first = isinstance(axis, XAxis), axis.majorTicks[0]
    grid, marks = first.gridline, first.tick1line
    lines: list[Artist] = []
    if grid.get_visible() and len(places):
        ends = np.column_stack([np.repeat(places, 2), np.tile([0.0, 1.0], len(places))])
        path = Path(ends if is_flat else ends[:, ::-1], np.tile([Path.MOVETO, Path.LINETO], len(places)))
        drawn = PathCollection(
            [path], transform=grid.get_transform(), facecolors="none", edgecolors=grid.get_color(),
            alpha=grid.get_alpha(), linewidths=grid.get_linewidth(), linestyles=grid.get_linestyle(),
        )  # fmt: skip
        drawn.set_clip_path(axis.axes.patch)
        lines.append(drawn)
    if marks.get_visible() and marks.get_markersize():
        at_edge = np.zeros(len(places))
        row = Line2D(*((places, at_edge) if is_flat else (at_edge, places)))
        row.update_from(marks)
        row.set_clip_on(False)
        lines.append(row)
    for line in lines:
        line.set_in_layout(False)
    return lines


def _offset(axis: Axis, offset: str, reach: float) -> list[Artist]:
    """What stands for all labels of a flat axis, below them at its end; ``reach`` of the labels is in inches."""
    if not offset or not axis.offsetText.get_visible():
        return []
    axes = axis.axes
    text = Text(1.0, 0.0, offset)
    text.update_from(axis.offsetText)
    below = ScaledTranslation(0, -reach - OFFSET_GAP / POINTS_PER_INCH, axes.figure.dpi_scale_trans)
    text.set(transform=axes.transAxes + below, clip_on=False)
    return [text]
