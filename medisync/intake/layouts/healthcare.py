"""The healthcare CSV: one wide row an admission, without a number for patient or admission."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medisync.intake.feeds import Feed, Kind
from medisync.intake.layouts import values
from medisync.intake.layouts.layout import Layout, Reading, Role
from medisync.intake.reading import identifier
from medisync.intake.reasons import Notice
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

COLUMNS = (
    "Name",
    "Age",
    "Gender",
    "Blood Type",
    "Medical Condition",
    "Date of Admission",
    "Doctor",
    "Hospital",
    "Insurance Provider",
    "Billing Amount",
    "Room Number",
    "Admission Type",
    "Discharge Date",
    "Medication",
    "Test Results",
)
ADMITTED, DISCHARGED = "Date of Admission", "Discharge Date"
SCRAMBLED_NAMES = 3
"""Up to so many surnames make a scrambled hospital name."""

AMOUNT_BEHIND_NAME = re.compile(r".*\S\s+-?\d+\.\d+")
SPLIT_SHARE = 0.5
"""A file in which so many insurers end in an amount, and no amount stands in its column, is of the damaged kind."""


def _site(column: str) -> str:
    """The sample's hospitals are surnames whose "and" and commas fell out of place ("and Foster, Leonard Jenkins").

    Such a name is written as a list, "Foster, Leonard, Jenkins": without the commas it could read like a person's.
    """
    text = identifier(column)
    words = f"list_filter(regexp_split_to_array({text}, '[ ,]+'), lambda word: word <> '')"
    names = f"list_filter({words}, lambda word: lower(word) <> 'and')"
    is_scrambled = (
        f"contains(lower({text}), 'and') AND "
        f"regexp_matches({text}, '(?i)\\band\\b') "
        f"AND regexp_matches({text}, '(?i),|^and |[ ,]and$') "
        f"AND len({names}) <= {SCRAMBLED_NAMES}"
    )
    return (
        f"CASE WHEN {is_scrambled} THEN array_to_string({names}, ', ') "
        f"WHEN ends_with({text}, ',') OR ends_with({text}, ' ') THEN rtrim({text}, ' ,') ELSE {text} END"
    )


def _moment_text(value: str) -> str:
    """A moment as text that no other has, to the second; as short as can be where it is a day, as in most files: what
    fits into one block of SHA-256 takes half the time of what does not."""
    days = f"({value}::DATE - DATE '1970-01-01')::VARCHAR"
    return f"CASE WHEN {value} = {value}::DATE THEN {days} ELSE strftime({value}, '%Y-%m-%dT%H:%M:%S') END"


def _has_split_cells(reading: Reading) -> bool:
    insurers = [text for text in reading.sample("Insurance Provider") if text]
    if not insurers or any(reading.sample("Billing Amount")):
        return False
    return sum(bool(AMOUNT_BEHIND_NAME.fullmatch(text)) for text in insurers) >= SPLIT_SHARE * len(insurers)


def _feed(reading: Reading, source: Source) -> Feed:
    insurer, billing = (
        '"Insurance Provider"',
        values.number("Billing Amount", reading.sample("Billing Amount"), source.decimal),
    )
    notices = {Notice.NEGATIVE_BILLING.value: "v_billing < 0"}
    if _has_split_cells(reading):
        # A damaged export of this file has the amount behind the insurer's name, in one cell.
        is_split = f"\"Billing Amount\" IS NULL AND regexp_matches({insurer}, '\\S\\s+-?\\d+\\.\\d+$')"
        amount = f"try_cast(regexp_extract({insurer}, '(-?\\d+\\.\\d+)$', 1) AS DOUBLE)"
        billing = f"CASE WHEN {is_split} THEN {amount} ELSE {billing} END"
        insurer = f"CASE WHEN {is_split} THEN regexp_replace({insurer}, '\\s+-?\\d+\\.\\d+$', '') ELSE {insurer} END"
        notices[Notice.SPLIT_CELL.value] = is_split
    return Feed(
        part=reading.part,
        table=reading.table,
        columns=COLUMNS,
        typed={
            "v_called": 'lower("Name")',
            "v_age": 'try_cast("Age" AS DOUBLE)',
            "v_gender": values.gender("Gender"),
            "v_blood_type": 'upper("Blood Type")',
            "v_condition": '"Medical Condition"',
            "v_admitted_at": values.moment(ADMITTED, reading.dates),
            "v_discharged_at": values.moment(DISCHARGED, reading.dates),
            "v_site": _site("Hospital"),
            "v_insurer": insurer,
            "v_billing": billing,
            "v_room": '"Room Number"',
            "v_admission_type": '"Admission Type"',
            "v_medication": '"Medication"',
            "v_test_result": '"Test Results"',
        },
        checks=(
            *values.needed("Name", ADMITTED),
            *values.admitted(ADMITTED, "v_admitted_at"),
            *values.discharged(DISCHARGED, "v_discharged_at", "v_admitted_at"),
            *values.aged("Age", "v_age", source.thresholds.oldest_age_years),
            *values.priced("Billing Amount", "v_billing"),
        ),
        notices=notices,
        values={
            Kind.PATIENTS: {"gender": "v_gender", "blood_type": "v_blood_type"},
            Kind.ADMISSIONS: {
                "site": "v_site",
                "admission_type": "v_admission_type",
                "admitted_at": "v_admitted_at",
                "discharged_at": values.DISCHARGED_AT,
                "age_years": "v_age",
                "insurer": "v_insurer",
                "billing_amount": "v_billing",
                "room": "v_room",
                "test_result": "v_test_result",
            },
            Kind.CONDITIONS: {"condition": "v_condition", "recorded_at": "v_admitted_at"},
            Kind.PRESCRIPTIONS: {"medication": "v_medication", "prescribed_at": "v_admitted_at"},
        },
        admission='CASE WHEN "Name" IS NOT NULL AND v_admitted_at IS NOT NULL THEN concat_ws(chr(31), '
        f'v_called, {_moment_text("v_admitted_at")}, lower("Hospital")) END',
        # The file has no patient number. A name alone is shared by different people; a blood type does not change.
        patient='CASE WHEN "Name" IS NOT NULL '
        "THEN concat_ws(chr(31), v_called, v_gender, coalesce(v_blood_type, '')) END",
        told_by_patient=frozenset({"gender", "blood_type"}),
        practitioner='lower("Doctor")',
        names=("Name", "Doctor"),
        reader=reading.reader,
    )


def feeds(cursor: duckdb.DuckDBPyConnection, readings: Sequence[Reading], source: Source) -> list[Feed]:  # noqa: ARG001
    return [_feed(reading, source) for reading in readings]


HEALTHCARE_CSV = Layout(
    name="healthcare_csv",
    roles=(Role("admissions", required=COLUMNS, dates=(ADMITTED, DISCHARGED)),),
    feeds=feeds,
)
