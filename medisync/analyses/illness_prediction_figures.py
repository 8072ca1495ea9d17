"""The figures of :mod:`medisync.analyses.illness_prediction`, drawn from its tables alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.analyses.contract import Figure, Result
from medisync.analyses.figure_ticks import name_ticks
from medisync.analyses.figures import ACCENT, CALM, INK, as_figure, canvas
from medisync.analyses.phrases import shortened, signed_percent
from medisync.stats.association import SMALLEST_EXPECTED

MOST_ROWS, MOST_COLUMNS = 12, 20
LARGEST_RESIDUAL, COLOUR_SCALE = 10.0, 20.0
"""Residuals beyond 10 look alike; the scale goes further, so that dark text stays readable on every cell."""


def strength(factors: pd.DataFrame) -> Figure:
    """Cramér's V of each tested factor with its interval."""
    factors = factors.iloc[::-1].reset_index(drop=True)
    drawing, axes = canvas(7.2, 1.1 + 0.36 * len(factors))
    reach = max(0.12, 1.08 * float(factors["cramers_v_high"].max()))
    for place, row in factors.iterrows():
        is_found = row["verdict"] == "associated"
        colour = ACCENT if is_found else CALM
        axes.plot([row["cramers_v_low"], row["cramers_v_high"]], [place, place], color=colour, linewidth=3, alpha=0.6)
        axes.plot(row["cramers_v"], place, "o", color=colour, markersize=7, clip_on=False, zorder=4)
        if is_found:
            axes.annotate(
                "associated", (row["cramers_v_high"], place), xytext=(6, 0), textcoords="offset points", va="center",
                fontsize=9,
            )  # fmt: skip
            reach = max(reach, 1.25 * float(row["cramers_v_high"]))
    name_ticks(axes.yaxis, range(len(factors)), list(factors["label"]))
    axes.set_xlim(0, reach)
    axes.set_ylim(-0.6, len(factors) - 0.4)
    axes.set_xlabel("Cramér's V: 0 is no association, 1 a perfect one (bar: 95 % interval)")
    axes.grid(visible=False, axis="y")
    told = [f"{row['label']} {row['cramers_v']:.2f} ({row['verdict']})" for _, row in factors.iloc[::-1].iterrows()]
    return as_figure(
        drawing,
        name="association-strength",
        title="How strongly each factor goes together with the condition",
        alt="Cramér's V with its interval: " + "; ".join(told) + ".",
        table="factors",
    )


def departures(result: Result) -> Figure:
    """Percentages above or below expectation of the closest factor; only what is beyond chance is coloured."""
    cells = result.frame("cells")
    most_telling = cells["adjusted_residual"].abs().groupby(cells["condition"]).max().nlargest(MOST_ROWS).index
    conditions = [name for name in cells["condition"].unique() if name in most_telling]
    groups = list(cells["group"].unique())[:MOST_COLUMNS]

    def grid(column: str) -> NDArray[np.float64]:
        wide = cells.pivot(index="condition", columns="group", values=column).loc[conditions, groups]
        return wide.to_numpy(np.float64)

    observed, expected, residual = grid("observed"), grid("expected"), grid("adjusted_residual")
    beyond = grid("beyond_chance") > 0
    drawing, axes = canvas(7.2, 1.0 + 0.34 * len(conditions))
    shade = np.ma.masked_where(~beyond, np.clip(residual, -LARGEST_RESIDUAL, LARGEST_RESIDUAL))
    axes.pcolormesh(shade, cmap="PuOr_r", vmin=-COLOUR_SCALE, vmax=COLOUR_SCALE, edgecolors="none")
    for (row, column), value in np.ndenumerate(observed):
        judged = expected[row, column] >= SMALLEST_EXPECTED
        text = signed_percent(float(value / expected[row, column] - 1)) if judged else "–"
        is_beyond = bool(beyond[row, column])
        axes.text(
            column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=9 if len(groups) < 9 else 7,
            color="#101010" if is_beyond else INK, fontweight="bold" if is_beyond else "normal",
        )  # fmt: skip
    names, turned = [shortened(name, 16) for name in groups], 0 if len(groups) < 7 else 40
    name_ticks(axes.xaxis, np.arange(len(groups)) + 0.5, names, turned=turned)
    name_ticks(axes.yaxis, np.arange(len(conditions)) + 0.5, [shortened(name) for name in conditions])
    axes.set_xlim(0, len(groups))
    axes.set_ylim(len(conditions), 0)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    number = int(beyond.sum())
    found = f"{number} of {beyond.size} beyond chance (coloured)" if number else "none beyond chance"
    return as_figure(
        drawing,
        name="departures-from-expected",
        title=f"{result.tables['cells'].title}: more or fewer than expected, {found}",
        alt=f"Grid of {len(conditions)} conditions by {len(groups)} groups, difference to the expected count "
        f"(a dash where fewer than {SMALLEST_EXPECTED:.0f} are expected); {found}.",
        table="cells",
    )
