"""A funnel plot, for any analysis that compares units of different size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medisync.analyses.contract import Figure
from medisync.analyses.figures import ACCENT, CALM, WARN, as_figure, canvas
from medisync.analyses.phrases import shortened

if TYPE_CHECKING:
    import pandas as pd

    from medisync.stats.funnel import Funnel

FEW_UNITS = 5
"""So many are all named; of more, whose names would cover each other, those that stand out."""


def funnel_figures(*units: tuple[str, str, pd.DataFrame, Funnel | None]) -> list[Figure]:
    """A funnel for each of (what a unit is, name of the table in the result, the table, its funnel) that has one."""
    return [funnel_figure(table, found, what=what, table_name=name) for what, name, table, found in units if found]


def funnel_figure(table: pd.DataFrame, funnel: Funnel, *, what: str, table_name: str) -> Figure:
    """``table`` as :func:`medisync.stats.readmissions.compare_units` gives it; ``what`` names the units ("site")."""
    import numpy as np

    shown = table[table["z"].notna()]
    sizes = np.linspace(
        max(float(shown["index_stays"].min()) * 0.8, 1.0), float(shown["index_stays"].max()) * 1.05, 120
    )
    drawing, axes = canvas()
    for level, style in ((0.95, "--"), (0.998, "-")):
        for edge in funnel.limits(sizes, level):
            axes.plot(sizes, 100 * edge, color=CALM, linestyle=style, linewidth=1.0)
        axes.plot([], [], color=CALM, linestyle=style, linewidth=1.0, label=f"{100 * level:g} % limits")
    axes.axhline(100 * funnel.share, color=CALM, linewidth=1.0)
    out = shown["verdict"] == "stands out"
    axes.scatter(shown["index_stays"][~out], shown["rate_percent"][~out], color=ACCENT, s=28, label=f"a {what}")
    if out.any():
        axes.scatter(
            shown["index_stays"][out], shown["rate_percent"][out], color=WARN, marker="D", s=36, label="stands out"
        )
    for row in shown[out | (len(shown) <= FEW_UNITS)].itertuples():
        is_right = row.index_stays > sizes.mean()
        axes.annotate(
            shortened(str(row.unit)),
            (row.index_stays, row.rate_percent),
            xytext=(-6 if is_right else 6, 4),
            textcoords="offset points",
            ha="right" if is_right else "left",
            fontsize=8,
        )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("index stays")
    axes.set_ylabel("readmitted, %")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    names = ", ".join(str(unit) for unit in shown["unit"][out]) or "none"
    alt = (
        f"Funnel plot of {len(shown)} units ({what}): rate of readmission by number of index stays, around "
        f"{100 * funnel.share:.1f} %. Standing out: {names}."
    )
    title = f"Readmissions by {what}"
    return as_figure(drawing, name=table_name, title=title, alt=alt, table=table_name)
