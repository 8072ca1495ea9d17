"""Weekly conditions: which are the most frequent, and is any of them rising, falling or out of line?"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from medisync.analyses.clinical_sql import known, within
from medisync.analyses.contract import AnalysisParams, Figure, Finding, Result, SnapshotReader, Table
from medisync.analyses.patient_health_trends_meaning import disclosure
from medisync.analyses.phrases import counted, listed, signed_percent
from medisync.analyses.reported import Reported, reported
from medisync.errors import NoDataError
from medisync.stats.age_bands import UNKNOWN
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.trend import RateRatio, Trends, compare_rates, fit_trends

ANALYSIS = "patient_health_trends"
TITLE = "Weekly conditions"

WEEK = dt.timedelta(days=7)
FEWEST_WEEKS = 2
LARGE_TREND_PERCENT = 100.0
"""When a condition may double or vanish within a year without being noticed, the data are too few."""

SILENT_WEEK_PROBABILITY = 0.001
"""A week without any admission is a gap in reporting when chance gives one less often than this."""


class Params(AnalysisParams):
    """How many conditions to rank, and what to compare the last complete week with."""

    top: int = Field(default=5, ge=1, le=50, description="ranks shown for each week; ties share a rank")
    weeks_shown: int = Field(default=12, ge=1, le=520, description="complete weeks in the table of ranks")
    baseline_weeks: int = Field(
        default=8, ge=2, le=52, description="weeks before the last complete one whose mean it is compared with"
    )
    trend_weeks: int = Field(default=156, ge=12, le=1040, description="complete weeks the slope is fitted to")
    most_conditions: int = Field(
        default=20, ge=1, le=200, description="this many most frequent conditions of those weeks are tested"
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="share of false findings accepted (Benjamini-Hochberg over all tests)"
    )


@dataclass(frozen=True)
class Inputs:
    """``weeks``: week (Monday), admissions. ``conditions``: week, condition, cases. First day of admission, and how far
    all sources and sites have reported (None: no admission)."""

    weeks: pd.DataFrame
    conditions: pd.DataFrame
    first_day: dt.date | None
    reported: Reported | None


def load(snapshot: SnapshotReader, params: Params) -> Inputs:
    """Admissions per ISO week, and those with each condition."""
    del params
    known_until = reported(snapshot)
    until = within("admitted_at", None, known_until.until if known_until else None)
    weeks = snapshot.query(
        f"""
        SELECT date_trunc('week', admitted_at)::DATE AS week, count(*) AS admissions,
               min(admitted_at)::DATE AS first_day
        FROM clinical.admissions WHERE {until} GROUP BY 1 ORDER BY 1
        """
    )
    conditions = snapshot.query(
        f"""
        SELECT date_trunc('week', a.admitted_at)::DATE AS week, {known("c.condition")} AS condition,
               count(*) AS cases
        FROM clinical.admissions a JOIN clinical.conditions c ON c.admission_key = a.admission_key
        WHERE {until} GROUP BY ALL ORDER BY ALL
        """
    )
    first_day = None if weeks.empty else weeks["first_day"].min().date()
    return Inputs(weeks[["week", "admissions"]], conditions, first_day, known_until)


@dataclass(frozen=True)
class _Calendar:
    """Weekly cases (weeks x conditions); NaN in a complete week without any reporting."""

    mondays: list[dt.date]
    conditions: list[str]
    cases: NDArray[np.float64]
    complete: NDArray[np.bool_]
    silent: int


def compute(inputs: Inputs, params: Params) -> Result:
    """Rank each week, compare the last complete one, and test each condition's slope."""
    if inputs.first_day is None or inputs.reported is None:
        raise NoDataError("There is no admission yet.")
    calendar = _calendar(inputs, inputs.first_day, inputs.reported.until)
    whole = np.flatnonzero(calendar.complete)
    ranks = _ranks(calendar, params)
    tables = {"ranks": Table.from_frame(f"The {params.top} most frequent conditions of each week", ranks)}
    metrics: dict[str, str | int | float | bool | None] = {
        "complete_weeks_count": int(whole.size),
        "incomplete_weeks_count": int((~calendar.complete).sum()),
        "weeks_without_reports_count": calendar.silent,
        "conditions_count": len(calendar.conditions),
    }
    if whole.size < FEWEST_WEEKS or not calendar.conditions:
        headline = f"Too little to compare: {counted(int(whole.size), 'complete week')} with recorded conditions."
        finding, changes = Finding.TOO_LITTLE, None
    else:
        changes = _changes(calendar, params)
        tables["changes"] = Table.from_frame(
            f"Week {_iso_name(calendar.mondays[whole[-1]])} compared, and the slope of each condition", changes
        )
        tables["weekly"] = Table.from_frame("Cases per week, with the fitted trend", _weekly(calendar, changes, params))
        headline, finding = _headline(calendar, ranks, changes, params)
        metrics |= _metrics(calendar, changes)
    return Result(
        analysis=ANALYSIS,
        title=TITLE,
        headline=headline,
        finding=finding,
        data_from=inputs.first_day,
        data_until=inputs.reported.last_day,
        metrics=metrics,
        tables=tables,
        warnings=(*inputs.reported.notes(), *_warnings(inputs, calendar, changes)),
        disclosure=disclosure(calendar.mondays[whole[-1]].isoformat() if whole.size else None),
    )


