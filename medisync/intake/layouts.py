"""Known layouts, recognised by a file's columns, and how each maps to the lake's tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medisync.intake.feeds import Check, Feed, Kind
from medisync.intake.reading import DelimitedFile, identifier, refused
from medisync.intake.reasons import EARLIEST_ADMISSION, OLDEST_AGE_YEARS, FileFault, RowFault

RECOGNISED_SHARE = 0.5
"""A file with at least this share of a layout's columns is meant to be of that layout."""


@dataclass(frozen=True)
class Layout:
    """One known layout of a delimited file; ``feed`` says how a table of its text maps to the lake."""

    name: str
    columns: tuple[str, ...]
    feed: Callable[[str, str], Feed]  # (part, table)


def _date(column: str) -> str:
    text = identifier(column)
    return f"coalesce(try_strptime({text}, ['%Y-%m-%d', '%Y-%m-%d %H:%M:%S', '%Y-%m-%dT%H:%M:%S']), NULL)"


def _lower(column: str) -> str:
    return f"lower({identifier(column)})"


SCRAMBLED_NAMES = 3
"""Up to so many surnames make a scrambled hospital name."""


def _site(column: str) -> str:
    """The sample's hospitals are surnames whose "and" and commas fell out of place ("and Foster, Leonard Jenkins").

    Such a name is written as a list, "Foster, Leonard, Jenkins": without the commas it could read like a person's.
    """
    text = identifier(column)
    words = f"list_filter(regexp_split_to_array({text}, '[ ,]+'), lambda word: word <> '')"
    names = f"list_filter({words}, lambda word: lower(word) <> 'and')"
    is_scrambled = (
        f"regexp_matches({text}, '(?i)\\band\\b') AND regexp_matches({text}, '(?i),|^and |[ ,]and$') "
        f"AND len({names}) <= {SCRAMBLED_NAMES}"
    )
    return f"CASE WHEN {is_scrambled} THEN array_to_string({names}, ', ') ELSE rtrim({text}, ' ,') END"


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


def _healthcare_feed(part: str, table: str) -> Feed:
    return Feed(
        part=part,
        table=table,
        columns=COLUMNS,
        typed={
            "v_age": 'try_cast("Age" AS DOUBLE)',
            "v_gender": f"CASE {_lower('Gender')} WHEN 'male' THEN 'male' WHEN 'm' THEN 'male' "
            "WHEN 'female' THEN 'female' WHEN 'f' THEN 'female' "
            "ELSE CASE WHEN \"Gender\" IS NULL THEN 'unknown' ELSE 'other' END END",
            "v_blood_type": 'upper("Blood Type")',
            "v_condition": '"Medical Condition"',
            "v_admitted_at": _date("Date of Admission"),
            "v_discharged_at": _date("Discharge Date"),
            "v_site": _site("Hospital"),
            "v_insurer": '"Insurance Provider"',
            "v_billing": 'try_cast("Billing Amount" AS DOUBLE)',
            "v_room": '"Room Number"',
            "v_admission_type": '"Admission Type"',
            "v_medication": '"Medication"',
            "v_test_result": '"Test Results"',
        },
        checks=(
            Check("Name", RowFault.MISSING_VALUE, '"Name" IS NULL'),
            Check("Date of Admission", RowFault.MISSING_VALUE, '"Date of Admission" IS NULL'),
            Check("Date of Admission", RowFault.BAD_DATE, '"Date of Admission" IS NOT NULL AND v_admitted_at IS NULL'),
            Check("Discharge Date", RowFault.BAD_DATE, '"Discharge Date" IS NOT NULL AND v_discharged_at IS NULL'),
            Check(
                "Date of Admission",
                RowFault.DATE_IN_FUTURE,
                "v_admitted_at > getvariable('received_at') + INTERVAL 1 DAY",
            ),
            Check("Date of Admission", RowFault.DATE_TOO_EARLY, f"v_admitted_at < TIMESTAMP '{EARLIEST_ADMISSION}'"),
            Check(
                "Discharge Date",
                RowFault.DATE_IN_FUTURE,
                "v_discharged_at > getvariable('received_at') + INTERVAL 1 DAY",
            ),
            Check("Discharge Date", RowFault.DISCHARGE_BEFORE_ADMISSION, "v_discharged_at < v_admitted_at"),
            Check(
                "Age",
                RowFault.BAD_NUMBER,
                '"Age" IS NOT NULL AND (v_age IS NULL OR v_age <> floor(v_age) OR isnan(v_age))',
            ),
            Check("Age", RowFault.NEGATIVE_AGE, "v_age < 0"),
            Check("Age", RowFault.IMPLAUSIBLE_AGE, f"v_age > {OLDEST_AGE_YEARS} AND NOT isnan(v_age)"),
            Check(
                "Billing Amount",
                RowFault.BAD_NUMBER,
                '"Billing Amount" IS NOT NULL AND (v_billing IS NULL OR NOT isfinite(v_billing) '
                "OR abs(round(v_billing, 2)) >= 1e12)",
            ),
        ),
        notices={"NEGATIVE_BILLING": "v_billing < 0"},
        values={
            Kind.PATIENTS: {"gender": "v_gender", "blood_type": "v_blood_type"},
            Kind.ADMISSIONS: {
                "site": "v_site",
                "admission_type": "v_admission_type",
                "admitted_at": "v_admitted_at",
                "discharged_at": "v_discharged_at",
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
        'lower("Name"), strftime(v_admitted_at, \'%Y-%m-%dT%H:%M:%S\'), lower("Hospital")) END',
        # The file has no patient number. A name alone is shared by different people; a blood type does not change.
        patient='CASE WHEN "Name" IS NOT NULL '
        "THEN concat_ws(chr(31), lower(\"Name\"), v_gender, coalesce(v_blood_type, '')) END",
        practitioner='lower("Doctor")',
        names=("Name", "Doctor"),
    )


HEALTHCARE_CSV = Layout(name="healthcare_csv", columns=COLUMNS, feed=_healthcare_feed)
LAYOUTS: tuple[Layout, ...] = (HEALTHCARE_CSV,)


def recognise(file: DelimitedFile) -> tuple[Layout, dict[str, int], int]:
    """The layout of ``file``, the position of each of its columns, and how many further columns the file has.

    Raises DeliveryRefusedError. Columns that belong to no layout are never named: in a file without a header they
    would be a patient's values.
    """
    found = {name.casefold(): index for index, name in reversed(list(enumerate(file.columns)))}

    def share(layout: Layout) -> float:
        return sum(name.casefold() in found for name in layout.columns) / len(layout.columns)

    layout = max(LAYOUTS, key=share)
    missing = [name for name in layout.columns if name.casefold() not in found]
    if share(layout) < RECOGNISED_SHARE:
        raise refused(
            FileFault.UNKNOWN_LAYOUT,
            f"Its {len(file.columns)} columns are of no known layout; of {layout.name} it lacks {', '.join(missing)}.",
            hint="docs/intake.md describes the known layouts.",
        )
    if missing:
        raise refused(
            FileFault.MISSING_COLUMN,
            f"It looks like {layout.name}, but lacks the column {', '.join(missing)}.",
            column=missing[0],
            hint="docs/intake.md lists the columns.",
        )
    folded = [name.casefold() for name in file.columns]
    doubled = [name for name in layout.columns if folded.count(name.casefold()) > 1]
    if doubled:
        raise refused(FileFault.DUPLICATE_COLUMN, f"It has the column {doubled[0]} twice.", column=doubled[0])
    positions = {name: found[name.casefold()] for name in layout.columns}
    return layout, positions, len(file.columns) - len(positions)
