"""OMOP Common Data Model 5.4: person, visit, condition and drug tables, with names from CONCEPT and CARE_SITE.

https://ohdsi.github.io/CommonDataModel/cdm54.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync.intake.feeds import Check, Feed, Kind
from medisync.intake.layouts import values
from medisync.intake.layouts.layout import Layout, Reading, Role, named
from medisync.intake.layouts.names import Joined, lookup
from medisync.intake.reading import identifier
from medisync.intake.reasons import Notice, RowFault
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

VISITS = {
    "9201": "Inpatient Visit",
    "9202": "Outpatient Visit",
    "9203": "Emergency Room Visit",
    "262": "Emergency Room and Inpatient Visit",
    "42898160": "Non-hospital institution Visit",
    "5083": "Telehealth",
    "581476": "Home Visit",
}
"""Visit types by concept id, as CONCEPT has them: they are the same everywhere, so they need no CONCEPT."""

ROLES = (
    Role(
        "person",
        required=("person_id", "gender_concept_id", "year_of_birth"),
        optional=("birth_datetime", "gender_source_value", "month_of_birth", "day_of_birth"),
        dates=("birth_datetime",),
    ),
    Role(
        "visit_occurrence",
        required=("visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date"),
        optional=("visit_start_datetime", "visit_end_date", "visit_end_datetime", "provider_id", "care_site_id"),
        foreign=frozenset({"visit_detail_id"}),
        dates=("visit_start_date", "visit_start_datetime", "visit_end_date", "visit_end_datetime"),
    ),
    Role(
        "condition_occurrence",
        required=("person_id", "condition_concept_id", "condition_start_date", "visit_occurrence_id"),
        optional=("condition_start_datetime", "condition_source_value"),
        dates=("condition_start_date", "condition_start_datetime"),
    ),
    Role(
        "drug_exposure",
        required=("person_id", "drug_concept_id", "drug_exposure_start_date", "visit_occurrence_id"),
        optional=("drug_exposure_start_datetime", "drug_source_value"),
        dates=("drug_exposure_start_date", "drug_exposure_start_datetime"),
    ),
    Role("care_site", required=("care_site_id", "care_site_name"), names_only=True),
    Role("concept", required=("concept_id", "concept_name", "vocabulary_id", "concept_code"), names_only=True),
)


def _person(reading: Reading, source: Source) -> Feed:
    return Feed(
        part=reading.part,
        table=reading.table,
        columns=("person_id", "gender_concept_id", "year_of_birth", "gender_source_value"),
        typed={
            "v_year": 'try_cast("year_of_birth" AS INTEGER)',
            "v_birth": _birth(reading),
            "v_gender": "CASE WHEN \"gender_concept_id\" IN ('8507', '8532') "
            f"THEN {values.gender('gender_concept_id')} ELSE {values.gender('gender_source_value')} END",
        },
        checks=(
            *values.needed("person_id"),
            Check("year_of_birth", RowFault.BAD_NUMBER, '"year_of_birth" IS NOT NULL AND v_year IS NULL'),
            Check("year_of_birth", RowFault.DATE_IN_FUTURE, "v_year > year(getvariable('received_at'))"),
            Check("year_of_birth", RowFault.DATE_TOO_EARLY, "v_year < 1850"),
        ),
        values={Kind.PATIENTS: {"gender": "v_gender", "birth_year": "v_year", "birth_date": "v_birth"}},
        patient=values.scoped('"person_id"', source.patient_system, source.name),
    )


def _birth(reading: Reading) -> str:
    """SQL: a person's day of birth; where month or day are missing, the middle of what is known."""
    month = "coalesce(\"month_of_birth\", '7')"
    day = "coalesce(\"day_of_birth\", CASE WHEN \"month_of_birth\" IS NULL THEN '1' ELSE '15' END)"
    parts = f"try_cast(concat(\"year_of_birth\", '-', {month}, '-', {day}) AS DATE)"
    return f"coalesce({values.moment('birth_datetime', reading.dates)}::DATE, {parts})"


def _births(readings: Sequence[Reading]) -> str | None:
    """A lookup of days of birth by person."""
    persons = named(readings, "person")
    if not persons:
        return None
    rows = " UNION ALL ".join(f'SELECT "person_id" AS key, {_birth(one)} AS c0 FROM {one.table}' for one in persons)
    return f"(SELECT key, max(c0)::VARCHAR AS c0 FROM ({rows}) WHERE key IS NOT NULL GROUP BY key)"


