"""Weekly conditions."""

from __future__ import annotations

from medisync.api.results.parts import Count, Flag, Number, Part, ResultOf, TableOf, Text

VERSION = 1


class PatientHealthTrendsMetrics(Part):
    """The numbers of the headline and around it."""

    complete_weeks_count: Count = None
    incomplete_weeks_count: Count = None
    weeks_without_reports_count: Count = None
    conditions_count: Count = None
    last_complete_week: Text = None
    cases_last_week_count: Count = None
    tests_count: Count = None
    smallest_adjusted_p_value: Number = None
    conditions_rising_count: Count = None
    conditions_falling_count: Count = None


class PatientHealthTrendsRanksRow(Part):
    """A most frequent condition of a week."""

    week: Text
    week_starts: Text
    rank: Count
    tied: Flag
    condition: Text
    cases: Count
    complete: Flag


class PatientHealthTrendsChangesRow(Part):
    """The last complete week compared, and the slope of each condition."""

    condition: Text
    cases_last_week: Number
    mean_of_weeks_before: Number
    change_to_mean_percent: Number
    change_to_mean_percent_low: Number
    change_to_mean_percent_high: Number
    p_adjusted_to_mean: Number
    cases_same_week_last_year: Number
    change_to_last_year_percent: Number
    change_to_last_year_percent_low: Number
    change_to_last_year_percent_high: Number
    p_adjusted_to_last_year: Number
    trend_percent_per_year: Number
    trend_low: Number
    trend_high: Number
    p_adjusted_trend: Number
    dispersion: Number
    note: Text
    verdict: Text


class PatientHealthTrendsWeeklyRow(Part):
    """Cases per week, with the fitted trend."""

    week_starts: Text
    condition: Text
    cases: Number
    trend: Number


class PatientHealthTrendsTables(Part):
    """The data behind headline and figures."""

    ranks: TableOf[PatientHealthTrendsRanksRow] | None = None
    changes: TableOf[PatientHealthTrendsChangesRow] | None = None
    weekly: TableOf[PatientHealthTrendsWeeklyRow] | None = None


class PatientHealthTrendsResult(ResultOf[PatientHealthTrendsMetrics, PatientHealthTrendsTables]):
    """Weekly conditions, version 1."""
