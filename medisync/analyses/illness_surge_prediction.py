"""Illness surges: is any condition, here or at one site, more frequent than past years lead one to expect?

Weekly (ISO) admissions per condition, and per condition and site where a site is large enough, are judged by
:mod:`medisync.stats.surveillance` and looked ahead by :mod:`medisync.stats.surge_ahead`.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from medisync.analyses.contract import AnalysisParams, Figure, Finding, Result, Scalar, SnapshotReader, Table
from medisync.analyses.illness_surge_counts import EVERYTHING, EVERYWHERE, Inputs, surge_counts, surge_panel
from medisync.analyses.illness_surge_forecasts import forecast_series
from medisync.analyses.illness_surge_prediction_meaning import disclosure
from medisync.analyses.phrases import counted, listed, probability
from medisync.analyses.published_forecasts import published_forecasts
from medisync.analyses.reported import reported
from medisync.errors import NoDataError, SeriesError
from medisync.stats.series import Panel
from medisync.stats.surge_ahead import AheadBacktest, SurgeAhead, backtest_surges_ahead, predict_surges_ahead
from medisync.stats.surveillance import Comparison, SurgeJudgement, WeekState, judge_surges

ANALYSIS = "illness_surge_prediction"
TITLE = "Illness surges"

HISTORY_WEEKS = 156
"""Past weeks judged to learn how far a series strays and how long: three years."""


class Params(AnalysisParams):
    """What counts as a surge, and how far to look ahead."""

    alpha: float = Field(
        default=0.005, gt=0, le=0.1, description="share of quiet weeks in which a series may exceed its threshold"
    )
    false_discovery_rate: float = Field(
        default=0.01, gt=0, le=0.2, description="a surge is confirmed when its adjusted p-value is at most this"
    )
    horizon_weeks: int = Field(default=4, ge=1, le=4, description="weeks to look ahead")
    weeks_shown: int = Field(default=52, ge=8, le=104, description="past weeks in the weekly table and the figures")
    minimum_history_years: int = Field(
        default=2, ge=2, le=5, description="years of history from which on a week is compared with past years"
    )
    least_cases: int = Field(default=5, ge=1, le=1000, description="fewer cases than this in four weeks raise no alarm")
    most_conditions: int = Field(default=30, ge=1, le=200, description="this many most frequent conditions are watched")
    most_sites: int = Field(default=8, ge=0, le=50, description="this many largest sites are watched on their own")
    site_admissions_a_week: float = Field(
        default=20.0, ge=1, le=10_000, description="a site with fewer admissions a week is not watched on its own"
    )
    seed: int = Field(default=20240507, ge=0, description="seed of the sample paths")


def load(snapshot: SnapshotReader, params: Params) -> Inputs:
    """Weekly counts; raises :class:`~medisync.errors.NoDataError` where there are no admissions."""
    known_until = reported(snapshot)
    if known_until is None:
        raise NoDataError("There are no admissions yet.", hint="Put a delivery into the inbox.")
    return surge_counts(
        snapshot,
        known_until,
        published_forecasts(snapshot, ANALYSIS, frequency="weekly", until=known_until.until),
        most_conditions=params.most_conditions,
        most_sites=params.most_sites,
        site_admissions_a_week=params.site_admissions_a_week,
    )


def compute(inputs: Inputs, params: Params) -> Result:
    """Judge the last complete week of every series, and say how likely the next ones exceed their thresholds."""
    if inputs.weekly.empty:
        raise NoDataError("No admission has a condition yet.", hint="Deliver conditions with the admissions.")
    try:
        panel, names = surge_panel(inputs)
    except SeriesError:  # the one way an otherwise sound table fails: no complete week
        return _too_little(inputs, "Less than one complete week of data: too little to look for surges.")
    judgement = judge_surges(
        panel.values,
        last_weeks=HISTORY_WEEKS,
        weeks_ahead=params.horizon_weeks,
        alpha=params.alpha,
        false_discovery_rate=params.false_discovery_rate,
        least_cases=params.least_cases,
        minimum_years=params.minimum_history_years,
        first_days=panel.periods.to_numpy(),
        families=names["family"].to_numpy(),
    )
    total = (names["kind"] == "total").to_numpy()
    judgement.state[total[:, None] & (judgement.state == WeekState.SURGE)] = WeekState.ABOVE  # no illness, no surge
    past = judgement.weeks < len(panel.periods)
    (scores, variances), bounds = judgement.scores(), judgement.threshold_score()
    backtest = backtest_surges_ahead(
        scores[:, past],
        bounds[:, past],
        horizon_weeks=params.horizon_weeks,
        alpha=params.alpha,
        score_variances=variances[:, past],
        seed=params.seed,
    )
    ahead = predict_surges_ahead(
        scores[:, past],
        bounds[:, ~past],
        score_variances=variances[:, past],
        odds_factor=backtest.odds_factor,
        seed=params.seed,
    )
    now = int(past.sum()) - 1
    week = panel.periods[-1].date()
    current = _current_table(judgement, names, now, ahead)
    forecasts = forecast_series(panel, names, params.horizon_weeks, inputs.published)
    watched = current[current["kind"] != "total"]
    return Result(
        analysis=ANALYSIS,
        title=TITLE,
        headline=_headline(watched, week),
        finding=_finding(watched),
        data_from=inputs.covered_from,
        data_until=inputs.reported.last_day,
        metrics=_metrics(watched, week, backtest, params) | forecasts.metrics,
        tables={
            "current": Table.from_frame(f"Week of {week:%d %B %Y}: each series against its past", current),
            "alerts": Table.from_frame("Alerts", _alerts_table(watched, week)),
            "weekly": Table.from_frame("Past weeks", _weekly_table(judgement, names, panel, past, params)),
            "ahead": Table.from_frame("Probability of exceeding the threshold", _ahead_table(names, panel, ahead)),
        }
        | forecasts.tables,
        warnings=(*inputs.reported.notes(), *_warnings(inputs, panel, current, params)),
        disclosure=disclosure(EVERYTHING, EVERYWHERE),
        lake_rows={"surges": Table.from_frame("State of every series", _kept_states(current, week)), **forecasts.kept},
    )


def _current_table(judgement: SurgeJudgement, names: pd.DataFrame, now: int, ahead: SurgeAhead) -> pd.DataFrame:
    """One row a series: what was seen, what was expected, and what it amounts to; the most surprising first."""
    table = pd.DataFrame(
        {
            "condition": names["condition"],
            "site": names["site"],
            "kind": names["kind"],
            "state": [str(state) for state in judgement.state[:, now]],
            "observed": judgement.observed[:, now],
            "expected": judgement.expected[:, now].round(1),
            "threshold": judgement.threshold[:, now],
            "p_value": judgement.p_value[:, now],
            "adjusted_p_value": judgement.adjusted_p_value[:, now],
            "false_alarms_a_year": judgement.false_alarms_a_year[:, now].round(3),
            "compared_with": [str(one) for one in judgement.comparison[:, now]],
            "probability_any_week_ahead": ahead.any_week,
        }
    )
    order = {WeekState.SURGE: 0, WeekState.ABOVE: 1, WeekState.QUIET: 2, WeekState.NOT_JUDGED: 3}
    rank = table["state"].map({str(state): place for state, place in order.items()})
    by_kind = table["kind"].map({"condition": 0, "condition at a site": 1, "total": 2})
    return table.assign(_rank=rank, _kind=by_kind).sort_values(["_kind", "_rank", "p_value"], kind="stable")[
        list(table.columns)
    ]


def _kept_states(current: pd.DataFrame, week: dt.date) -> pd.DataFrame:
    """One row a series, as ``analytics.surges`` keeps them; series that share a name are told apart by kind."""
    kept = current[["observed", "expected", "threshold", "p_value", "adjusted_p_value", "state"]]
    names = current["kind"] + ": " + current["condition"] + " | " + current["site"]
    return kept.assign(unique_id=names, ds=week.isoformat())


def _alerts_table(watched: pd.DataFrame, week: dt.date) -> pd.DataFrame:
    """One row an alert, confirmed or not, with a sentence that says how often chance alone raises one like it."""
    alerts = watched[watched["state"].isin([WeekState.SURGE, WeekState.ABOVE])]
    alerts = alerts.sort_values("p_value", kind="stable")
    says = [
        f"{_name(row)}: {row['observed']:.0f} admissions in the week of {week.isoformat()}, about "
        f"{row['expected']:.0f} expected ({probability(row['p_value'])}; after correction "
        f"{probability(row['adjusted_p_value'])}). "
        f"In quiet times this series exceeds its threshold {row['false_alarms_a_year']:.2f} times a year."
        for _, row in alerts.iterrows()
    ]
    columns = ["condition", "site", "state", "observed", "expected", "threshold", "false_alarms_a_year"]
    return alerts[columns].assign(says=np.array(says, dtype=object))


def _weekly_table(
    judgement: SurgeJudgement, names: pd.DataFrame, panel: Panel, past: NDArray[np.bool_], params: Params
) -> pd.DataFrame:
    """The past weeks of the series over all sites, long."""
    columns = np.flatnonzero(past)[-params.weeks_shown :]
    rows = np.flatnonzero((names["site"] == EVERYWHERE).to_numpy())
    part = np.ix_(rows, columns)
    weeks = panel.periods[judgement.weeks[columns]]
    return pd.DataFrame(
        {
            "condition": np.repeat(names["condition"].to_numpy()[rows], len(columns)),
            "week": np.tile(weeks.date, len(rows)),
            "observed": judgement.observed[part].ravel(),
            "expected": judgement.expected[part].ravel().round(1),
            "threshold": judgement.threshold[part].ravel(),
            "p_value": judgement.p_value[part].ravel().round(6),
            "state": [str(state) for state in judgement.state[part].ravel()],
        }
    )


def _ahead_table(names: pd.DataFrame, panel: Panel, ahead: SurgeAhead) -> pd.DataFrame:
    weeks = panel.future(ahead.each_week.shape[1])
    table = pd.DataFrame({"condition": names["condition"], "site": names["site"]})
    for step, week in enumerate(weeks):
        table[f"week of {week.date().isoformat()}"] = ahead.each_week[:, step]
    table["any of them"] = ahead.any_week
    return table[names["kind"] != "total"].sort_values("any of them", ascending=False, kind="stable")


def _headline(watched: pd.DataFrame, week: dt.date) -> str:
    judged = watched[watched["state"] != WeekState.NOT_JUDGED]
    when = f"in the week of {week.day} {week:%B %Y}"
    if judged.empty:
        return f"Too little history to look for surges {when}: at least nine weeks of reports are needed."
    surges, above = judged[judged["state"] == WeekState.SURGE], judged[judged["state"] == WeekState.ABOVE]
    series = counted(len(judged), "series", "series")
    if len(surges):
        return (
            f"Surge {when}: {listed(_told(surges), most=4)}, confirmed after correction for looking at {series}; "
            f"chance alone crosses {'its threshold' if len(surges) == 1 else 'these thresholds'} about "
            f"{surges['false_alarms_a_year'].sum():.1f} times a year."
        )
    if len(above):
        return (
            f"No confirmed surge {when}: {listed([_name(row) for _, row in above.iterrows()], most=4)} lay above the "
            f"threshold, but among {series} chance alone does that about "
            f"{judged['false_alarms_a_year'].sum():.1f} times a year."
        )
    return f"No surge {when}: all {series} watched lay within what their past leads one to expect."


def _told(surges: pd.DataFrame) -> list[str]:
    """Each condition once: with its numbers over all sites, if these are a surge, and the sites that have their own."""
    told = []
    for name, rows in surges.groupby("condition", sort=False):
        here = [
            f"{row['site']} ({row['observed']:.0f}, about {row['expected']:.0f} expected)"
            for _, row in rows[rows["site"] != EVERYWHERE].iterrows()
        ]
        whole = rows[rows["site"] == EVERYWHERE]
        if whole.empty:
            told.append(f"{name} at {listed(here, most=3)}")
            continue
        seen = f"{whole['observed'].iloc[0]:.0f} admissions, about {whole['expected'].iloc[0]:.0f} expected"
        told.append(f"{name} ({seen})" + (f", also by itself at {listed(here, most=3)}" if here else ""))
    return told


def _name(row: pd.Series[Any]) -> str:
    return str(row["condition"]) if row["site"] == EVERYWHERE else f"{row['condition']} at {row['site']}"


def _finding(watched: pd.DataFrame) -> Finding:
    if (watched["state"] == WeekState.SURGE).any():
        return Finding.SIGNAL
    return Finding.TOO_LITTLE if (watched["state"] == WeekState.NOT_JUDGED).all() else Finding.NOTHING


def _metrics(watched: pd.DataFrame, week: dt.date, backtest: AheadBacktest, params: Params) -> dict[str, Scalar]:
    judged = watched[watched["state"] != WeekState.NOT_JUDGED]
    return {
        "week": week.isoformat(),
        "series_judged": len(judged),
        "series_not_judged": len(watched) - len(judged),
        "surges_confirmed": int((watched["state"] == WeekState.SURGE).sum()),
        "series_above_threshold": int(watched["state"].isin([WeekState.ABOVE, WeekState.SURGE]).sum()),
        "false_alarms_a_year_expected": _finite(judged["false_alarms_a_year"].sum(), 2),
        "smallest_adjusted_p_value": _finite(judged["adjusted_p_value"].min(), 6),
        "horizon_weeks": params.horizon_weeks,
        "ahead_origins": backtest.origins,
        "ahead_brier": _finite(backtest.brier_any, 5),
        "ahead_brier_constant": _finite(backtest.constant_brier_any, 5),
        "ahead_said_percent": _finite(100 * backtest.said_any.mean(), 2) if backtest.origins else None,
        "ahead_came_percent": _finite(100 * backtest.came_any.mean(), 2) if backtest.origins else None,
    }


def _finite(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _warnings(inputs: Inputs, panel: Panel, current: pd.DataFrame, params: Params) -> tuple[str, ...]:
    warnings = [str(one) for one in panel.dropped]
    if inputs.conditions > params.most_conditions:
        warnings.append(
            f"Only the {params.most_conditions} most frequent of {inputs.conditions:,} conditions are watched."
        )
    watched = current[current["kind"] != "total"]
    if (watched["compared_with"] == Comparison.WEEKS).any():
        number = int((watched["compared_with"] == Comparison.WEEKS).sum())
        warnings.append(
            f"{counted(number, 'series', 'series')} with less than {params.minimum_history_years} years of history "
            "were compared with seven weeks only, which knows no season."
        )
    surging = watched.loc[watched["state"] == WeekState.SURGE, "condition"].drop_duplicates()
    if len(surging):
        warnings.append(
            f"Forecasts of {listed(surging.tolist(), most=4)} rest on the usual past: they do not know how long the "
            "present surge will last, and may be too low."
        )
    unjudged = watched[watched["state"] == WeekState.NOT_JUDGED]
    if len(unjudged):
        names = listed([_name(row) for _, row in unjudged.iterrows()], most=4)
        warnings.append(f"Not judged, for too little history or nothing reported: {names}.")
    total = current[current["kind"] == "total"].iloc[0]
    if total["p_value"] <= params.alpha:
        warnings.append(
            f"All admissions together were above their threshold, too ({total['observed']:.0f}, "
            f"{total['expected']:.0f} expected, {probability(total['p_value'])}): a change in reporting or in the "
            "catchment explains that as well as an illness does."
        )
    return tuple(warnings)


def _too_little(inputs: Inputs, headline: str) -> Result:
    return Result(
        analysis=ANALYSIS,
        title=TITLE,
        headline=headline,
        finding=Finding.TOO_LITTLE,
        data_from=inputs.covered_from,
        data_until=inputs.reported.last_day,
    )


def figures(result: Result) -> list[Figure]:
    """The most surprising conditions against their thresholds, and every condition's weeks at a glance."""
    if "weekly" not in result.tables:
        return []
    from medisync.analyses.illness_surge_prediction_figures import condition_panels, week_grid

    return [condition_panels(result), week_grid(result)]