def _visits(cursor: duckdb.DuckDBPyConnection, reading: Reading, readings: Sequence[Reading], source: Source) -> Feed:
    joined = Joined(reading)
    joined.add(lookup(readings, "care_site", "care_site_id", "care_site_name"), "care_site_id", c0="care_site")
    joined.add(lookup(readings, "concept", "concept_id", "concept_name"), "visit_concept_id", c0="visit")
    births = _births(readings)
    joined.add(births, "person_id", c0="birth")
    table = f"{reading.table}_joined"
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {joined.sql}")
    visit_types = f'coalesce("visit", {values.coded(identifier("visit_concept_id"), VISITS)})'
    admission = {
        "site": 'coalesce("care_site", "care_site_id")',
        "admission_type": visit_types,
        "admitted_at": "v_admitted_at",
        "discharged_at": values.DISCHARGED_AT,
    }
    typed = {
        "v_admitted_at": f"coalesce({values.moment('visit_start_datetime', reading.dates)}, "
        f"{values.moment('visit_start_date', reading.dates)})",
        "v_discharged_at": f"coalesce({values.moment('visit_end_datetime', reading.dates)}, "
        f"{values.moment('visit_end_date', reading.dates)})",
    }
    checks = (
        *values.needed("visit_occurrence_id", "person_id", "visit_start_date"),
        *values.admitted("visit_start_date", "v_admitted_at"),
        *values.discharged("visit_end_date", "v_discharged_at", "v_admitted_at"),
    )
    if births:
        typed["v_birth"] = 'try_cast("birth" AS DATE)'
        admission["age_years"] = values.full_years("v_birth", "v_admitted_at")
        checks = (*checks, *values.born("person_id", "v_birth", "v_admitted_at", source.thresholds.oldest_age_years))
    return Feed(
        part=reading.part,
        table=table,
        columns=tuple(joined.columns),
        typed=typed,
        checks=checks,
        notices={Notice.CODE_WITHOUT_NAME.value: '"care_site_id" IS NOT NULL AND "care_site" IS NULL'},
        values={Kind.ADMISSIONS: admission},
        admission='"visit_occurrence_id"',
        patient=values.scoped('"person_id"', source.patient_system, source.name),
        practitioner=values.scoped('"provider_id"', None, source.name),
    )


def _events(
    cursor: duckdb.DuckDBPyConnection, reading: Reading, readings: Sequence[Reading], source: Source, kind: Kind
) -> Feed:
    is_condition = kind is Kind.CONDITIONS
    stem, start = ("condition", "condition_start") if is_condition else ("drug", "drug_exposure_start")
    what, when = ("condition", "recorded_at") if is_condition else ("medication", "prescribed_at")
    concept, source_value = f"{stem}_concept_id", f"{stem}_source_value"
    joined = Joined(reading)
    concepts = lookup(readings, "concept", "concept_id", "concept_name", "concept_code", "vocabulary_id")
    joined.add(concepts, concept, c0="name", c1="code", c2="vocabulary")
    table = f"{reading.table}_joined"
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {joined.sql}")
    # Concept 0 means that nobody found one.
    is_known = f"\"name\" IS NOT NULL AND {identifier(concept)} <> '0'"
    code = f"coalesce({identifier(source_value)}, {identifier(concept)})"
    return Feed(
        part=reading.part,
        table=table,
        columns=tuple(joined.columns),
        typed={
            "v_start": f"coalesce({values.moment(f'{start}_datetime', reading.dates)}, "
            f"{values.moment(f'{start}_date', reading.dates)})",
        },
        checks=(
            *values.needed("person_id", concept),
            *values.admitted(f"{start}_date", "v_start"),
        ),
        notices={Notice.CODE_WITHOUT_NAME.value: f"NOT coalesce({is_known}, false)"},
        values={
            kind: {
                what: f'CASE WHEN {is_known} THEN "name" ELSE {code} END',
                "code": f'CASE WHEN {is_known} THEN "code" ELSE {code} END',
                "code_system": f'CASE WHEN {is_known} THEN "vocabulary" END',
                when: "v_start",
            }
        },
        admission='"visit_occurrence_id"',
        patient=values.scoped('"person_id"', source.patient_system, source.name),
        passed_over='"visit_occurrence_id" IS NULL',
    )


def feeds(cursor: duckdb.DuckDBPyConnection, readings: Sequence[Reading], source: Source) -> list[Feed]:
    return [
        *(_person(one, source) for one in named(readings, "person")),
        *(_visits(cursor, one, readings, source) for one in named(readings, "visit_occurrence")),
        *(_events(cursor, one, readings, source, Kind.CONDITIONS) for one in named(readings, "condition_occurrence")),
        *(_events(cursor, one, readings, source, Kind.PRESCRIPTIONS) for one in named(readings, "drug_exposure")),
    ]


OMOP = Layout(name="omop_5_4", roles=ROLES, feeds=feeds)
