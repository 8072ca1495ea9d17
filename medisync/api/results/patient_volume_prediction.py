"""Patient volume prediction."""

from __future__ import annotations

from medisync.api.results.parts import Count, Flag, Number, Part, ResultOf, ScoreboardRow, TableOf, Text

VERSION = 1


class PatientVolumePredictionMetrics(Part):
    """The numbers of the headline and around it."""

    admissions: Count = None
    complete_periods: Count = None
    mean_per_week: Number = None
    next_period_median: Number = None
    next_period_lower_80: Number = None
    next_period_upper_80: Number = None
    method: Text = None
    verdict: Text = None
    accuracy_test_p_value: Number = None
    mase: Number = None
    weighted_interval_score: Number = None
    skill_against_mean_percent: Number = None
    skill_against_seasonal_naive_percent: Number = None
    coverage_50_percent: Number = None
    coverage_80_percent: Number = None
    coverage_95_percent: Number = None
    backtest_origins: Count = None
    horizon: Count = None
    frequency: Text = None
    published_forecasts_scored: Count = None
    published_origins: Count = None
    beds: Count = None
    beds_occupied_now: Count = None
    beds_occupied_highest_mean: Number = None
    probability_more_beds_needed_percent: Number = None


class PatientVolumePredictionHistoryRow(Part):
    """Admissions per period."""

    period: Text
    admissions: Number


class PatientVolumePredictionForecastRow(Part):
    """Forecast with 50, 80 and 95 % intervals."""

    period: Text
    step: Count
    lower_95: Number
    lower_80: Number
    lower_50: Number
    median: Number
    upper_50: Number
    upper_80: Number
    upper_95: Number


class PatientVolumePredictionAccuracyRow(Part):
    """Methods tried again at past dates."""

    method: Text
    used: Flag
    mean_absolute_error: Number
    mase: Number
    skill_against_mean_percent: Number
    skill_against_seasonal_naive_percent: Number
    p_value: Number
    verdict: Text


class PatientVolumePredictionScoreboardRow(ScoreboardRow):
    """Forecasts published earlier against what came."""


class PatientVolumePredictionCensusRow(Part):
    """Occupied beds at midnight."""

    day: Text
    mean: Number
    lower_95: Number
    lower_80: Number
    lower_50: Number
    median: Number
    upper_50: Number
    upper_80: Number
    upper_95: Number


class PatientVolumePredictionTables(Part):
    """The data behind headline and figures."""

    history: TableOf[PatientVolumePredictionHistoryRow] | None = None
    forecast: TableOf[PatientVolumePredictionForecastRow] | None = None
    accuracy: TableOf[PatientVolumePredictionAccuracyRow] | None = None
    scoreboard: TableOf[PatientVolumePredictionScoreboardRow] | None = None
    census: TableOf[PatientVolumePredictionCensusRow] | None = None


class PatientVolumePredictionResult(ResultOf[PatientVolumePredictionMetrics, PatientVolumePredictionTables]):
    """Patient volume prediction, version 1."""
