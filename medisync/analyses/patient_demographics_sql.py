"""The question :mod:`medisync.analyses.patient_demographics` asks the lake: each patient once a period, counted.

What DuckDB keeps of a patient while it groups can go to the disk only if it is of a fixed size, which texts and structs
are not. So an admission becomes one whole number of 127 bits, and the largest of a patient's is the latest admission:
its time, the place of the patient's gender and blood type among all such pairs, the place of type of admission and
insurer among theirs, and the age. Places are those of the alphabet, so of two admissions at one moment the same one is
taken every time. Words are cleaned once a pair, not once an admission.
"""

from __future__ import annotations

import datetime as dt

from medisync.analyses.clinical_sql import known

NOW, BEFORE = "now", "before"

PAIR_BITS, AGE_BITS = 30, 17
TRAITS_BITS = 2 * PAIR_BITS + AGE_BITS
"""What is left of the 127 for the time, 50 bits of microseconds, are 35 years; periods are of 20 at most."""
NO_AGE = 1 << 15
"""One more than the largest SMALLINT stands for an unknown age, the last of all. Added to each, none is below 0."""


def counts_sql(now_from: dt.date, before_from: dt.date) -> str:
    """Columns characteristic, period, level, age_years, patients, admissions of these patients.

    Without a characteristic: a row for each gender (in ``level``) and age; with one, a row for each level of it.
    """
    return f"""
    WITH patient_pairs AS MATERIALIZED (
        SELECT *, dense_rank() OVER (ORDER BY gender, blood_type) AS place
        FROM (SELECT stored_gender, stored_blood_type, lower({known("stored_gender")}) AS gender,
                     {known("stored_blood_type")} AS blood_type
              FROM (SELECT coalesce(gender, '') AS stored_gender, coalesce(blood_type, '') AS stored_blood_type
                    FROM clinical.patients GROUP BY ALL
                    UNION SELECT '', ''))
    ), nobody AS (
        SELECT place FROM patient_pairs WHERE stored_gender = '' AND stored_blood_type = ''
    ), admission_pairs AS MATERIALIZED (
        SELECT *, dense_rank() OVER (ORDER BY admission_type, insurer) AS place
        FROM (SELECT stored_type, stored_insurer, {known("stored_type")} AS admission_type,
                     {known("stored_insurer")} AS insurer
              FROM (SELECT coalesce(admission_type, '') AS stored_type, coalesce(insurer, '') AS stored_insurer
                    FROM clinical.admissions WHERE admitted_at >= DATE '{before_from}' GROUP BY ALL))
    ), patients AS (
        SELECT p.source, p.patient_key, pair.place
        FROM clinical.patients p JOIN patient_pairs pair
        ON coalesce(p.gender, '') = pair.stored_gender AND coalesce(p.blood_type, '') = pair.stored_blood_type
    ), facts AS (
        SELECT coalesce(a.patient_key, a.admission_key) AS patient, a.admitted_at >= DATE '{now_from}' AS is_now,
               ((epoch_us(a.admitted_at) - epoch_us(TIMESTAMP '{before_from}'))::HUGEINT << {TRAITS_BITS})
               + (((coalesce(p.place, (FROM nobody)) << {PAIR_BITS}) + pair.place)::HUGEINT << {AGE_BITS})
               + coalesce(a.age_years::INTEGER, {NO_AGE}) + {NO_AGE} AS packed
        FROM clinical.admissions a
        JOIN admission_pairs pair
        ON coalesce(a.admission_type, '') = pair.stored_type AND coalesce(a.insurer, '') = pair.stored_insurer
        LEFT JOIN patients p ON p.patient_key = a.patient_key AND p.source = a.source
        WHERE a.admitted_at >= DATE '{before_from}'
    ), latest AS (
        SELECT is_now, count(*) AS admissions, max(packed) & {_ones(TRAITS_BITS)} AS traits
        FROM facts GROUP BY is_now, patient
    ), alike AS (
        SELECT is_now, traits, count(*) AS patients, sum(admissions) AS admissions FROM latest GROUP BY is_now, traits
    ), named AS MATERIALIZED (
        SELECT if(is_now, '{NOW}', '{BEFORE}') AS period, gender, blood_type, admission_type, insurer,
               (nullif(traits & {_ones(AGE_BITS)}, {2 * NO_AGE}) - {NO_AGE})::DOUBLE AS age_years, patients, admissions
        FROM alike
        JOIN (SELECT DISTINCT gender, blood_type, place FROM patient_pairs) p
        ON p.place = traits >> {PAIR_BITS + AGE_BITS}
        JOIN (SELECT DISTINCT admission_type, insurer, place FROM admission_pairs) a
        ON a.place = (traits >> {AGE_BITS}) & {_ones(PAIR_BITS)}
    )
    SELECT NULL AS characteristic, period, gender AS level, age_years, sum(patients)::BIGINT AS patients,
           sum(admissions)::BIGINT AS admissions
    FROM named GROUP BY ALL
    UNION ALL
    SELECT characteristic, period, level, NULL, sum(patients)::BIGINT, 0
    FROM (UNPIVOT named ON gender, blood_type, admission_type, insurer INTO NAME characteristic VALUE level)
    GROUP BY ALL ORDER BY ALL
    """


def _ones(bits: int) -> str:
    """A mask of as many bits."""
    return f"{(1 << bits) - 1}::HUGEINT"
