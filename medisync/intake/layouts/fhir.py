"""FHIR R4: the tables that :mod:`medisync.intake.formats.fhir` makes of resources. https://hl7.org/fhir/R4/"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync.intake.feeds import Check, Feed, Kind
from medisync.intake.formats.fhir import RESOURCES
from medisync.intake.layouts import values
from medisync.intake.layouts.dates import Dates
from medisync.intake.layouts.layout import Layout, Reading, Role, named
from medisync.intake.layouts.names import Joined, lookup
from medisync.intake.reading import identifier
from medisync.intake.reasons import Notice, RowFault
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

CLASSES = {
    "amb": "ambulatory",
    "emer": "emergency",
    "fld": "field",
    "hh": "home health",
    "imp": "inpatient encounter",
    "acute": "inpatient acute",
    "nonac": "inpatient non-acute",
    "obsenc": "observation encounter",
    "prenc": "pre-admission",
    "ss": "short stay",
    "vr": "virtual",
}
"""http://terminology.hl7.org/CodeSystem/v3-ActCode, ActEncounterCode: code -> display."""

DATES = {
    "Patient": ("birthDate",),
    "Encounter": ("period.start", "period.end"),
    "Condition": ("recordedDate",),
    "MedicationRequest": ("authoredOn",),
}
ROLES = tuple(
    Role(
        name,
        required=tuple(columns),
        dates=DATES.get(name, ()),
        resource=name,
        names_only=name in ("Organization", "Medication"),
    )
    for name, columns in RESOURCES.items()
)


def _deleted(column: str, *codes: str) -> str:
    states = ", ".join(values.literal(code) for code in codes)
    return f"coalesce(\"deleted\" = 'true' OR {identifier(column)} IN ({states}), false)"


def _unless_deleted(checks: Sequence[Check], deleted: str) -> tuple[Check, ...]:
    """A record that is taken back need not be whole."""
    return tuple(Check(one.column, one.fault, f"({one.condition}) AND NOT {deleted}") for one in checks)


def _patients(reading: Reading, source: Source) -> Feed:
    deleted = "coalesce(\"deleted\" = 'true', false)"
    return Feed(
        part=reading.part,
        table=reading.table,
        columns=reading.role.columns,
        typed={"v_birth": values.moment("birthDate", reading.dates), "v_gender": values.gender("gender")},
        checks=(*values.needed("id"), *_unless_deleted(values.dated("birthDate", "v_birth"), deleted)),
        values={Kind.PATIENTS: {"gender": "v_gender", "birth_date": "v_birth::DATE"}},
        patient=values.scoped('"id"', source.patient_system, source.name),
        deleted=deleted,
        names=("name.given", "name.family"),
    )


def _encounters(
    cursor: duckdb.DuckDBPyConnection, reading: Reading, readings: Sequence[Reading], source: Source
) -> Feed:
    joined = Joined(reading)
    joined.add(lookup(readings, "Organization", "id", "name"), "serviceProvider", c0="organization")
    joined.add(lookup(readings, "Patient", "id", "birthDate"), "subject", c0="birth")
    table = f"{reading.table}_joined"
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {joined.sql}")
    deleted = _deleted("status", "entered-in-error", "cancelled")
    site = 'coalesce("serviceProvider.display", "organization")'
    admission = {
        "site": f'coalesce({site}, "serviceProvider")',
        "admission_type": f'coalesce("class.display", {values.coded(identifier("class"), CLASSES)})',
        "admitted_at": "v_admitted_at",
        "discharged_at": values.DISCHARGED_AT,
    }
    typed = {
        "v_admitted_at": values.moment("period.start", reading.dates),
        "v_discharged_at": values.moment("period.end", reading.dates),
    }
    checks: tuple[Check, ...] = (
        *values.needed("subject", "period.start"),
        *values.admitted("period.start", "v_admitted_at"),
        *values.discharged("period.end", "v_discharged_at", "v_admitted_at"),
    )
    patients = named(readings, "Patient")
    if patients:
        typed["v_birth"] = patients[0].dates.get("birthDate", Dates()).sql('"birth"')
        admission["age_years"] = values.full_years("v_birth", "v_admitted_at")
        checks = (*checks, *values.born("subject", "v_birth", "v_admitted_at", source.thresholds.oldest_age_years))
    return Feed(
        part=reading.part,
        table=table,
        columns=tuple(joined.columns),
        typed=typed,
        checks=(*values.needed("id"), *_unless_deleted(checks, deleted)),
        notices={Notice.CODE_WITHOUT_NAME.value: f'"serviceProvider" IS NOT NULL AND {site} IS NULL'},
        values={Kind.ADMISSIONS: admission},
        admission='"id"',
        patient=values.scoped('"subject"', source.patient_system, source.name),
        practitioner=values.scoped('"participant"', None, source.name),
        deleted=deleted,
    )


