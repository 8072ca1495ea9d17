"""The one figure style: used by notebooks, pages, HTML and PDF reports alike.

Figures are drawn once, as SVG whose text and axes take the colour of the surrounding page (``currentColor``), so that
the same drawing works on light and dark pages and in print. No state of pyplot is touched.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from medisync.analyses.contract import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as MplFigure

INK = "#1b2a38"
"""Text and axes while drawing; becomes ``currentColor`` in the SVG."""

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
"""Okabe and Ito (2008), distinguishable with every common colour vision; black and yellow left out."""

ACCENT, WARN, CALM = PALETTE[0], PALETTE[5], PALETTE[6]

STYLE: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "medisync",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def canvas(width: float = 7.2, height: float = 3.6, **subplots: Any) -> tuple[MplFigure, Any]:
    """A figure of ``width`` by ``height`` inches and its axes (an array with ``nrows`` or ``ncols``)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as MplFigure

    with rc_context(STYLE):
        drawing = MplFigure(figsize=(width, height), layout="constrained")
        axes: Axes = drawing.subplots(**subplots)
    return drawing, axes


def as_figure(drawing: MplFigure, *, name: str, title: str, alt: str, table: str | None = None) -> Figure:
    """Freeze a drawing into the SVG that notebook, page and report show. The same input gives the same bytes."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(STYLE):
        _lay_out(drawing)
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{_attribute(alt)}"', 1)
    svg = _own_ids(svg, name)
    return Figure(name=name, title=title, alt=alt, svg=svg, table=table)


def _lay_out(drawing: MplFigure) -> None:
    """Place the axes once, with the ticks of days found once.

    Saving would draw everything a first time for the layout alone and lay it out twice, and each time look up the
    calendar for every axis a dozen times.
    """
    for axes in drawing.axes:
        _keep_days(axes.xaxis)
        for axis in (axes.xaxis, axes.yaxis):
            _remember_ticks(axis)
    engine = drawing.get_layout_engine()
    if engine is not None:
        engine.execute(drawing)
        drawing.set_layout_engine(None)


def _keep_days(axis: Axis) -> None:
    """Hold on to the ticks and labels of an axis of days; where they stand does not depend on the layout."""
    from matplotlib.dates import DateLocator
    from matplotlib.ticker import FixedFormatter, FixedLocator

    if not isinstance(axis.get_major_locator(), DateLocator):
        return
    places, formatter = axis.get_majorticklocs().tolist(), axis.get_major_formatter()
    kept = FixedFormatter(formatter.format_ticks(places))
    kept.set_offset_string(formatter.get_offset())
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(kept)


def _remember_ticks(axis: Axis) -> None:
    """Have the ticks of an axis placed and measured once for each place the layout tries.

    Matplotlib does it a dozen times, for every question about the axis' extent, and half of the time a drawing takes
    went into it. What the ticks depend on while a finished drawing is laid out and saved is in the key.
    """
    place, measure = axis._update_ticks, axis._get_ticklabel_bboxes  # type: ignore[attr-defined]
    placed: dict[str, Any] = {}
    measured: dict[str, Any] = {}

    def where() -> tuple[Any, ...]:
        return (*axis.axes.bbox.bounds, *axis.get_view_interval(), axis.figure.dpi)

    def placed_once() -> Any:
        key = where()
        if placed.get("key") != key:
            placed.update(key=key, ticks=place())
        return list(placed["ticks"])

    def measured_once(ticks: list[Any], renderer: Any) -> Any:
        key = (*where(), *map(id, ticks))
        if measured.get("key") != key or measured["renderer"] is not renderer:
            measured.update(key=key, renderer=renderer, boxes=measure(ticks, renderer))
        return tuple([box.frozen() for box in boxes] for boxes in measured["boxes"])

    vars(axis).update(_update_ticks=placed_once, _get_ticklabel_bboxes=measured_once)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def _own_ids(svg: str, name: str) -> str:
    """Prefix every id, since several drawings share one page and ids of one would style another."""
    prefix = re.sub(r"\W", "-", name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{prefix}-\2"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
