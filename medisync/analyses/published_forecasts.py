"""The scoreboard: forecasts published by earlier runs, scored now that the periods they were about have come.

A period is truth only when it is complete. Where several runs forecast from the same origin, the first one
counts, since that is what people saw; making it again with better code does not improve the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medisync.analyses.contract import Figure, Result, Scalar, SnapshotReader, Table
from medisync.stats.forecasting import Forecast, quantile_names
from medisync.stats.scoreboard import score_forecasts, scoreboard
from medisync.stats.scores import LEVELS, known_mean
from medisync.stats.series import Panel, checked_days, periods_between

if TYPE_CHECKING:
    import datetime as dt

OLDEST_DAYS = 730
"""Forecasts made longer ago say little about those made now."""
PERIODS_SHOWN = 60


def published_forecasts(
    snapshot: SnapshotReader, analysis: str, *, frequency: str, until: dt.date, unique_id: str | None = None,
    method: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """What earlier runs of ``analysis`` forecast for periods before ``until``, one row a series, origin and period.

    Columns ``unique_id, origin, ds`` and the quantiles by name. ``method`` is the parameter of the runs, None for an
    analysis without one.
    """
    of_method, values = ("", []) if method is None else (" AND (parameters ->> '$.method') = ?", [method])
    runs = snapshot.query(
        f"SELECT run_id, started_at FROM analytics.runs WHERE analysis = ? AND status = 'completed'{of_method}",
        [analysis, *values],
    )
    if runs.empty:  # the usual case of a first delivery, and much quicker
        return pd.DataFrame(columns=["unique_id", "origin", "ds", *quantile_names(LEVELS)])
    of_series, more = ("", []) if unique_id is None else (" AND unique_id = ?", [unique_id])
    columns = ", ".join(
        f"max(value) FILTER (abs(quantile - {level}) < 1e-9) AS {name}"
        for level, name in zip(LEVELS, quantile_names(LEVELS), strict=True)
    )
    return snapshot.query(
        f"""
        WITH mine AS (
            SELECT unnest(?::VARCHAR[]) AS run_id, unnest(?::TIMESTAMP[]) AS started_at
        ), made AS (
            SELECT * FROM analytics.forecasts JOIN mine USING (run_id)
            WHERE frequency = ? AND ds < ? AND origin >= ?::DATE - {OLDEST_DAYS}{of_series}
        ), first AS (
            SELECT unique_id, origin, arg_min(run_id, (started_at, run_id)) AS run_id FROM made GROUP BY ALL
        )
        SELECT unique_id, origin, ds, {columns} FROM made JOIN first USING (unique_id, origin, run_id)
        GROUP BY ALL ORDER BY ALL
        """,
        [runs["run_id"].tolist(), runs["started_at"].dt.to_pydatetime().tolist(), frequency, until, until, *more],
    )


def kept_forecast(forecast: Forecast) -> pd.DataFrame:
    """One row a series, period and quantile level, as ``analytics.forecasts`` keeps them to be scored later."""
    long = forecast.frame().drop(columns="step").melt(["unique_id", "ds"], var_name="name")
    levels = dict(zip(quantile_names(forecast.levels), forecast.levels, strict=True))
    method = dict(zip(forecast.panel.ids, forecast.methods, strict=True))
    kept = long.assign(
        frequency=forecast.panel.frequency,
        method=long["unique_id"].map(method),
        origin=forecast.panel.periods[-1],
        quantile=long["name"].map(levels),
    )
    return kept.dropna(subset="value").drop(columns="name")


@dataclass(frozen=True)
class Scoreboard:
    """``scored``: as :func:`~medisync.stats.scoreboard.score_forecasts` gives it, with the error of the mean known at
    each origin; empty while no forecast has met its truth."""

    scored: pd.DataFrame

    def metrics(self) -> dict[str, Scalar]:
        """The whole board in five numbers."""
        scored = self.scored
        numbers: dict[str, Scalar] = {
            "published_forecasts_scored": len(scored),
            "published_origins": int(scored["origin"].nunique()),
        }
        if len(scored):
            numbers |= {
                "published_mean_absolute_error": round(float(scored["absolute_error"].mean()), 2),
                "published_inside_80_percent": round(float(100 * scored["inside_80"].mean()), 1),
                "published_skill_against_mean_percent": _skill(scored),
            }
        return numbers

    def tables(self) -> dict[str, Table]:
        """By step ahead; and for each recent period what had been forecast for it last."""
        if self.scored.empty:
            inside = [f"inside_{width}_percent" for width in (95, 80, 50)]
            measured = ["mean_absolute_error", "weighted_interval_score", *inside, "skill_against_mean_percent"]
            columns = ["step", "forecasts", *measured]
            title = "Published forecasts against what came: none has met its truth yet"
            return {"scoreboard": Table.from_frame(title, pd.DataFrame(columns=columns))}
        board = scoreboard(self.scored)
        by_step = [_skill(rows) for _, rows in self.scored.groupby("step", sort=True)]
        board["skill_against_mean_percent"] = by_step
        rounded = board.round({name: 2 if "percent" not in name else 1 for name in board.columns})
        tables = {"scoreboard": Table.from_frame("Published forecasts against what came", rounded)}
        if self.scored["unique_id"].nunique() == 1:
            latest = self.scored.sort_values(["ds", "step"]).drop_duplicates("ds").tail(PERIODS_SHOWN)
            shown = latest[["ds", "y", "median", "lower_80", "upper_80", "step"]]
            shown = shown.rename(columns={"ds": "period", "y": "admissions", "median": "forecast"})
            shown = shown.round(dict.fromkeys(["forecast", "lower_80", "upper_80"], 1))
            tables["published"] = Table.from_frame("What had been forecast last for each period", shown)
        return tables


def score_published(published: pd.DataFrame, panel: Panel) -> Scoreboard:
    """Score ``published`` against the complete periods of ``panel``."""
    if published.empty:
        return Scoreboard(published)
    origins, periods = checked_days(published["origin"]), checked_days(published["ds"])
    steps = periods_between(origins, periods, panel.frequency)
    forecasts = published.assign(origin=origins, ds=periods, step=steps)
    scored = score_forecasts(forecasts[steps >= 1], panel.frame())
    row = {name: i for i, name in enumerate(panel.ids)}
    known = np.searchsorted(panel.periods, scored["origin"], side="right")
    means = [known_mean(panel.values[row[name], :n]) for name, n in zip(scored["unique_id"], known, strict=True)]
    return Scoreboard(scored.assign(mean_error=np.abs(scored["y"] - np.array(means, dtype=float))))


def _skill(scored: pd.DataFrame) -> float | None:
    """Percent by which the error is below that of the mean known at each origin."""
    both = scored[["absolute_error", "mean_error"]].dropna()
    own, mean = both["absolute_error"].sum(), both["mean_error"].sum()
    return round(float(100 * (1 - own / mean)), 1) if mean > 0 else None


def published_figure(result: Result, noun: str) -> Figure:
    """What came in each period, and what had been forecast for it."""
    from medisync.analyses.figures import ACCENT, INK, as_figure, canvas
    from medisync.analyses.patient_volume_figures import finish_axes

    table = result.frame("published")
    table = table.assign(period=pd.to_datetime(table["period"]))
    drawing, axes = canvas(7.2, 3.0)
    low, high = (table[name].astype(float) for name in ("lower_80", "upper_80"))
    middle, seen = table["forecast"].astype(float), table["admissions"].astype(float)
    axes.vlines(table["period"], low, high, color=ACCENT, alpha=0.35, linewidth=4, label="80 % interval forecast")
    axes.plot(table["period"], middle, "_", color=ACCENT, markersize=7, label="forecast")
    axes.plot(table["period"], seen, "o", color=INK, markersize=3.5, label="came")
    finish_axes(axes, f"admissions per {noun}", float(max(high.max(), seen.max())))
    inside = int(((seen >= low) & (seen <= high)).sum())
    alt = (
        f"For each of {len(table)} {noun}s the forecast published last and the admissions that came: {inside} of them "
        "lay inside the 80 % interval."
    )
    title = f"Published forecasts and what came: {inside} of {len(table)} inside the 80 % interval"
    return as_figure(drawing, name="published", title=title, alt=alt, table="published")
