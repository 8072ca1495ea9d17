"""Medications."""

from __future__ import annotations

from medisync.api.results.parts import Count, Number, Part, ResultOf, TableOf, Text

VERSION = 1


class MedicationAnalysisMetrics(Part):
    """The numbers of the headline and around it."""

    medications_count: Count = None
    prescriptions_count: Count = None
    patients_count: Count = None
    even_use_p_value: Number = None
    gini: Number = None
    gini_if_even: Number = None
    class_a_medications_count: Count = None
    class_a_medications_low: Count = None
    class_a_medications_high: Count = None
    largest_share_percent: Number = None


class MedicationAnalysisMedicationsRow(Part):
    """Medications by prescriptions and by patients."""

    medication: Text
    prescriptions: Count
    prescriptions_rank: Count
    prescriptions_share: Number
    prescriptions_cumulative_share: Number
    prescriptions_class: Text
    patients: Count
    patients_rank: Count
    patients_share: Number
    patients_cumulative_share: Number
    patients_class: Text


class MedicationAnalysisConcentrationRow(Part):
    """Even use tested, and how concentrated use is."""

    counted_by: Text
    total: Count
    medications: Count
    chi_square: Number
    degrees_of_freedom: Count
    method: Text
    design_effect: Number
    p_value: Number
    p_adjusted: Number
    cohens_w: Number
    gini: Number
    gini_if_even: Number
    class_a_medications: Count
    class_a_low: Count
    class_a_high: Count
    class_a_if_even: Count
    verdict: Text


class MedicationAnalysisTables(Part):
    """The data behind headline and figures."""

    medications: TableOf[MedicationAnalysisMedicationsRow] | None = None
    concentration: TableOf[MedicationAnalysisConcentrationRow] | None = None


class MedicationAnalysisResult(ResultOf[MedicationAnalysisMetrics, MedicationAnalysisTables]):
    """Medications, version 1."""
