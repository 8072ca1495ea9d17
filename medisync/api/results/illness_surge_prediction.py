"""Illness surges."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from medisync.api.results.parts import Count, Number, Part, ResultOf, ScoreboardRow, TableOf, Text

VERSION = 1


class IllnessSurgePredictionMetrics(Part):
    """The numbers of the headline and around it."""

    week: Text = None
    series_judged: Count = None
    series_not_judged: Count = None
    surges_confirmed: Count = None
    series_above_threshold: Count = None
    false_alarms_a_year_expected: Number = None
    smallest_adjusted_p_value: Number = None
    horizon_weeks: Count = None
    ahead_origins: Count = None
    ahead_brier: Number = None
    ahead_brier_constant: Number = None
    ahead_said_percent: Number = None
    ahead_came_percent: Number = None
    series_forecast: Count = None
    forecast_method: Text = None
    series_forecast_better_than_mean: Count = None
    forecast_coverage_80_percent: Number = None
    forecast_coverage_95_percent: Number = None
    published_forecasts_scored: Count = None
    published_origins: Count = None


class IllnessSurgePredictionCurrentRow(Part):
    """The latest week of each series against its past."""

    condition: Text
    site: Text
    kind: Text
    state: Text
    observed: Number
    expected: Number
    threshold: Number
    p_value: Number
    adjusted_p_value: Number
    false_alarms_a_year: Number
    compared_with: Text
    probability_any_week_ahead: Number


class IllnessSurgePredictionAlertsRow(Part):
    """Alerts."""

    condition: Text
    site: Text
    state: Text
    observed: Number
    expected: Number
    threshold: Number
    false_alarms_a_year: Number
    says: Text


class IllnessSurgePredictionWeeklyRow(Part):
    """Past weeks."""

    condition: Text
    week: Text
    observed: Number
    expected: Number
    threshold: Number
    p_value: Number
    state: Text


class IllnessSurgePredictionAheadRow(Part):
    """Probability of exceeding the threshold, in any of the weeks ahead and in each (`week of <first day>`)."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    __pydantic_extra__: dict[str, Number] = Field(init=False)

    condition: Text
    site: Text
    any_of_them: Number = Field(alias="any of them")


class IllnessSurgePredictionForecastRow(Part):
    """Admissions expected, and how well they were foreseen so far."""

    condition: Text
    site: Text
    next_week: Number
    next_week_lower_80: Number
    next_week_upper_80: Number
    week_4: Number
    week_4_lower_80: Number
    week_4_upper_80: Number
    skill_against_mean_percent: Number
    mase: Number
    inside_80_percent: Number
    p_adjusted: Number
    verdict: Text


class IllnessSurgePredictionForecastWeeksRow(Part):
    """Admissions expected over all sites."""

    condition: Text
    week: Text
    median: Number
    lower_80: Number
    upper_80: Number


class IllnessSurgePredictionScoreboardRow(ScoreboardRow):
    """Forecasts published earlier against what came."""


class IllnessSurgePredictionTables(Part):
    """The data behind headline and figures."""

    current: TableOf[IllnessSurgePredictionCurrentRow] | None = None
    alerts: TableOf[IllnessSurgePredictionAlertsRow] | None = None
    weekly: TableOf[IllnessSurgePredictionWeeklyRow] | None = None
    ahead: TableOf[IllnessSurgePredictionAheadRow] | None = None
    forecast: TableOf[IllnessSurgePredictionForecastRow] | None = None
    forecast_weeks: TableOf[IllnessSurgePredictionForecastWeeksRow] | None = None
    scoreboard: TableOf[IllnessSurgePredictionScoreboardRow] | None = None


class IllnessSurgePredictionResult(ResultOf[IllnessSurgePredictionMetrics, IllnessSurgePredictionTables]):
    """Illness surges, version 1."""
