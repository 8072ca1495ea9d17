"""How many admissions to expect: forecast, intervals and their measured accuracy, for all sites or one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field

from medisync.analyses.contract import AnalysisParams, Figure, Finding, Result, Scalar, SnapshotReader, Table
from medisync.errors import NoDataError
from medisync.stats.accuracy_test import Verdict
from medisync.stats.forecasting import Accuracy, Forecast, forecast_panel
from medisync.stats.series import Panel, SeriesFlag, regular_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ANALYSIS = "patient_volume_prediction"
TITLE = "Patient volume prediction"

NOUN = {"daily": "day", "weekly": "week", "monthly": "month"}
PERIODS_DRAWN = {"daily": 182, "weekly": 104, "monthly": 60}

METHOD_NAMES = {
    "mean": "mean of the history",
    "last_value": "last value",
    "seasonal_naive": "same period of the last season",
    "theta": "Theta",
    "theta_sqrt": "Theta (square root)",
    "smoothing": "exponential smoothing",
    "smoothing_sqrt": "exponential smoothing (square root)",
    "combination": "combination of Theta and exponential smoothing",
    "autoregression": "autoregression with harmonics",
    "wide_combination": "mean of combination and autoregression",
    "count_regression": "negative-binomial regression with harmonics",
    "daily_regression": "regression on weekday, time of year and holidays",
}


class Params(AnalysisParams):
    """What to forecast, and how far."""

    frequency: Literal["daily", "weekly", "monthly"] = Field("weekly", description="length of one period")
    horizon: int = Field(8, ge=1, le=52, description="periods to forecast")
    site: str | None = Field(None, min_length=1, description="one site; None: all sites together")
    method: Literal[
        "auto", "mean", "seasonal_naive", "theta", "smoothing", "combination", "autoregression", "daily_regression"
    ] = Field("auto", description="forecasting method; auto: the one with the smallest error in the backtest")


@dataclass(frozen=True)
class Inputs:
    """``daily`` has columns ``day, admissions``: the days with admissions, in order. ``reporting_days`` are the days on
    which the sources of these admissions sent any, ``first_day`` and ``last_day`` the first and last of them."""

    daily: pd.DataFrame
    reporting_days: tuple[dt.date, ...]
    first_day: dt.date
    last_day: dt.date


def load(snapshot: SnapshotReader, params: Params) -> Inputs:
    """Daily counts; raises :class:`~medisync.errors.NoDataError` where there are no admissions."""
    where = "WHERE admitted_at IS NOT NULL" + (" AND site = ?" if params.site is not None else "")
    values = [params.site] if params.site is not None else None
    daily = snapshot.query(
        f"""
        SELECT CAST(admitted_at AS DATE) AS day, count(*) AS admissions
        FROM clinical.admissions {where}
        GROUP BY day ORDER BY day
        """,
        values,
    )
    if daily.empty:
        hint = "Check the site's spelling." if params.site is not None else "Put a delivery into the inbox."
        raise NoDataError("There are no admissions to forecast from.", hint=hint)
    reporting = daily["day"]
    if params.site is not None:
        # A site without admissions on a day has 0 of them only if its source sent anything for that day.
        reporting = snapshot.query(
            """
            SELECT DISTINCT CAST(admitted_at AS DATE) AS day
            FROM clinical.admissions
            WHERE source IN (SELECT source FROM clinical.admissions WHERE site = ?) AND admitted_at IS NOT NULL
            ORDER BY day
            """,
            values,
        )["day"]
    days = tuple(one.date() for one in pd.to_datetime(reporting))
    return Inputs(daily=daily, reporting_days=days, first_day=days[0], last_day=days[-1])


def compute(inputs: Inputs, params: Params) -> Result:
    """Forecast, score past forecasts of the same kind, and say what it amounts to."""
    panel = volume_panel(inputs, params)
    forecast = forecast_panel(panel, params.horizon, method=params.method)
    first, accuracy = forecast.frame().iloc[0], forecast.accuracy
    known = int((panel.values == panel.values).sum())
    metrics: dict[str, Scalar] = {
        "admissions": int(inputs.daily["admissions"].sum()),
        "complete_periods": known,
        f"mean_per_{NOUN[params.frequency]}": _rounded(float(pd.Series(panel.values[0]).mean())),
        "next_period_median": _rounded(first["median"]),
        "next_period_lower_80": _rounded(first["lower_80"]),
        "next_period_upper_80": _rounded(first["upper_80"]),
        "method": forecast.method,
        "verdict": accuracy.verdicts[0].value,
        "accuracy_test_p_value": _rounded(accuracy.test.p_value[0], 4),
        "mase": _rounded(accuracy.mase[0], 3),
        "weighted_interval_score": _rounded(accuracy.wis[0], 2),
        "skill_against_mean_percent": _rounded(accuracy.skill_mean_percent[0]),
        "skill_against_seasonal_naive_percent": _rounded(accuracy.skill_seasonal_naive_percent[0]),
        "coverage_50_percent": _rounded(accuracy.coverage[50]),
        "coverage_80_percent": _rounded(accuracy.coverage[80]),
        "coverage_95_percent": _rounded(accuracy.coverage[95]),
        "backtest_origins": len(forecast.past.origins),
        "horizon": params.horizon,
        "frequency": params.frequency,
    }
    return Result(
        analysis=ANALYSIS,
        title=TITLE if params.site is None else f"{TITLE}: {params.site}",
        headline=headline(forecast, params),
        finding=_FINDINGS[accuracy.verdicts[0]],
        data_from=inputs.first_day,
        data_until=inputs.last_day,
        metrics=metrics,
        tables={
            "history": Table.from_frame("Admissions per period", _history_table(panel)),
            "forecast": Table.from_frame("Forecast with 50, 80 and 95 % intervals", _forecast_table(forecast)),
            "accuracy": Table.from_frame("Past forecasts, scored", _accuracy_table(forecast)),
        },
        warnings=_warnings(panel, forecast),
    )


def volume_panel(inputs: Inputs, params: Params) -> Panel:
    """The one series of admissions per period; periods in which no source reported are missing."""
    days = pd.to_datetime(inputs.daily["day"])
    rule = {"daily": "D", "weekly": "W-SUN", "monthly": "M"}[params.frequency]
    starts = days.dt.to_period(rule).dt.start_time
    counts = inputs.daily["admissions"].groupby(starts.to_numpy()).sum()
    frame = pd.DataFrame({"unique_id": params.site or "all sites", "ds": counts.index, "y": counts.to_numpy()})
    return regular_panel(
        frame,
        params.frequency,
        reporting=inputs.reporting_days,
        covered_from=inputs.first_day,
        covered_until=inputs.last_day,
    )


def headline(forecast: Forecast, params: Params) -> str:
    """One sentence a head nurse understands and a statistician signs."""
    noun, steps = NOUN[params.frequency], len(forecast.periods)
    table = forecast.frame()
    accuracy = forecast.accuracy
    verdict = accuracy.verdicts[0]
    middle = table.iloc[(steps - 1) // 2]
    ahead = f"the next {noun}" if steps == 1 else f"each of the next {steps} {noun}s"
    span = f"80 % interval {_whole(middle['lower_80'])} to {_whole(middle['upper_80'])}"
    origins = len(forecast.past.origins)
    if verdict is Verdict.UNTESTED:
        return f"About {_whole(middle['median'])} admissions for {ahead}, but there is too little history to test this."
    if verdict is Verdict.NO_BETTER:
        what = "The mean" if forecast.method == "mean" else f"About {_whole(middle['median'])} admissions"
        if forecast.method == "mean":
            return (
                f"Plan with the mean, about {_whole(middle['median'])} admissions for {ahead} ({span}): in "
                f"{origins} past forecasts nothing did better, so there is no trend or season to plan by."
            )
        return f"{what} for {ahead} ({span}), but in {origins} past forecasts this method was no better than the mean."
    low, high = table["median"].min(), table["median"].max()
    figure = _whole(low) if _whole(low) == _whole(high) else f"{_whole(low)} to {_whole(high)}"
    return (
        f"Expect {figure} admissions in {ahead} (80 % interval for the first: {_whole(table['lower_80'].iloc[0])} to "
        f"{_whole(table['upper_80'].iloc[0])}); in {origins} past forecasts the error was "
        f"{accuracy.skill_mean_percent[0]:.0f} % smaller than the mean's."
    )


def figures(result: Result) -> list[Figure]:
    """The fan chart: recent history, the forecast and its intervals."""
    from medisync.analyses.figures import ACCENT, CALM, INK, as_figure, canvas

    noun = NOUN[str(result.metrics["frequency"])]
    history, forecast = result.frame("history"), result.frame("forecast")
    history["period"], forecast["period"] = pd.to_datetime(history["period"]), pd.to_datetime(forecast["period"])
    recent = history.tail(PERIODS_DRAWN[str(result.metrics["frequency"])])
    drawing, axes = canvas(7.2, 3.8)
    axes.plot(recent["period"], recent["admissions"], color=INK, linewidth=1.2, label="admitted")
    for width, alpha in ((95, 0.16), (80, 0.26), (50, 0.42)):
        axes.fill_between(
            forecast["period"],
            forecast[f"lower_{width}"],
            forecast[f"upper_{width}"],
            color=ACCENT,
            alpha=alpha,
            linewidth=0,
            label=f"{width} % interval",
        )
    axes.plot(forecast["period"], forecast["median"], color=ACCENT, marker="o", markersize=3, label="forecast")
    mean = result.metrics[f"mean_per_{noun}"]
    if isinstance(mean, (int, float)):
        axes.axhline(mean, color=CALM, linewidth=1, linestyle=(0, (4, 3)), label="mean of the history")
    _finish(axes, noun, float(max(recent["admissions"].max(), forecast["upper_95"].max())))
    first, last = forecast.iloc[0], forecast.iloc[-1]
    alt = (
        f"Line chart of admissions per {noun}, followed by a forecast of {len(forecast)} {noun}s from "
        f"{first['period'].date()} to {last['period'].date()}: first {_whole(first['median'])} (95 % interval "
        f"{_whole(first['lower_95'])} to {_whole(first['upper_95'])}), last {_whole(last['median'])} (95 % interval "
        f"{_whole(last['lower_95'])} to {_whole(last['upper_95'])})."
    )
    title = f"Admissions per {noun} and forecast"
    return [as_figure(drawing, name="volume_forecast", title=title, alt=alt, table="forecast")]


def _finish(axes: Axes, noun: str, highest: float) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_ylim(0, max(highest * 1.08, 1.0))
    axes.set_ylabel(f"admissions per {noun}")
    axes.margins(x=0.01)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=6, fontsize=8, columnspacing=1.2, handlelength=1.4)


_FINDINGS = {
    Verdict.BETTER: Finding.SIGNAL,
    Verdict.NO_BETTER: Finding.NOTHING,
    Verdict.UNTESTED: Finding.TOO_LITTLE,
}

_FLAG_WARNINGS = {
    SeriesFlag.EMPTY: "No complete period has been observed.",
    SeriesFlag.TOO_SHORT: "There are fewer than eight complete periods: the forecast is their mean.",
    SeriesFlag.ALL_ZERO: "There was not one admission in any complete period.",
    SeriesFlag.CONSTANT: "Every complete period has the same number of admissions.",
    SeriesFlag.GAPPY: "More than a fifth of the periods are missing.",
    SeriesFlag.STALE: "The last period is missing, so the forecast reaches further than it says.",
    SeriesFlag.LOW_COUNT: "There is less than one admission a period on average: intervals are those of rare events.",
}


def _warnings(panel: Panel, forecast: Forecast) -> tuple[str, ...]:
    notes = [str(one) for one in panel.dropped]
    notes += [_FLAG_WARNINGS[flag] for flag in panel.flags[0]]
    missing = int((panel.values != panel.values).sum())
    if missing and SeriesFlag.EMPTY not in panel.flags[0]:
        notes.append(f"In {missing} periods nothing was reported; they count as missing, not as 0.")
    if not forecast.accuracy.scored_intervals:
        notes.append("The history is too short to measure how often the intervals hold.")
    return tuple(notes)


def _history_table(panel: Panel) -> pd.DataFrame:
    return pd.DataFrame({"period": panel.periods, "admissions": panel.values[0]})


def _forecast_table(forecast: Forecast) -> pd.DataFrame:
    table = forecast.frame().drop(columns="unique_id").rename(columns={"ds": "period"})
    numbers = table.columns.drop(["period", "step"])
    return table.assign(**{name: table[name].astype(float).round(2) for name in numbers})


def _accuracy_table(forecast: Forecast) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [_accuracy_row(one, one.method == forecast.method) for one in _ordered(forecast)]
    return pd.DataFrame(rows)


def _ordered(forecast: Forecast) -> list[Accuracy]:
    return sorted(forecast.accuracies.values(), key=lambda one: (one.mase[0] != one.mase[0], one.mase[0]))


def _accuracy_row(one: Accuracy, used: bool) -> dict[str, Any]:
    return {
        "method": METHOD_NAMES[one.method],
        "used": used,
        "mean_absolute_error": _rounded(one.mae[0], 2),
        "mase": _rounded(one.mase[0], 3),
        "skill_against_mean_percent": _rounded(one.skill_mean_percent[0]),
        "skill_against_seasonal_naive_percent": _rounded(one.skill_seasonal_naive_percent[0]),
        "p_value": _rounded(one.test.p_value[0], 4),
        "verdict": one.verdicts[0].value,
    }


def _rounded(value: float, digits: int = 1) -> float | None:
    return round(float(value), digits) if value == value else None


def _whole(value: float) -> str:
    """A number of admissions for a sentence: whole, with one digit below 10."""
    if value != value:
        return "an unknown number of"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
