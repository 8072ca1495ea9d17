"""The figures of :mod:`medisync.analyses.patient_health_trends`, drawn from its tables alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medisync.analyses.contract import Figure, Result
from medisync.analyses.figure_ticks import name_ticks
from medisync.analyses.figures import ACCENT, CALM, INK, PALETTE, as_figure, canvas
from medisync.analyses.phrases import shortened

MOST_ROWS = 12
LEAST_REACH_PERCENT, MOST_REACH_PERCENT = 50.0, 400.0


def last_week(result: Result) -> Figure:
    """Change of the last complete week against the weeks before and against last year, with intervals."""
    changes = result.frame("changes").head(MOST_ROWS).iloc[::-1].reset_index(drop=True)
    kinds = (
        ("to_mean", 0.14, ACCENT, "o", "to the mean of the weeks before"),
        ("to_last_year", -0.14, PALETTE[1], "s", "to the same week last year"),
    )
    ends = np.concatenate([changes[f"change_{kind}_percent_high"].astype(float) for kind, *_ in kinds])
    ends = ends[np.isfinite(ends)]
    reach = float(np.clip(ends.max() if ends.size else 0.0, LEAST_REACH_PERCENT, MOST_REACH_PERCENT))
    drawing, axes = canvas(7.2, 1.2 + 0.42 * len(changes))
    for kind, shift, colour, marker, label in kinds:
        middle, low, high = (
            changes[f"change_{kind}_percent{part}"].astype(float).to_numpy() for part in ("", "_low", "_high")
        )
        low = np.where(np.isfinite(middle), low, np.nan)  # without a case on either side there is nothing to draw
        open_ended = np.where(np.isfinite(low) & ~np.isfinite(high), 10 * reach, high)
        places = np.arange(len(changes)) + shift
        axes.hlines(places, low, open_ended, color=colour, linewidth=2.5, alpha=0.6)
        axes.plot(middle, places, marker, color=colour, markersize=6, label=label)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(-100, reach * 1.05)
    axes.set_ylim(-0.6, len(changes) - 0.4)
    name_ticks(axes.yaxis, range(len(changes)), [shortened(str(name)) for name in changes["condition"]])
    axes.set_xlabel("Change in the last complete week, % (bar: 95 % interval)")
    axes.grid(visible=False, axis="y")
    drawing.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    told = [
        f"{row['condition']} {row['change_to_mean_percent']:+.0f} %"
        for _, row in changes.iloc[::-1].iterrows()
        if pd.notna(row["change_to_mean_percent"])
    ]
    return as_figure(
        drawing,
        name="last-week-compared",
        title=f"Week {result.metrics['last_complete_week']} compared",
        alt=f"Change against the mean of the weeks before: {'; '.join(told) or 'nothing to compare with'}.",
        table="changes",
    )


def weekly(result: Result) -> Figure:
    """Weekly cases of the conditions shown, each with its trend."""
    from matplotlib.dates import DateFormatter, MonthLocator, YearLocator

    table = result.frame("weekly")
    verdicts = result.frame("changes").set_index("condition")["verdict"]
    names = list(table["condition"].unique())
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    drawing, grid = canvas(7.2, 0.5 + 1.6 * rows, nrows=rows, ncols=columns, sharex=True, sharey=True, squeeze=False)
    weeks = table["week_starts"].nunique()
    for axes, name in zip(grid.flat, names, strict=False):
        own = table[table["condition"] == name]
        days = pd.to_datetime(own["week_starts"]).to_numpy()
        axes.plot(days, own["cases"].astype(float), color=CALM, linewidth=0.9)
        axes.plot(days, own["trend"].astype(float), color=ACCENT, linewidth=2)
        verdict = str(verdicts[name]).removesuffix(" beyond chance")
        axes.set_title(f"{shortened(name, 30 - len(verdict))}: {verdict}", fontsize=9, loc="left")
        axes.set_ylim(0, 1.05 * max(float(table[["cases", "trend"]].astype(float).max().max()), 1.0))
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(YearLocator() if weeks > 120 else MonthLocator(bymonth=(1, 4, 7, 10)))
        axes.xaxis.set_major_formatter(DateFormatter("%Y" if weeks > 120 else "%b\n%Y"))
    for spare in list(grid.flat)[len(names) :]:
        spare.set_visible(False)
    for above in list(grid.flat)[len(names) - columns : len(names)]:  # the lowest drawn of each column
        above.tick_params(labelbottom=True)
    drawing.supylabel("Admissions per week", fontsize=9)
    return as_figure(
        drawing,
        name="weekly-conditions",
        title=f"Admissions per week over {weeks} weeks, with the fitted trend",
        alt="Weekly admissions: " + "; ".join(f"{name} {verdicts[name]}" for name in names) + ".",
        table="weekly",
    )