def _conditions(reading: Reading, source: Source) -> Feed:
    deleted = _deleted("verificationStatus", "entered-in-error", "refuted")
    checks = (*values.needed("subject", "code.text"), *values.admitted("recordedDate", "v_recorded_at"))
    checks = tuple(
        one if one.column != "code.text" else Check(one.column, one.fault, '"code.text" IS NULL AND "code" IS NULL')
        for one in checks
    )
    return Feed(
        part=reading.part,
        table=reading.table,
        columns=reading.role.columns,
        typed={"v_recorded_at": values.moment("recordedDate", reading.dates)},
        checks=_unless_deleted(checks, deleted),
        notices={Notice.CODE_WITHOUT_NAME.value: '"code.text" IS NULL'},
        values={
            Kind.CONDITIONS: {
                "condition": 'coalesce("code.text", "code")',
                "code": '"code"',
                "code_system": '"code.system"',
                "recorded_at": "v_recorded_at",
            }
        },
        admission='"encounter"',
        patient=values.scoped('"subject"', source.patient_system, source.name),
        deleted=deleted,
        passed_over=f'"encounter" IS NULL AND NOT {deleted}',
    )


def _requests(cursor: duckdb.DuckDBPyConnection, reading: Reading, readings: Sequence[Reading], source: Source) -> Feed:
    joined = Joined(reading)
    medications = lookup(readings, "Medication", "id", "code.text", "code", "code.system")
    joined.add(medications, "medicationReference", c0="name", c1="named code", c2="named system")
    table = f"{reading.table}_joined"
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {joined.sql}")
    deleted = _deleted("status", "entered-in-error", "cancelled")
    name = 'coalesce("medication", "name")'
    code = 'coalesce("medication.code", "named code", "medicationReference")'
    checks = (
        *values.needed("subject"),
        Check("medication", RowFault.MISSING_VALUE, f"{name} IS NULL AND {code} IS NULL"),
        *values.admitted("authoredOn", "v_prescribed_at"),
    )
    return Feed(
        part=reading.part,
        table=table,
        columns=tuple(joined.columns),
        typed={"v_prescribed_at": values.moment("authoredOn", reading.dates)},
        checks=_unless_deleted(checks, deleted),
        notices={Notice.CODE_WITHOUT_NAME.value: f"{name} IS NULL"},
        values={
            Kind.PRESCRIPTIONS: {
                "medication": f"coalesce({name}, {code})",
                "code": 'coalesce("medication.code", "named code")',
                "code_system": 'coalesce("medication.system", "named system")',
                "prescribed_at": "v_prescribed_at",
            }
        },
        admission='"encounter"',
        patient=values.scoped('"subject"', source.patient_system, source.name),
        deleted=deleted,
        passed_over=f'"encounter" IS NULL AND NOT {deleted}',
    )


def feeds(cursor: duckdb.DuckDBPyConnection, readings: Sequence[Reading], source: Source) -> list[Feed]:
    return [
        *(_patients(one, source) for one in named(readings, "Patient")),
        *(_encounters(cursor, one, readings, source) for one in named(readings, "Encounter")),
        *(_conditions(one, source) for one in named(readings, "Condition")),
        *(_requests(cursor, one, readings, source) for one in named(readings, "MedicationRequest")),
    ]


FHIR_R4 = Layout(name="fhir_r4", roles=ROLES, feeds=feeds)