def _calendar(inputs: Inputs, first_day: dt.date, last_day: dt.date) -> _Calendar:
    first, last = first_day - dt.timedelta(days=first_day.weekday()), last_day - dt.timedelta(days=last_day.weekday())
    mondays = [first + n * WEEK for n in range((last - first).days // 7 + 1)]
    index = pd.DatetimeIndex(mondays)
    known_cases = inputs.conditions[inputs.conditions["condition"] != UNKNOWN]
    grid = known_cases.pivot_table(index="week", columns="condition", values="cases", aggfunc="sum", fill_value=0)
    grid.index = pd.DatetimeIndex(grid.index)
    grid = grid.reindex(index, fill_value=0)
    admissions = inputs.weeks.set_index(pd.DatetimeIndex(inputs.weeks["week"]))["admissions"]
    weekly = admissions.reindex(index, fill_value=0).to_numpy(np.float64)
    cases = np.array(grid, dtype=np.float64).reshape(len(mondays), grid.shape[1])
    active = weekly[weekly > 0]
    silent = (weekly == 0) & (np.exp(-np.median(active)) < SILENT_WEEK_PROBABILITY)
    cases[silent] = np.nan
    complete = np.ones(len(mondays), dtype=bool)
    complete[0] = first_day == first
    complete[-1] &= last_day == last + dt.timedelta(days=6)
    return _Calendar(mondays, [str(name) for name in grid.columns], cases, complete, int(silent.sum()))


def _iso_name(monday: dt.date) -> str:
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02d}"


def _ranks(calendar: _Calendar, params: Params) -> pd.DataFrame:
    """One row per week and condition among the top ranks, newest week first; incomplete weeks are marked."""
    shown = np.flatnonzero(calendar.complete)[-params.weeks_shown :]
    if not calendar.complete[-1]:
        shown = np.append(shown, len(calendar.mondays) - 1)
    rows = []
    for week in shown[::-1]:
        cases = calendar.cases[week]
        if np.isnan(cases).any():
            continue
        rank = pd.Series(cases).rank(method="min", ascending=False).to_numpy(np.int64)
        rows += [
            {
                "week": _iso_name(calendar.mondays[week]),
                "week_starts": calendar.mondays[week],
                "rank": int(rank[place]),
                "tied": bool((rank == rank[place]).sum() > 1),
                "condition": calendar.conditions[place],
                "cases": int(cases[place]),
                "complete": bool(calendar.complete[week]),
            }
            for place in np.lexsort((np.asarray(calendar.conditions), rank))
            if rank[place] <= params.top and cases[place] > 0
        ]
    columns = ["week", "week_starts", "rank", "tied", "condition", "cases", "complete"]
    return pd.DataFrame(rows, columns=columns)


def _year_before(calendar: _Calendar, monday: dt.date) -> NDArray[np.float64]:
    """Cases in the same ISO week a year earlier (week 53: 52 weeks earlier); NaN when not fully recorded."""
    year, week, _ = monday.isocalendar()
    try:
        wanted = dt.date.fromisocalendar(year - 1, week, 1)
    except ValueError:  # the year before has no week 53
        wanted = monday - 52 * WEEK
    place = (wanted - calendar.mondays[0]).days // 7
    if place < 0 or not calendar.complete[place]:
        return np.full(len(calendar.conditions), np.nan)
    found: NDArray[np.float64] = calendar.cases[place]
    return found


def _changes(calendar: _Calendar, params: Params) -> pd.DataFrame:
    """One row per condition: last complete week, what it is compared with, and the slope; p adjusted over all tests."""
    whole = np.flatnonzero(calendar.complete)
    window = whole[-params.trend_weeks :]
    order = np.argsort(-np.nansum(calendar.cases[window], axis=0), kind="stable")[: params.most_conditions]
    names = [calendar.conditions[place] for place in order]
    trends = fit_trends(calendar.cases[np.ix_(window, order)])
    dispersion = np.where(np.isnan(trends.dispersion), 1.0, trends.dispersion)
    last = calendar.cases[whole[-1], order]
    before = calendar.cases[np.ix_(whole[-1 - params.baseline_weeks : -1], order)]
    reported = int((~np.isnan(before[:, 0])).sum())
    year_ago = _year_before(calendar, calendar.mondays[whole[-1]])[order]
    recent = compare_rates(
        last,
        np.nansum(before, axis=0) if reported else np.full(last.size, np.nan),
        reference_periods=max(1, reported),
        dispersion=dispersion,
    )
    yearly = compare_rates(last, year_ago, dispersion=dispersion)
    adjusted = adjust_benjamini_hochberg(np.vstack([trends.p_value, recent.p_value, yearly.p_value]))
    frame = pd.DataFrame({"condition": names, "cases_last_week": last})
    frame["mean_of_weeks_before"] = np.nansum(before, axis=0) / reported if reported else np.nan
    _add_ratio(frame, "to_mean", recent, adjusted[1])
    frame["cases_same_week_last_year"] = year_ago
    _add_ratio(frame, "to_last_year", yearly, adjusted[2])
    return _add_trends(frame, trends, adjusted[0], params.alpha)


def _add_ratio(frame: pd.DataFrame, name: str, ratio: RateRatio, adjusted: NDArray[np.float64]) -> None:
    """Relative changes in per cent, with their interval."""
    for part, values in (("", ratio.ratio), ("_low", ratio.low), ("_high", ratio.high)):
        frame[f"change_{name}_percent{part}"] = 100 * (values - 1)
    frame[f"p_adjusted_{name}"] = adjusted


def _add_trends(frame: pd.DataFrame, trends: Trends, adjusted: NDArray[np.float64], alpha: float) -> pd.DataFrame:
    frame["trend_percent_per_year"] = 100 * trends.change_per_year
    frame["trend_low"], frame["trend_high"] = 100 * trends.low, 100 * trends.high
    frame["p_adjusted_trend"] = adjusted
    frame["dispersion"] = trends.dispersion
    frame["note"] = [flag.replace("-", " ") for flag in trends.flag]
    frame["verdict"] = [
        "not testable"
        if np.isnan(p)
        else "no trend beyond chance"
        if p > alpha
        else "rising"
        if change > 0
        else "falling"
        for p, change in zip(adjusted, trends.change_per_year, strict=True)
    ]
    return frame


def _weekly(calendar: _Calendar, changes: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Cases per week of six conditions in the trend window, with the fitted trend: those something is said of, then
    the most frequent."""
    window = np.flatnonzero(calendar.complete)[-params.trend_weeks :]
    p_values = changes[["p_adjusted_trend", "p_adjusted_to_mean", "p_adjusted_to_last_year"]]
    is_told = (p_values <= params.alpha).any(axis=1)
    names = [*changes["condition"][is_told], *changes["condition"][~is_told]][:6]
    order = np.array([calendar.conditions.index(name) for name in names], dtype=np.int64)
    cases = calendar.cases[np.ix_(window, order)]
    line = fit_trends(cases).line
    weeks = [calendar.mondays[place] for place in window]
    return pd.concat(
        [
            pd.DataFrame({"week_starts": weeks, "condition": name, "cases": cases[:, k], "trend": line[:, k]})
            for k, name in enumerate(names)
        ],
        ignore_index=True,
    )


def _metrics(calendar: _Calendar, changes: pd.DataFrame) -> dict[str, str | int | float | bool | None]:
    p_values = changes[["p_adjusted_trend", "p_adjusted_to_mean", "p_adjusted_to_last_year"]].to_numpy(np.float64)
    tested = ~np.isnan(p_values)
    return {
        "last_complete_week": _iso_name(calendar.mondays[np.flatnonzero(calendar.complete)[-1]]),
        "cases_last_week_count": int(np.nansum(changes["cases_last_week"])),
        "tests_count": int(tested.sum()),
        "smallest_adjusted_p_value": float(p_values[tested].min()) if tested.any() else None,
        "conditions_rising_count": int((changes["verdict"] == "rising").sum()),
        "conditions_falling_count": int((changes["verdict"] == "falling").sum()),
    }


def _headline(calendar: _Calendar, ranks: pd.DataFrame, changes: pd.DataFrame, params: Params) -> tuple[str, Finding]:
    week = _iso_name(calendar.mondays[np.flatnonzero(calendar.complete)[-1]])
    top = ranks[(ranks["week"] == week) & (ranks["rank"] == 1)]
    leader = (
        f"Most frequent in week {week}: {_leader(calendar, top, changes, params)}"
        if len(top)
        else f"No condition was recorded in week {week}"
    )
    moving = changes[changes["verdict"].isin(["rising", "falling"])]
    parts = [
        f"{row['condition']} is {row['verdict']} ({signed_percent(row['trend_percent_per_year'] / 100)} a year, "
        f"95 % interval {signed_percent(row['trend_low'] / 100)} to {signed_percent(row['trend_high'] / 100)})"
        for _, row in moving.head(3).iterrows()
    ]
    if len(moving) > 3:
        more = len(moving) - 3
        parts.append(f"{counted(more, 'other condition')} {'has' if more == 1 else 'have'} a trend")
    for column, reference in (
        ("to_mean", f"the mean of the {params.baseline_weeks} weeks before"),
        ("to_last_year", "the same week last year"),
    ):
        out = changes[changes[f"p_adjusted_{column}"] <= params.alpha]
        parts += [
            f"{row['condition']} lies {'above' if row[f'change_{column}_percent'] > 0 else 'below'} {reference} "
            f"({signed_percent(row[f'change_{column}_percent'] / 100)})"
            for _, row in out.head(3).iterrows()
        ]
    if parts:
        return f"{leader}; {listed(parts, most=9)}.", Finding.SIGNAL
    p_values = changes[["p_adjusted_trend", "p_adjusted_to_mean", "p_adjusted_to_last_year"]].to_numpy(np.float64)
    if np.isnan(p_values).all():
        return f"{leader}; too few weeks to tell a trend.", Finding.TOO_LITTLE
    trends = changes[["trend_low", "trend_high"]].abs().to_numpy(np.float64)
    largest = f" (any trend lies within ±{np.nanmax(trends):.0f} % a year)" if np.isfinite(trends).any() else ""
    text = (
        f"{leader}; none of {counted(len(changes), 'condition')} is rising or falling beyond chance{largest}, "
        f"and none is out of line with the weeks before or with last year."
    )
    if not np.isfinite(trends).any() or np.nanmax(trends) > LARGE_TREND_PERCENT:
        return text, Finding.TOO_LITTLE
    return text, Finding.NOTHING


def _leader(calendar: _Calendar, top: pd.DataFrame, changes: pd.DataFrame, params: Params) -> str:
    """The first of the last complete week, and whether its lead is more than chance."""
    first, cases = [str(name) for name in top["condition"]], int(top["cases"].iloc[0])
    if len(first) > 1:
        return f"{listed(first)} ({cases:,} admissions each)"
    last = calendar.cases[np.flatnonzero(calendar.complete)[-1]]
    others = [(count, name) for count, name in zip(last, calendar.conditions, strict=True) if name != first[0]]
    if not others or max(others)[0] == 0:
        return f"{first[0]} ({counted(cases, 'admission')})"
    runner_up, second = max(others)
    dispersion = max(1.0, float(changes["dispersion"].max())) if changes["dispersion"].notna().any() else 1.0
    ahead = float(compare_rates(cases, runner_up, dispersion=dispersion).p_value) <= params.alpha
    lead = f"clearly ahead of {second}" if ahead else f"its lead over {second} is within chance"
    return f"{first[0]} ({counted(cases, 'admission')}, {lead})"


def _warnings(inputs: Inputs, calendar: _Calendar, changes: pd.DataFrame | None) -> tuple[str, ...]:
    warnings = []
    incomplete = [_iso_name(calendar.mondays[place]) for place in np.flatnonzero(~calendar.complete)]
    if incomplete:
        verb = "is incomplete and was" if len(incomplete) == 1 else "are incomplete and were"
        warnings.append(f"Week {listed(incomplete)} {verb} left out of every comparison.")
    if calendar.silent:
        warnings.append(f"{counted(calendar.silent, 'week')} without any admission taken for gaps in reporting.")
    unknown = int(inputs.conditions.loc[inputs.conditions["condition"] == UNKNOWN, "cases"].sum())
    if unknown:
        warnings.append(f"The condition is unknown for {counted(unknown, 'admission')}; not ranked.")
    if changes is not None and (changes["note"] != "").any():
        named = listed([str(name) for name in changes.loc[changes["note"] != "", "condition"]])
        warnings.append(f"Too little for a trend: {named}.")
    return tuple(warnings)


def figures(result: Result) -> list[Figure]:
    """Change of the last week against both references, and the weekly cases with their trend."""
    from medisync.analyses import patient_health_trends_figures as draw

    return [draw.last_week(result), draw.weekly(result)] if "changes" in result.tables else []
