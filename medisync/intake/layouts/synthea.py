"""Synthea's CSV export: a set of files that refer to each other by UUID.

https://github.com/synthetichealth/synthea/wiki/CSV-File-Data-Dictionary
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync.intake.feeds import Feed, Kind
from medisync.intake.layouts import values
from medisync.intake.layouts.dates import Dates
from medisync.intake.layouts.layout import Layout, Reading, Role, named
from medisync.intake.layouts.names import Joined, lookup
from medisync.intake.reasons import Notice
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"

# Files we do not keep share the columns of conditions, and more: these tell them apart.
NOT_A_CONDITION = frozenset(
    [
        "Id",
        "BASE_COST",
        "COST",
        "DISPENSES",
        "REASONCODE",
        "UDI",
        "VALUE",
        "TYPE",
        "CATEGORY",
        "QUANTITY",
        "REACTION1",
        "MODALITY_CODE",
    ]
)
ROLES = (
    Role(
        "patients",
        required=("Id", "BIRTHDATE", "GENDER", "FIRST", "LAST"),
        optional=("MAIDEN",),
        dates=("BIRTHDATE",),
    ),
    Role(
        "encounters",
        required=("Id", "START", "PATIENT", "ENCOUNTERCLASS"),
        optional=("STOP", "ORGANIZATION", "PROVIDER", "PAYER", "DESCRIPTION", "TOTAL_CLAIM_COST"),
        foreign=frozenset({"ENCOUNTER"}),
        dates=("START", "STOP"),
    ),
    Role(
        "conditions",
        required=("START", "PATIENT", "ENCOUNTER", "CODE", "DESCRIPTION"),
        optional=("STOP", "SYSTEM"),
        foreign=NOT_A_CONDITION,
        other_stems=("allerg", "device", "careplan", "procedure"),
        dates=("START",),
    ),
    Role(
        "medications",
        required=("START", "PATIENT", "ENCOUNTER", "CODE", "DESCRIPTION", "DISPENSES"),
        dates=("START",),
    ),
    Role(
        "organizations",
        required=("Id", "NAME", "UTILIZATION"),
        foreign=frozenset({"AMOUNT_COVERED", "ORGANIZATION", "SPECIALITY"}),
        names_only=True,
    ),
    Role("payers", required=("Id", "NAME", "AMOUNT_COVERED"), names_only=True),
)


def _patients(reading: Reading, source: Source) -> Feed:
    return Feed(
        part=reading.part,
        table=reading.table,
        columns=("Id", "BIRTHDATE", "GENDER", "FIRST", "LAST", "MAIDEN"),
        typed={"v_birth": values.moment("BIRTHDATE", reading.dates), "v_gender": values.gender("GENDER")},
        checks=(*values.needed("Id"), *values.dated("BIRTHDATE", "v_birth")),
        values={Kind.PATIENTS: {"gender": "v_gender", "birth_date": "v_birth::DATE"}},
        patient=values.scoped('"Id"', source.patient_system, source.name),
        names=("FIRST", "LAST", "MAIDEN"),
    )


def _encounters(
    cursor: duckdb.DuckDBPyConnection, reading: Reading, readings: Sequence[Reading], source: Source
) -> Feed:
    joined = Joined(reading)
    joined.add(lookup(readings, "organizations", "Id", "NAME"), "ORGANIZATION", c0="organization name")
    joined.add(lookup(readings, "payers", "Id", "NAME"), "PAYER", c0="payer name")
    births = named(readings, "patients")
    joined.add(lookup(readings, "patients", "Id", "BIRTHDATE"), "PATIENT", c0="birth")
    table = f"{reading.table}_joined"
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {joined.sql}")
    admission = {
        "site": 'coalesce("organization name", "ORGANIZATION")',
        "admission_type": '"ENCOUNTERCLASS"',
        "admitted_at": "v_admitted_at",
        "discharged_at": values.DISCHARGED_AT,
        "insurer": 'coalesce("payer name", "PAYER")',
        "billing_amount": "v_billing",
    }
    typed = {
        "v_admitted_at": values.moment("START", reading.dates),
        "v_discharged_at": values.moment("STOP", reading.dates),
        "v_billing": values.number("TOTAL_CLAIM_COST", reading.sample("TOTAL_CLAIM_COST"), source.decimal),
    }
    checks = (
        *values.needed("Id", "PATIENT", "START"),
        *values.admitted("START", "v_admitted_at"),
        *values.discharged("STOP", "v_discharged_at", "v_admitted_at"),
        *values.priced("TOTAL_CLAIM_COST", "v_billing"),
    )
    if births:
        typed["v_birth"] = births[0].dates.get("BIRTHDATE", Dates()).sql('"birth"')
        admission["age_years"] = values.full_years("v_birth", "v_admitted_at")
        checks = (*checks, *values.born("PATIENT", "v_birth", "v_admitted_at", source.thresholds.oldest_age_years))
    return Feed(
        part=reading.part,
        table=table,
        columns=tuple(joined.columns),
        typed=typed,
        checks=checks,
        notices={
            Notice.NEGATIVE_BILLING.value: "v_billing < 0",
            Notice.CODE_WITHOUT_NAME.value: '("ORGANIZATION" IS NOT NULL AND "organization name" IS NULL) '
            'OR ("PAYER" IS NOT NULL AND "payer name" IS NULL)',
        },
        values={Kind.ADMISSIONS: admission},
        admission='"Id"',
        patient=values.scoped('"PATIENT"', source.patient_system, source.name),
        practitioner=values.scoped('"PROVIDER"', None, source.name),
    )


def _events(reading: Reading, source: Source, kind: Kind) -> Feed:
    is_condition = kind is Kind.CONDITIONS
    system = source.condition_system if is_condition else source.medication_system
    own = 'CASE WHEN "SYSTEM" LIKE \'http%\' THEN "SYSTEM" ELSE ' if is_condition else ""
    default = values.literal(system or (SNOMED if is_condition else RXNORM))
    what, when = ("condition", "recorded_at") if is_condition else ("medication", "prescribed_at")
    return Feed(
        part=reading.part,
        table=reading.table,
        columns=reading.role.columns,
        typed={"v_start": values.moment("START", reading.dates)},
        checks=(*values.needed("PATIENT", "ENCOUNTER", "CODE"), *values.admitted("START", "v_start")),
        notices={Notice.CODE_WITHOUT_NAME.value: '"DESCRIPTION" IS NULL'},
        values={
            kind: {
                what: 'coalesce("DESCRIPTION", "CODE")',
                "code": '"CODE"',
                "code_system": f"{own}{default} END" if own else default,
                when: "v_start",
            }
        },
        admission='"ENCOUNTER"',
        patient=values.scoped('"PATIENT"', source.patient_system, source.name),
    )


def feeds(cursor: duckdb.DuckDBPyConnection, readings: Sequence[Reading], source: Source) -> list[Feed]:
    return [
        *(_patients(one, source) for one in named(readings, "patients")),
        *(_encounters(cursor, one, readings, source) for one in named(readings, "encounters")),
        *(_events(one, source, Kind.CONDITIONS) for one in named(readings, "conditions")),
        *(_events(one, source, Kind.PRESCRIPTIONS) for one in named(readings, "medications")),
    ]


SYNTHEA_CSV = Layout(name="synthea_csv", roles=ROLES, feeds=feeds)
