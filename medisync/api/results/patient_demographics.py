"""Patient demographics."""

from __future__ import annotations

from medisync.api.results.parts import Count, Number, Part, ResultOf, TableOf, Text

VERSION = 1


class PatientDemographicsMetrics(Part):
    """The numbers of the headline and around it."""

    patients_count: Count = None
    patients_before_count: Count = None
    admissions_count: Count = None
    patients_all_time_count: Count = None
    period_from: Text = None
    mean_age_years: Number = None
    sd_age_years: Number = None
    median_age_years: Number = None
    youngest_age_years: Number = None
    oldest_age_years: Number = None
    female_percent: Number = None
    male_percent: Number = None
    age_unknown_count: Count = None
    gender_unknown_count: Count = None


class PatientDemographicsPyramidRow(Part):
    """Patients by age band and gender, latest period."""

    age_band: Text
    gender: Text
    patients: Count
    admissions: Count
    patients_before: Count
    share_of_patients_percent: Number


class PatientDemographicsComparisonRow(Part):
    """Latest period compared with the one before."""

    characteristic: Text
    measure: Text
    now: Number
    before: Number
    standardised_difference: Number
    low: Number
    high: Number
    p_adjusted: Number
    verdict: Text


class PatientDemographicsTables(Part):
    """The data behind headline and figures."""

    pyramid: TableOf[PatientDemographicsPyramidRow] | None = None
    comparison: TableOf[PatientDemographicsComparisonRow] | None = None


class PatientDemographicsResult(ResultOf[PatientDemographicsMetrics, PatientDemographicsTables]):
    """Patient demographics, version 1."""
