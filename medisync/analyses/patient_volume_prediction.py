"""How many admissions to expect: forecast, intervals and their measured accuracy, for all sites or one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from medisync.analyses.clinical_sql import within
from medisync.analyses.contract import AnalysisParams, Figure, Finding, Result, Scalar, SnapshotReader, Table
from medisync.analyses.patient_volume_figures import NOUN, census_figure, volume_figure, whole
from medisync.analyses.patient_volume_meaning import disclosure
from medisync.analyses.phrases import counted
from medisync.analyses.published_forecasts import (
    kept_forecast,
    published_figure,
    published_forecasts,
    score_published,
)
from medisync.analyses.reported import Reported, reported
from medisync.analyses.stored_orders import stored_orders
from medisync.errors import NoDataError, SeriesError
from medisync.stats.accuracy_test import Verdict
from medisync.stats.census import (
    LONGEST_STAY_NIGHTS,
    Census,
    daily_admission_paths,
    expected_census,
    stay_survival,
)
from medisync.stats.forecasting import Accuracy, Forecast, forecast_panel, quantile_names
from medisync.stats.intervals import sample_paths
from medisync.stats.reporting import reporting_days
from medisync.stats.sarima import SarimaOrder
from medisync.stats.series import Panel, SeriesFlag, period_end, regular_panel

ANALYSIS = "patient_volume_prediction"
TITLE = "Patient volume prediction"

ALL_SITES = "all sites"

CENSUS_DAYS = 56
"""Days the census looks ahead at most."""
CENSUS_PATHS = 500

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
    "sarima": "seasonal ARIMA",
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
    beds: int | None = Field(None, ge=0, le=100_000, description="beds there are; None: do not compare with the census")
    seed: int = Field(20240507, ge=0, description="seed of the sample paths of the census")

    @model_validator(mode="after")
    def _days_for_the_daily_method(self) -> Self:
        if self.method == "daily_regression" and self.frequency != "daily":
            raise ValueError("method daily_regression needs frequency daily")
        return self


@dataclass(frozen=True)
class Inputs:
    """``daily`` has columns ``day, admissions``: the days with admissions, in order; ``source_daily`` the same of all
    admissions of the same sources, from ``first_day`` to the last day all have reported. ``stays`` has ``nights, ended,
    stays``: how long stays had lasted by that day, and whether they were over. ``published``: earlier forecasts, as
    :func:`~medisync.analyses.published_forecasts.published_forecasts` gives them; ``orders``: what the last
    recalibration found, by id."""

    daily: pd.DataFrame
    source_daily: pd.DataFrame
    stays: pd.DataFrame
    published: pd.DataFrame
    orders: Mapping[str, SarimaOrder]
    first_day: dt.date
    reported: Reported

    @property
    def last_day(self) -> dt.date:
        """The last day all sources and sites have reported."""
        return self.reported.until


def load(snapshot: SnapshotReader, params: Params) -> Inputs:
    """Daily counts; raises :class:`~medisync.errors.NoDataError` where there are no admissions."""
    known = reported(snapshot, site=params.site)
    hint = "Check the site's spelling." if params.site is not None else "Put a delivery into the inbox."
    if known is None:
        raise NoDataError("There are no admissions to forecast from.", hint=hint)
    last_day = known.until
    until = within("admitted_at", None, last_day)
    where = f"WHERE {until}" + (" AND site = ?" if params.site is not None else "")
    values = [params.site] if params.site is not None else None
    daily_counts = "SELECT CAST(admitted_at AS DATE) AS day, count(*) AS admissions FROM clinical.admissions"
    daily = snapshot.query(f"{daily_counts} {where} GROUP BY day ORDER BY day", values)
    if daily.empty:
        raise NoDataError("There are no admissions to forecast from.", hint=hint)
    source = daily
    if params.site is not None:
        # A site without admissions on a day has 0 of them only if its source sent anything for that day.
        source = snapshot.query(
            f"""
            {daily_counts} WHERE source IN (SELECT source FROM clinical.admissions WHERE site = ?) AND {until}
            GROUP BY day ORDER BY day
            """,
            values,
        )
    stays = snapshot.query(
        f"""
        SELECT least(date_diff('day', CAST(admitted_at AS DATE),
                               CASE WHEN ended THEN CAST(discharged_at AS DATE) ELSE last_day END), 366) AS nights,
               ended, count(*) AS stays
        FROM (SELECT *, DATE '{last_day.isoformat()}' AS last_day,
                     coalesce(CAST(discharged_at AS DATE) <= DATE '{last_day.isoformat()}', FALSE) AS ended
              FROM clinical.admissions {where})
        WHERE discharged_at IS NULL OR CAST(discharged_at AS DATE) >= CAST(admitted_at AS DATE)
        GROUP BY nights, ended ORDER BY nights, ended
        """,
        values,
    )
    published = published_forecasts(
        snapshot,
        ANALYSIS,
        frequency=params.frequency,
        until=last_day,
        unique_id=params.site or ALL_SITES,
        method=params.method,
    )
    first_day = pd.to_datetime(source["day"].iloc[0]).date()
    orders = stored_orders(snapshot, params.site or ALL_SITES, params.frequency)
    return Inputs(daily, source, stays, published, orders, first_day, known)


def compute(inputs: Inputs, params: Params) -> Result:
    """Forecast, score past forecasts of the same kind, and say what it amounts to."""
    panel = volume_panel(inputs, params)
    forecast = forecast_panel(panel, params.horizon, method=params.method, orders=inputs.orders)
    board = score_published(inputs.published, panel)
    census = bed_census(inputs, params, forecast)
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
    } | board.metrics()
    tables = {
        "history": Table.from_frame("Admissions per period", _history_table(panel)),
        "forecast": Table.from_frame("Forecast with 50, 80 and 95 % intervals", _forecast_table(forecast)),
        "accuracy": Table.from_frame("Methods tried again at past dates", _accuracy_table(forecast)),
    } | board.tables()
    if census is not None:
        tables["census"] = Table.from_frame("Occupied beds at midnight", census_table(census, inputs.last_day))
        metrics |= {
            "beds": params.beds,
            "beds_occupied_now": beds_now(inputs),
            "beds_occupied_highest_mean": _rounded(float(census.mean.max())),
            "probability_more_beds_needed_percent": None
            if census.exceeding_any is None
            else _rounded(100 * census.exceeding_any),
        }
    return Result(
        analysis=ANALYSIS,
        title=TITLE if params.site is None else f"{TITLE}: {params.site}",
        headline=headline(forecast, params),
        finding=Finding.SIGNAL if _has_shifted(forecast) else _FINDINGS[accuracy.verdicts[0]],
        data_from=inputs.first_day,
        data_until=inputs.reported.last_day,
        metrics=metrics,
        tables=tables,
        warnings=(*inputs.reported.notes(), *_warnings(panel, forecast)),
        disclosure=disclosure(params.frequency, params.site),
        lake_rows={"forecasts": Table.from_frame("Forecast quantiles", kept_forecast(forecast))},
    )


def volume_panel(inputs: Inputs, params: Params) -> Panel:
    """The one series of admissions per period; periods in which no source reported are missing."""
    days = pd.to_datetime(inputs.daily["day"])
    rule = {"daily": "D", "weekly": "W-SUN", "monthly": "M"}[params.frequency]
    starts = days.dt.to_period(rule).dt.start_time
    counts = inputs.daily["admissions"].groupby(starts.to_numpy()).sum()
    frame = pd.DataFrame({"unique_id": params.site or ALL_SITES, "ds": counts.index, "y": counts.to_numpy()})
    try:
        return regular_panel(
            frame,
            params.frequency,
            reporting=reporting_days(inputs.source_daily, inputs.first_day, inputs.last_day),
            covered_from=inputs.first_day,
            covered_until=inputs.last_day,
        )
    except SeriesError:
        # Counts from the lake are sound, so that this means: no period is complete yet.
        noun = NOUN[params.frequency]
        raise NoDataError(f"Not one complete {noun} has been delivered.", hint="Use a finer frequency.") from None


def bed_census(
    inputs: Inputs, params: Params, forecast: Forecast, *, admissions_factor: float = 1.0, stay_factor: float = 1.0
) -> Census | None:
    """Occupied beds on the days after the last one; None if no stay has ended or nothing can be forecast.

    The factors ask: what if there were so many times the admissions, and stays from now on lasted so many times as
    long? Patients who have been in for more than a year are taken for records that were never closed.
    """
    ended = inputs.stays["ended"].to_numpy(dtype=bool)
    if not inputs.stays["stays"][ended].sum() or pd.isna(forecast.median).any():
        return None
    survival = stay_survival(inputs.stays["nights"].tolist(), ended.tolist(), inputs.stays["stays"].tolist())
    rng = np.random.default_rng(params.seed)
    ends = [period_end(start, params.frequency) for start in forecast.periods]
    days = [(end - start).days + 1 for start, end in zip(forecast.periods, ends, strict=True)]
    paths = sample_paths(forecast.errors, forecast.quantiles, CENSUS_PATHS, rng)[0] * admissions_factor
    first = (pd.Timestamp(inputs.last_day) - forecast.periods[0]).days + 1
    admissions = daily_admission_paths(paths, days, rng)[:, max(first, 0) :][:, :CENSUS_DAYS]
    if not admissions.shape[1]:
        return None
    present = _present(inputs)
    return expected_census(
        admissions,
        survival,
        present["nights"].to_numpy(),
        rng,
        in_now=present["stays"].to_numpy(),
        beds=params.beds,
        stay_factor=stay_factor,
    )


def beds_now(inputs: Inputs) -> int:
    """Beds occupied at midnight of the last day."""
    return int(_present(inputs)["stays"].sum())


def _present(inputs: Inputs) -> pd.DataFrame:
    """Patients in at midnight of the last day, by nights so far."""
    stays = inputs.stays
    return stays[~stays["ended"].astype(bool) & (stays["nights"] <= LONGEST_STAY_NIGHTS)]


def headline(forecast: Forecast, params: Params) -> str:
    """One sentence a head nurse understands and a statistician signs."""
    noun, steps = NOUN[params.frequency], len(forecast.periods)
    table = forecast.frame()
    accuracy = forecast.accuracy
    verdict = accuracy.verdicts[0]
    middle = table.iloc[(steps - 1) // 2]
    ahead = f"the next {noun}" if steps == 1 else f"each of the next {steps} {noun}s"
    span = f"80 % interval {whole(middle['lower_80'])} to {whole(middle['upper_80'])}"
    origins = len(forecast.past.origins)
    if _has_shifted(forecast):
        shift = float(forecast.level_shift_percent[0])
        return (
            f"The latest {noun}s brought {abs(shift):.0f} % {'more' if shift > 0 else 'fewer'} admissions than "
            f"expected: should that last, expect about {whole(middle['median'])} for {ahead} ({span})."
        )
    if verdict is Verdict.UNTESTED:
        return f"About {whole(middle['median'])} admissions for {ahead}, but there is too little history to test this."
    if verdict is Verdict.NO_BETTER:
        what = "The mean" if forecast.method == "mean" else f"About {whole(middle['median'])} admissions"
        if forecast.method == "mean":
            return (
                f"Plan with the mean, about {whole(middle['median'])} admissions for {ahead} ({span}): in "
                f"{origins} past forecasts nothing did clearly better, so there is no trend or season to plan by."
            )
        return f"{what} for {ahead} ({span}), but in {origins} past forecasts this method was no better than the mean."
    low, high = table["median"].min(), table["median"].max()
    figure = whole(low) if whole(low) == whole(high) else f"{whole(low)} to {whole(high)}"
    first = "80 % interval" if steps == 1 else "80 % interval for the first:"
    return (
        f"Expect {figure} admissions in {ahead} ({first} {whole(table['lower_80'].iloc[0])} to "
        f"{whole(table['upper_80'].iloc[0])}); in {origins} past forecasts the error was "
        f"{accuracy.skill_mean_percent[0]:.0f} % smaller than by always expecting the mean."
    )


def _has_shifted(forecast: Forecast) -> bool:
    """Whether the latest admissions were so far from what was expected that the forecast goes on from there."""
    return not pd.isna(forecast.level_shift_percent[0])


def figures(result: Result) -> list[Figure]:
    """The forecast after recent history, the census where there is one, and earlier forecasts that met their truth."""
    drawn = [volume_figure(result)]
    if "census" in result.tables:
        drawn.append(census_figure(result))
    if "published" in result.tables:
        drawn.append(published_figure(result, NOUN[str(result.metrics["frequency"])]))
    return drawn


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
    SeriesFlag.INTERMITTENT: "Periods without admissions are scattered among others: intervals are for rare events.",
    SeriesFlag.LATE_START: "The first admissions came long after the first period: what is before is left out.",
}


def _warnings(panel: Panel, forecast: Forecast) -> tuple[str, ...]:
    notes = [str(one) for one in panel.dropped]
    notes += [_FLAG_WARNINGS[flag] for flag in panel.flags[0]]
    missing = int((panel.values != panel.values).sum())
    if missing and SeriesFlag.EMPTY not in panel.flags[0]:
        notes.append(f"In {counted(missing, 'period')} nothing was reported; that counts as missing, not as 0.")
    if _has_shifted(forecast):
        notes.append(
            "The latest admissions were far from what was expected: the forecast goes on from their level, which need "
            "not last, and its measured accuracy is that of the time before."
        )
    if not forecast.accuracy.scored_intervals:
        notes.append("The history is too short to measure how often the intervals hold.")
    return tuple(notes)


def _history_table(panel: Panel) -> pd.DataFrame:
    return pd.DataFrame({"period": panel.periods, "admissions": panel.values[0]})


def _forecast_table(forecast: Forecast) -> pd.DataFrame:
    table = forecast.frame().drop(columns="unique_id").rename(columns={"ds": "period"})
    numbers = table.columns.drop(["period", "step"])
    return table.assign(**{name: table[name].astype(float).round(2) for name in numbers})


def census_table(census: Census, last_day: dt.date) -> pd.DataFrame:
    """Mean and quantiles of the beds occupied at midnight, a row a day from the one after ``last_day``."""
    days = pd.date_range(pd.Timestamp(last_day) + pd.Timedelta(days=1), periods=len(census.mean))
    table = pd.DataFrame({"day": days, "mean": census.mean.round(1)})
    for i, name in enumerate(quantile_names(census.levels)):
        table[name] = census.quantiles[:, i].round(1)
    if census.exceeding is not None:
        table["probability_more_than_beds_percent"] = (100 * census.exceeding).round(1)
    return table


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
