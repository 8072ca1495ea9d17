"""The drawings of the patient volume analysis: fans of quantiles after what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from medisync.analyses.contract import Figure, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOUN = {"daily": "day", "weekly": "week", "monthly": "month"}
FEWEST_PERIODS_DRAWN = 40
PERIODS_DRAWN_PER_STEP = 6
"""So much history for each period ahead, that the forecast stays large enough to read."""


def volume_figure(result: Result) -> Figure:
    """Admissions per period: recent history, then the forecast with its 50, 80 and 95 % intervals."""
    from medisync.analyses.figures import CALM, INK, as_figure, canvas

    noun = NOUN[str(result.metrics["frequency"])]
    history, forecast = _dated(result, "history", "period"), _dated(result, "forecast", "period")
    recent = history.tail(max(FEWEST_PERIODS_DRAWN, PERIODS_DRAWN_PER_STEP * len(forecast)))
    drawing, axes = canvas(7.2, 3.7)
    mean = result.metrics[f"mean_per_{noun}"]
    if isinstance(mean, (int, float)):
        axes.axhline(mean, color=CALM, linewidth=1, linestyle=(0, (4, 3)), label="mean of all history")
    axes.plot(recent["period"], recent["admissions"], color=INK, linewidth=1.2, label="admitted")
    _fan(axes, forecast, "period")
    finish_axes(axes, f"admissions per {noun}", _highest(recent["admissions"], forecast["upper_95"]))
    first, last = forecast.iloc[0], forecast.iloc[-1]
    alt = (
        f"Line chart of admissions per {noun}, followed by a forecast of {len(forecast)} {noun}s from "
        f"{first['period'].date()} to {last['period'].date()}: first {_with_interval(first)}, "
        f"last {_with_interval(last)}."
    )
    title = f"Admissions per {noun} and forecast"
    return as_figure(drawing, name="volume_forecast", title=title, alt=alt, table="forecast")


def census_figure(result: Result) -> Figure:
    """Occupied beds at midnight of the days ahead, and how many beds there are where that is known."""
    from medisync.analyses.figures import CALM, WARN, as_figure, canvas

    table, beds = _dated(result, "census", "day"), result.metrics.get("beds")
    drawing, axes = canvas(7.2, 3.2)
    _fan(axes, table, "day")
    highest = _highest(table["upper_95"])
    if "mean_without_change" in table:
        axes.plot(table["day"], table["mean_without_change"], color=CALM, linestyle=(0, (4, 3)), label="without change")
        highest = max(highest, _highest(table["mean_without_change"]))
    if isinstance(beds, int):
        axes.axhline(beds, color=WARN, linewidth=1.4, linestyle=(0, (6, 2)), label=f"{beds:,} beds")
        highest = max(highest, float(beds))
    finish_axes(axes, "beds occupied at midnight", highest)
    first, last = table.iloc[0], table.iloc[-1]
    alt = (
        f"Fan chart of occupied beds on {len(table)} days: {_with_interval(first)} on {first['day'].date()}, "
        f"{_with_interval(last)} on {last['day'].date()}"
    )
    alt += f"; a line marks {beds:,} beds." if isinstance(beds, int) else "."
    return as_figure(drawing, name="census", title="Expected occupied beds", alt=alt, table="census")


def whole(value: float) -> str:
    """A number of admissions for a sentence: whole, with one digit below 10."""
    if value != value:
        return "an unknown number of"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _with_interval(row: pd.Series) -> str:
    return f"{whole(row['median'])} (95 % interval {whole(row['lower_95'])} to {whole(row['upper_95'])})"


def _dated(result: Result, name: str, column: str) -> pd.DataFrame:
    table = result.frame(name)
    numbers = table.columns.drop(column)
    return table.assign(**{column: pd.to_datetime(table[column]), **{one: _number(table[one]) for one in numbers}})


def _number(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values).astype(float)


def _highest(*columns: pd.Series) -> float:
    tops = [float(one.max()) for one in columns]
    return max([top for top in tops if top == top], default=1.0)


def _fan(axes: Axes, table: pd.DataFrame, time: str) -> None:
    from medisync.analyses.figures import ACCENT

    for width, alpha in ((95, 0.15), (80, 0.25), (50, 0.4)):
        axes.fill_between(
            table[time],
            table[f"lower_{width}"],
            table[f"upper_{width}"],
            color=ACCENT,
            alpha=alpha,
            linewidth=0,
            label=f"{width} % interval",
        )
    marker = "o" if len(table) <= 16 else None
    axes.plot(table[time], table["median"], color=ACCENT, label="forecast", marker=marker, markersize=3)
    if len(table) == 1:  # a band over one moment has no width
        low, high = table["lower_95"] - table["median"], table["upper_95"] - table["median"]
        axes.errorbar(table[time], table["median"], yerr=[-low, high], color=ACCENT, capsize=4)


def finish_axes(axes: Axes, label: str, highest: float) -> None:
    """Dates below, ``label`` beside, from 0 up to ``highest``, and the legend under the axes."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, offset_formats=["", "%Y", "%Y", *["%d %b %Y"] * 3]))
    axes.set_ylim(0, max(highest * 1.08, 1.0))
    axes.set_ylabel(label)
    axes.margins(x=0.01)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncol=6,
        fontsize=8,
        columnspacing=1.1,
        handlelength=1.3,
        handletextpad=0.5,
        frameon=False,
    )
