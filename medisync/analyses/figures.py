"""The one figure style: used by notebooks, pages, HTML and PDF reports alike.

Figures are drawn once, as SVG whose text and axes take the colour of the surrounding page (``currentColor``), so that
the same drawing works on light and dark pages and in print. No state of pyplot is touched.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from medisync.analyses.contract import Figure
from medisync.analyses.figure_layout import place
from medisync.analyses.figure_ticks import POINTS_PER_INCH, paint_again, paint_ticks

if TYPE_CHECKING:
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure as MplFigure

INK = "#1b2a38"
"""Text and axes while drawing; becomes ``currentColor`` in the SVG."""

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
"""Okabe and Ito (2008), distinguishable with every common colour vision; black and yellow left out."""

ACCENT, WARN, CALM = PALETTE[0], PALETTE[5], PALETTE[6]

STYLE: dict[str, Any] = {
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "figure.subplot.bottom": 0.17,  # about where they will be, since the number of ticks depends on the room
    "figure.subplot.hspace": 0.2,
    "figure.subplot.left": 0.1,
    "figure.subplot.right": 0.98,
    "figure.subplot.top": 0.97,
    "figure.subplot.wspace": 0.1,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "medisync",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


_ready: dict[str, list[tuple[MplFigure, Any]]] = {}
"""Empty drawings made before they are asked for, by the shape of their axes; each is given out once."""


def canvas(width: float = 7.2, height: float = 3.6, **subplots: Any) -> tuple[MplFigure, Any]:
    """A figure of ``width`` by ``height`` inches and its axes (an array with ``nrows`` or ``ncols``)."""
    if ready := _ready.get(_shape(subplots)):
        drawing, axes = ready.pop()
        drawing.set_size_inches(width, height)
        return drawing, axes
    return _empty(width, height, subplots)


def make_ready(**subplots: Any) -> None:
    """Have a drawing of this shape at hand for :func:`canvas`, whose axes are a seventh of the work."""
    _ready.setdefault(_shape(subplots), []).append(_empty(7.2, 3.6, subplots))


def _shape(subplots: dict[str, Any]) -> str:
    return repr(sorted(subplots.items()))


def _empty(width: float, height: float, subplots: dict[str, Any]) -> tuple[MplFigure, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as MplFigure

    with rc_context(STYLE):
        drawing = MplFigure(figsize=(width, height), layout="constrained")
        return drawing, drawing.subplots(**subplots)


def as_figure(drawing: MplFigure, *, name: str, title: str, alt: str, table: str | None = None) -> Figure:
    """Freeze a drawing into the SVG that notebook, page and report show. The same input gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_mixed import MixedModeRenderer
    from matplotlib.backends.backend_svg import RendererSVG

    buffer = io.StringIO()
    with rc_context(STYLE):
        drawing.set_dpi(POINTS_PER_INCH)
        width, height = drawing.get_size_inches()
        renderer = MixedModeRenderer(
            drawing, width, height, POINTS_PER_INCH,
            RendererSVG(width * POINTS_PER_INCH, height * POINTS_PER_INCH, buffer, image_dpi=POINTS_PER_INCH),
        )  # fmt: skip
        _lay_out(drawing, renderer)
        drawing.draw(renderer)
        renderer.finalize()
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{_attribute(alt)}"', 1)
    svg = _own_ids(svg, name)
    return Figure(name=name, title=title, alt=alt, svg=svg, table=table)


def _lay_out(drawing: MplFigure, renderer: RendererBase) -> None:
    """Place the axes once, by what the renderer that will draw them says they take."""
    painted = paint_ticks(drawing, renderer)
    engine = drawing.get_layout_engine()
    if engine is None:
        return
    drawing.set_layout_engine(None)
    if not place(drawing, renderer):
        engine.execute(drawing)
    elif paint_again(painted, renderer):
        place(drawing, renderer)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def _own_ids(svg: str, name: str) -> str:
    """Prefix every id, since several drawings share one page and ids of one would style another."""
    prefix = re.sub(r"\W", "-", name)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}-", svg)
