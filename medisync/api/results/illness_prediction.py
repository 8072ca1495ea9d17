"""Illness and patient factors."""

from __future__ import annotations

from medisync.api.results.parts import Count, Flag, Number, Part, ResultOf, TableOf, Text

VERSION = 1


class IllnessPredictionMetrics(Part):
    """The numbers of the headline and around it."""

    admissions_count: Count = None
    patients_count: Count = None
    conditions_count: Count = None
    factors_tested_count: Count = None
    factors_associated_count: Count = None
    smallest_adjusted_p_value: Number = None
    largest_cramers_v: Number = None
    alpha: Number = None


class IllnessPredictionFactorsRow(Part):
    """Association of each factor with the condition."""

    factor: Text
    label: Text
    groups: Count
    cases: Count
    cases_unknown: Count
    chi_square: Number
    degrees_of_freedom: Count
    smallest_expected: Number
    method: Text
    design_effect: Number
    p_value: Number
    p_adjusted: Number
    cramers_v: Number
    cramers_v_low: Number
    cramers_v_high: Number
    w_high: Number
    strength: Text
    verdict: Text


class IllnessPredictionDeparturesRow(Part):
    """Largest departures from what is expected without association."""

    factor: Text
    condition: Text
    group: Text
    observed: Count
    expected: Number
    adjusted_residual: Number
    p_adjusted: Number
    beyond_chance: Flag


class IllnessPredictionCellsRow(Part):
    """Conditions by type of admission, observed and expected."""

    condition: Text
    group: Text
    observed: Count
    expected: Number
    adjusted_residual: Number
    p_adjusted: Number
    beyond_chance: Flag


class IllnessPredictionTables(Part):
    """The data behind headline and figures."""

    factors: TableOf[IllnessPredictionFactorsRow] | None = None
    departures: TableOf[IllnessPredictionDeparturesRow] | None = None
    cells: TableOf[IllnessPredictionCellsRow] | None = None


class IllnessPredictionResult(ResultOf[IllnessPredictionMetrics, IllnessPredictionTables]):
    """Illness and patient factors, version 1."""
