"""Tables of any shape, mapped by their source's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync.intake.feeds import Check, Feed, Kind
from medisync.intake.layouts import values
from medisync.intake.layouts.layout import Layout, Reading, Role
from medisync.intake.reading import identifier
from medisync.intake.reasons import Notice, RowFault
from medisync.intake.sources import Columns, Source

if TYPE_CHECKING:
    import duckdb

NAME = "mapped"
MOMENTS = ("admitted_at", "discharged_at", "birth_date", "recorded_at", "prescribed_at")
TEXTS = ("site", "admission_type", "insurer", "room", "test_result")


def layout_of(source: Source) -> Layout:
    """The layout that ``source`` describes."""
    roles = tuple(
        Role(
            f"table {number}",
            required=tuple(dict.fromkeys((*columns.names(), *((source.deleted.column,) if source.deleted else ())))),
            dates=tuple(name for field in MOMENTS if (name := getattr(columns, field))),
        )
        for number, columns in enumerate(source.mapped, start=1)
    )
    tables = dict(zip((role.name for role in roles), source.mapped, strict=True))

    def feeds(
        cursor: duckdb.DuckDBPyConnection,  # noqa: ARG001
        readings: Sequence[Reading],
        source: Source,
    ) -> list[Feed]:
        return [_feed(reading, tables[reading.role.name], source) for reading in readings]

    return Layout(NAME, roles, feeds)


def _feed(reading: Reading, columns: Columns, source: Source) -> Feed:
    typed: dict[str, str] = {}
    checks: list[Check] = list(values.needed(*dict.fromkeys((*columns.patient, *columns.admission))))
    for field in MOMENTS:
        if column := getattr(columns, field):
            typed[f"v_{field}"] = values.moment(column, reading.dates)
            checks += (values.dated if field == "birth_date" else values.admitted)(column, f"v_{field}")
    if columns.admitted_at:
        checks += values.needed(columns.admitted_at)
        if columns.discharged_at:
            checks += values.discharged(columns.discharged_at, "v_discharged_at", "v_admitted_at")[-1:]
        if columns.birth_date:
            checks += values.born(
                columns.birth_date, "v_birth_date", "v_admitted_at", source.thresholds.oldest_age_years
            )
    if columns.age_years:
        typed["v_age"] = values.number(columns.age_years, reading.sample(columns.age_years), source.decimal)
        checks += values.aged(columns.age_years, "v_age", source.thresholds.oldest_age_years)
    if columns.billing_amount:
        typed["v_billing"] = values.number(
            columns.billing_amount, reading.sample(columns.billing_amount), source.decimal
        )
        checks += values.priced(columns.billing_amount, "v_billing")
    if columns.birth_year:
        typed["v_birth_year"] = f"try_cast({identifier(columns.birth_year)} AS INTEGER)"
        checks.append(
            Check(
                columns.birth_year,
                RowFault.BAD_NUMBER,
                f"{identifier(columns.birth_year)} IS NOT NULL "
                "AND coalesce(v_birth_year NOT BETWEEN 1850 AND 2200, true)",
            )
        )
    deleted = None
    if source.deleted:
        marks = ", ".join(values.literal(one.casefold()) for one in source.deleted.values)
        deleted = f"coalesce({values.lower(source.deleted.column)} IN ({marks}), false)"
        keys = set(values.needed(*dict.fromkeys((*columns.patient, *columns.admission))))
        checks = [
            one if one in keys else Check(one.column, one.fault, f"({one.condition}) AND NOT {deleted}")
            for one in checks
        ]
    patient = values.scoped(_key(columns.patient), source.patient_system, source.name) if columns.patient else None
    return Feed(
        part=reading.part,
        table=reading.table,
        columns=reading.role.columns,
        typed=typed,
        checks=tuple(dict.fromkeys(checks)),
        notices={Notice.NEGATIVE_BILLING.value: "v_billing < 0"} if columns.billing_amount else {},
        values=_values(columns, source),
        admission=_admission(columns),
        patient=patient,
        practitioner=values.scoped(_key(columns.practitioner), None, source.name) if columns.practitioner else None,
        deleted=deleted,
        names=(*columns.patient, *columns.practitioner),
        reader=reading.reader,
    )


def _key(columns: Sequence[str]) -> str:
    """One text of all ``columns``; NULL when one of them is."""
    return " || chr(31) || ".join(values.lower(column) for column in columns)


def _admission(columns: Columns) -> str | None:
    """Without a number of its own an admission is its patient's at its time."""
    if columns.admission:
        return _key(columns.admission)
    if columns.admitted_at:
        return f"{_key(columns.patient)} || chr(31) || strftime(v_admitted_at, '%Y-%m-%dT%H:%M:%S')"
    return None


def _values(columns: Columns, source: Source) -> dict[Kind, dict[str, str]]:
    found: dict[Kind, dict[str, str]] = {}
    patient = {}
    if columns.gender:
        codes = source.codes.get("gender", {})
        text = identifier(columns.gender)
        translated = values.coded(text, codes)
        plain = values.gender(columns.gender)
        is_known = f"{translated} IN ('female', 'male', 'other', 'unknown')"
        patient["gender"] = f"CASE WHEN {is_known} THEN {translated} ELSE {plain} END"
    if columns.blood_type:
        patient["blood_type"] = f"upper({identifier(columns.blood_type)})"
    if columns.birth_date:
        patient["birth_date"] = "v_birth_date::DATE"
    elif columns.birth_year:
        patient["birth_year"] = "v_birth_year"
    if columns.patient and (patient or columns.admitted_at):
        found[Kind.PATIENTS] = patient
    if columns.admitted_at:
        admission = {"admitted_at": "v_admitted_at"}
        admission |= {field: identifier(name) for field in TEXTS if (name := getattr(columns, field))}
        if columns.discharged_at:
            admission["discharged_at"] = values.DISCHARGED_AT
        if columns.age_years:
            admission["age_years"] = "v_age"
        elif columns.birth_date:
            admission["age_years"] = values.full_years("v_birth_date", "v_admitted_at")
        elif columns.birth_year:
            admission["age_years"] = "greatest(year(v_admitted_at) - v_birth_year, 0)"
        if columns.billing_amount:
            admission["billing_amount"] = "v_billing"
        found[Kind.ADMISSIONS] = admission
    found |= _events(columns, source)
    return found


def _events(columns: Columns, source: Source) -> dict[Kind, dict[str, str]]:
    found = {}
    for kind, what, when, system in (
        (Kind.CONDITIONS, "condition", "recorded_at", source.condition_system),
        (Kind.PRESCRIPTIONS, "medication", "prescribed_at", source.medication_system),
    ):
        name, code = getattr(columns, what), getattr(columns, f"{what}_code")
        if not name and not code:
            continue
        event = {what: identifier(name or code)}
        if name and code:
            event[what] = f"coalesce({identifier(name)}, {identifier(code)})"
        if code:
            event["code"] = identifier(code)
        if system:
            event["code_system"] = values.literal(system)
        moment = when if getattr(columns, when) else "admitted_at" if columns.admitted_at else None
        if moment:
            event[when] = f"v_{moment}"
        found[kind] = event
    return found
