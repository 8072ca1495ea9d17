"""Where the axes of a drawing stand: as large as what is written around them allows, found by measuring once.

Matplotlib's constrained layout gives the same places, but measures everything twice; it lays out what is no plain grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

PAD = 0.0417
"""Inches around everything; constrained layout's."""

LEAST = 0.3
"""Inches an axes has at least in both directions; with less room the drawing is left to matplotlib."""


def place(drawing: Figure, renderer: RendererBase) -> bool:
    """Give the axes of a plain grid their places; False, with nothing done, where ``drawing`` is something else."""
    shown = [axes for axes in drawing.axes if axes.get_visible()]
    cells = _plain_grid(shown)
    beside = drawing.get_supylabel()
    if not cells or len(drawing.texts) != bool(beside) or drawing.subfigs:
        return False
    grid = cells[0].get_gridspec()
    dots, pad = drawing.dpi, PAD * drawing.dpi
    width, height = drawing.get_size_inches() * dots
    left = bottom = right = top = 0.0
    for legend in drawing.legends:
        edge = legend._outside_loc  # type: ignore[attr-defined]
        high = legend.get_window_extent(renderer).height + 2 * pad
        top, bottom = top + high * (edge == "upper"), bottom + high * (edge == "lower")
        if edge not in (None, "upper", "lower"):
            return False
    if beside:
        left = drawing.texts[0].get_window_extent(renderer).width + 2 * pad
    columns, rows = np.zeros((grid.ncols, 2)), np.zeros((grid.nrows, 2))
    for axes, cell in zip(shown, cells, strict=True):
        column, row = columns[cell.colspan.start], rows[cell.rowspan.start]
        around = _around(axes, renderer) + pad
        np.maximum(column, around[[0, 2]], out=column)
        np.maximum(row, around[[3, 1]], out=row)
    wide = (width - left - right - columns.sum()) / grid.ncols
    high = (height - top - bottom - rows.sum()) / grid.nrows
    if min(wide, high) < LEAST * dots:
        return False
    if beside:
        drawing.texts[0].set_x(pad / width)
    for axes, cell in zip(shown, cells, strict=True):
        column, row = cell.colspan.start, cell.rowspan.start
        x = left + columns[:column].sum() + columns[column, 0] + column * wide
        y = height - top - rows[:row].sum() - rows[row, 0] - (row + 1) * high
        axes.set_position((x / width, y / height, wide / width, high / height))
    return True


def _plain_grid(shown: list[Axes]) -> list[SubplotSpec]:
    """The cells of axes that have one each in one grid of equal ones; none where that is not so."""
    cells = [cell for axes in shown if (cell := axes.get_subplotspec()) is not None]
    if not cells or len(cells) < len(shown):
        return []
    grid = cells[0].get_gridspec()
    has_equal = all(np.ptp(ratios) == 0 for ratios in (grid.get_width_ratios(), grid.get_height_ratios()))
    has_one_each = all(cell.get_gridspec() is grid and len(cell.colspan) == len(cell.rowspan) == 1 for cell in cells)
    is_free = all(axes.get_aspect() == "auto" for axes in shown)
    return cells if has_equal and has_one_each and is_free else []


def _around(axes: Axes, renderer: RendererBase) -> NDArray[np.float64]:
    """Pixels that what is written around ``axes`` takes to the left, below, to the right and above."""
    inner, outer = axes.bbox, axes.get_tightbbox(renderer, for_layout_only=True) or axes.bbox
    return np.array([inner.x0 - outer.x0, inner.y0 - outer.y0, outer.x1 - inner.x1, outer.y1 - inner.y1])
