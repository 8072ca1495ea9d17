"""The two questions :mod:`medisync.analyses.illness_prediction` asks the lake, each in one pass over the admissions."""

from __future__ import annotations

from collections.abc import Sequence

from medisync.analyses.clinical_sql import age_band, known
from medisync.stats.age_bands import UNKNOWN, AgeBands

OTHER = "Other"
NEVER_POOLED = ("gender", "age_band", "season", "weekday")


RAW = {
    "gender": "coalesce(p.gender, '')",
    "age_band": "coalesce(a.age_years, -1)",
    "blood_type": "coalesce(p.blood_type, '')",
    "admission_type": "coalesce(a.admission_type, '')",
    "insurer": "coalesce(a.insurer, '')",
    "test_result": "coalesce(a.test_result, '')",
    "season": "quarter(a.admitted_at)",
    "weekday": "dayname(a.admitted_at)",
    "site": "coalesce(a.site, '')",
}
"""What is read per admission, never NULL; naming it (:func:`_named`) is left to the far fewer groups."""


def _named(factor: str, bands: AgeBands) -> str:
    """The level of ``factor`` as text, "Unknown" where it is."""
    special = {"age_band": age_band("age_band", bands), "season": "'Q' || season", "weekday": "weekday"}
    return special.get(factor) or known(factor)


def _facts(factors: Sequence[str], where: str) -> str:
    """One row per admission and condition: patient, condition and each factor as read."""
    needs_patients = any("p." in RAW[factor] for factor in factors)
    patients = "LEFT JOIN clinical.patients p ON p.patient_key = a.patient_key AND p.source = a.source"
    return f"""
        SELECT coalesce(a.patient_key, a.admission_key) AS patient, coalesce(c.condition, '') AS condition,
               {", ".join(f"{RAW[factor]} AS {factor}" for factor in factors)}
        FROM clinical.admissions a
        JOIN clinical.conditions c ON c.admission_key = a.admission_key
        {patients if needs_patients else ""}
        WHERE {where}
    """


def counts_sql(
    factors: Sequence[str], bands: AgeBands, where: str, *, conditions: int, groups: int, smallest_group: int
) -> str:
    """Columns factor, condition, level, cases; all but the largest conditions and levels pooled as "Other"."""
    sets = ", ".join(f"(condition, {factor})" for factor in factors)
    kept_whole = ", ".join(f"'{factor}'" for factor in NEVER_POOLED)
    named = ", ".join(f"CASE WHEN {one} IS NOT NULL THEN {_named(one, bands)} END AS {one}" for one in factors)
    return f"""
    WITH facts AS ({_facts(factors, where)}), raw_counts AS (
        SELECT condition, {", ".join(factors)}, count(*) AS cases FROM facts GROUP BY GROUPING SETS ({sets})
    ), counts AS (
        SELECT {known("condition")} AS condition, {named}, cases FROM raw_counts
    ), long AS (
        SELECT factor, condition, level, cases
        FROM (UNPIVOT counts ON {", ".join(factors)} INTO NAME factor VALUE level)
    ), condition_sizes AS (
        SELECT condition, row_number() OVER (ORDER BY sum(cases) DESC, condition) AS place
        FROM long WHERE factor = '{factors[0]}' AND condition <> '{UNKNOWN}' GROUP BY condition
    ), level_sizes AS (
        SELECT factor, level, row_number() OVER (PARTITION BY factor ORDER BY sum(cases) DESC, level) AS place
        FROM long WHERE level <> '{UNKNOWN}' GROUP BY factor, level
        HAVING factor IN ({kept_whole}) OR sum(cases) >= {smallest_group}
    )
    SELECT factor,
           CASE WHEN condition = '{UNKNOWN}' OR c.place <= {conditions} THEN condition ELSE '{OTHER}' END AS condition,
           CASE WHEN level = '{UNKNOWN}' OR l.place <= {groups} THEN level ELSE '{OTHER}' END AS level,
           sum(cases)::DOUBLE AS cases
    FROM long LEFT JOIN condition_sizes c USING (condition) LEFT JOIN level_sizes l USING (factor, level)
    GROUP BY ALL ORDER BY ALL
    """


def repeats_sql(factors: Sequence[str], bands: AgeBands, where: str, *, one_patient_in: int) -> str:
    """What patients counted more than once add to the sums of squares and products of a table.

    Columns factor, condition (NULL: margin), level (NULL: margin), squares, products: with m a patient's count in the
    cell and M in the factor's table, the sums of m*m - m and of m*M - m over every ``one_patient_in``-th patient,
    scaled up to all. Parameters: the list of conditions and the list of "factor|level" that are not pooled.
    """
    sampled = f"{where} AND hash(coalesce(a.patient_key, a.admission_key)) % {one_patient_in} = 0"
    named = ", ".join(f"{_named(one, bands)} AS {one}" for one in factors)
    return f"""
    WITH facts AS ({_facts(factors, sampled)}), returning_patients AS (
        SELECT patient FROM facts GROUP BY patient HAVING count(*) > 1
    ), theirs AS (
        SELECT patient, {known("condition")} AS condition, {named}
        FROM facts SEMI JOIN returning_patients USING (patient)
    ), long AS (
        SELECT patient, factor,
               CASE WHEN list_contains(?::VARCHAR[], condition) THEN condition ELSE '{OTHER}' END AS condition,
               CASE WHEN list_contains(?::VARCHAR[], factor || '|' || level) THEN level ELSE '{OTHER}' END AS level
        FROM (UNPIVOT theirs ON {", ".join(factors)} INTO NAME factor VALUE level)
        WHERE condition <> '{UNKNOWN}' AND level <> '{UNKNOWN}'
    ), per_patient AS (
        SELECT factor, patient, condition, level, count(*) AS m FROM long
        GROUP BY GROUPING SETS (
            (factor, patient, condition, level), (factor, patient, condition), (factor, patient, level),
            (factor, patient))
    ), totals AS (
        SELECT factor, patient, m AS total FROM per_patient WHERE condition IS NULL AND level IS NULL
    )
    SELECT factor, condition, level, {one_patient_in}::DOUBLE * sum(m * m - m) AS squares,
           {one_patient_in}::DOUBLE * sum(m * total - m) AS products
    FROM per_patient JOIN totals USING (factor, patient) GROUP BY factor, condition, level ORDER BY ALL
    """
