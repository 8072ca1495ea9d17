"""The figures of :mod:`medisync.analyses.illness_surge_prediction`, drawn from its tables alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medisync.analyses.contract import Figure, Result
from medisync.analyses.figure_ticks import name_ticks
from medisync.analyses.figures import ACCENT, CALM, INK, WARN, as_figure, canvas
from medisync.stats.surveillance import WeekState

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 6
MOST_GRID_ROWS = 30
ABOVE_LABEL, SURGE_LABEL = "above threshold", "confirmed surge"


def condition_panels(result: Result) -> Figure:
    """Weekly admissions of the most surprising conditions with what was expected and the threshold."""
    weekly = _weekly(result)
    current = result.frame("current")
    names = current[current["kind"] == "condition"]["condition"].head(MOST_PANELS).tolist()
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    drawing, axes = canvas(7.2, 0.5 + 1.75 * rows, nrows=rows, ncols=columns, sharex=True, squeeze=False)
    flat = axes.ravel()
    ahead = _ahead(result)
    for place, name in enumerate(names):
        _panel(flat[place], weekly[weekly["condition"] == name], ahead[ahead["condition"] == name], name)
    for spare in flat[len(names) :]:
        spare.set_visible(False)
    states = weekly[weekly["condition"].isin(names)]["state"]
    drawn = dict(zip(*reversed(flat[0].get_legend_handles_labels()), strict=True))
    for state, label in ((WeekState.ABOVE, ABOVE_LABEL), (WeekState.SURGE, SURGE_LABEL)):
        if not (states == state).any():
            del drawn[label]
    labels, handles = list(drawn), list(drawn.values())
    drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    alt = (
        f"Weekly admissions of {len(names)} conditions over {weekly['week'].nunique()} weeks with the expected number, "
        f"the surge threshold and the forecast of the weeks ahead. {(states == WeekState.SURGE).sum()} weeks "
        f"were confirmed surges, {(states == WeekState.ABOVE).sum()} more lay above a threshold."
    )
    return as_figure(drawing, name="surge-panels", title="Conditions against their thresholds", alt=alt, table="weekly")


def _panel(ax: Axes, part: pd.DataFrame, ahead: pd.DataFrame, name: str) -> None:
    weeks = part["week"]
    ax.plot(
        weeks, part["threshold"], color=WARN, linewidth=1.1, linestyle="--", label="threshold", drawstyle="steps-mid"
    )
    ax.plot(weeks, part["expected"], color=CALM, linewidth=1.4, label="expected")
    ax.plot(weeks, part["observed"], color=ACCENT, linewidth=1.1, label="admissions")
    if len(ahead):
        low, high = ahead["lower_80"], ahead["upper_80"]
        ax.fill_between(ahead["week"], low, high, color=ACCENT, alpha=0.3, linewidth=0, label="forecast, 80 % interval")
        ax.plot(ahead["week"], ahead["median"], color=ACCENT, linewidth=1.4, linestyle=":")
    above = part[part["state"] == WeekState.ABOVE]
    surge = part[part["state"] == WeekState.SURGE]
    ax.plot(above["week"], above["observed"], "o", color=WARN, fillstyle="none", markersize=5, label=ABOVE_LABEL)
    ax.plot(surge["week"], surge["observed"], "D", color=WARN, markersize=6, label=SURGE_LABEL)
    ax.set_title(name if len(name) <= 40 else name[:39] + "…", fontsize=10)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("a week", fontsize=9)
    _month_axis(ax)


def week_grid(result: Result) -> Figure:
    """One row a condition, one square a week: how far above or below expectation, and which weeks were surges."""
    from matplotlib.colors import LinearSegmentedColormap
    from scipy.special import ndtri

    weekly = _weekly(result)
    total = result.frame("current").query("kind == 'total'")["condition"]
    weekly = weekly[~weekly["condition"].isin(total)]
    names = list(dict.fromkeys(weekly["condition"]))[:MOST_GRID_ROWS]
    surprise = -ndtri(weekly["p_value"].clip(1e-6, 1 - 1e-6).to_numpy())
    wide = weekly.assign(surprise=surprise).pivot(index="condition", columns="week", values="surprise").loc[names]
    shades = LinearSegmentedColormap.from_list(
        "surge", [(0.0, ACCENT), (0.25, "#d3e4f0"), (0.5, "#f6f6f6"), (0.75, "#f8e3d3"), (1.0, WARN)]
    )
    drawing, ax = canvas(7.2, 1.3 + 0.24 * len(names))
    edges = pd.date_range(wide.columns[0], periods=len(wide.columns) + 1, freq="7D")
    mesh = ax.pcolormesh(edges, np.arange(len(names) + 1), wide.to_numpy(dtype=float), cmap=shades, vmin=-4, vmax=4)
    middle = pd.Timedelta(days=3.5)
    for state, marker in ((WeekState.ABOVE, "o"), (WeekState.SURGE, "D")):
        part = weekly[(weekly["state"] == state) & weekly["condition"].isin(names)]
        ax.plot(
            part["week"] + middle,
            [names.index(name) + 0.5 for name in part["condition"]],
            marker,
            color=INK,
            fillstyle="none" if state == WeekState.ABOVE else "full",
            markersize=5,
            linestyle="none",
        )
    shown = [name if len(name) <= 28 else name[:27] + "…" for name in names]
    name_ticks(ax.yaxis, np.arange(len(names)) + 0.5, shown)
    ax.invert_yaxis()
    ax.grid(visible=False)
    _month_axis(ax)
    bar = drawing.colorbar(mesh, cax=ax.inset_axes((1.01, 0, 0.03, 1)), ticks=[-4, 0, 4])
    bar.ax.set_yticklabels(["far fewer", "as expected", "far more"])
    bar.outline.set_visible(False)
    above, surges = (weekly["state"] == WeekState.ABOVE).sum(), (weekly["state"] == WeekState.SURGE).sum()
    alt = (
        f"{len(names)} conditions by {len(wide.columns)} weeks, coloured by how surprising their admissions are, from "
        f"far fewer to far more than expected. Circles mark {above} weeks above the threshold, diamonds {surges} "
        "confirmed surges."
    )
    return as_figure(drawing, name="surge-weeks", title="Weeks at a glance", alt=alt, table="weekly")


def _weekly(result: Result) -> pd.DataFrame:
    weekly = result.frame("weekly")
    numbers = ["observed", "expected", "threshold", "p_value"]
    weekly[numbers] = weekly[numbers].astype(float)
    return weekly.assign(week=pd.to_datetime(weekly["week"]))


def _ahead(result: Result) -> pd.DataFrame:
    """The weeks forecast, empty where there are none; a single week gets a width to be seen."""
    if "forecast_weeks" not in result.tables:
        return pd.DataFrame(columns=["condition", "week", "median", "lower_80", "upper_80"])
    table = result.frame("forecast_weeks")
    table[["median", "lower_80", "upper_80"]] = table[["median", "lower_80", "upper_80"]].astype(float)
    table = table.assign(week=pd.to_datetime(table["week"]))
    if table["week"].nunique() == 1:
        days = pd.Timedelta(days=2)
        table = pd.concat([table.assign(week=table["week"] - days), table.assign(week=table["week"] + days)])
    return table


def _month_axis(ax: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
