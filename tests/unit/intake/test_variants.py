"""What other hospitals' files look like: each is read as it is meant, or refused with what to do about it."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import openpyxl
import pytest

from medisync.errors import DeliveryRefusedError
from tests.support import datasets
from tests.support.admissions_csv import COLUMNS, admissions, text_of
from tests.unit.intake.conftest import Read

ROWS = 24
FIRST_DAYS = sorted(row["Date of Admission"] for row in admissions(ROWS))
BILLS = [1000.25 + number for number in range(ROWS)]
CREDITS = [*(-n - 0.5 for n in range(ROWS - 1, 0, -1)), 0.5]
Row = dict[str, str]


def rows(**changes: Callable[[Row, int], str]) -> list[Row]:
    """The rows with columns (``_`` for spaces) made of a row and its number."""
    made = admissions(ROWS)
    for number, row in enumerate(made):
        row |= {name.replace("_", " "): change(row, number) for name, change in changes.items()}
    return made


def written(form: str) -> list[Row]:
    """The rows with their dates written in ``form``."""

    def as_said(column: str) -> Callable[[Row, int], str]:
        return lambda row, _: dt.date.fromisoformat(row[column]).strftime(form)

    return rows(Date_of_Admission=as_said("Date of Admission"), Discharge_Date=as_said("Discharge Date"))


def billed(form: Callable[[int], str]) -> list[Row]:
    return rows(Billing_Amount=lambda _, number: form(number))


@pytest.mark.parametrize(
    "form", ["%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y", "%d-%B-%y", "%b %d, %Y", "%Y%m%d", "%d %b %Y 10:30", "%Y/%m/%d"]
)
def test_dates(read: Callable[..., Read], form: str) -> None:
    found = read(text_of(written(form)))
    assert (found.days, found.faults) == (FIRST_DAYS, {})
    found = read(text_of([{name: value.upper() for name, value in row.items()} for row in written(form)]))
    assert found.days == FIRST_DAYS


@pytest.mark.parametrize(
    ("form", "bills"),
    [
        (lambda n: f"{1000 + n},25", BILLS),
        (lambda n: f"{1000 + n:,}.25".replace(",", "'"), BILLS),
        (lambda n: f"{1000 + n:,}.25", BILLS),
        (lambda n: f"{1000 + n:,}".replace(",", "\u00a0") + ",25 €", BILLS),
        (lambda n: f"{1000 + n:,}".replace(",", ".") + ",25", BILLS),
        (lambda n: f"(${n}.50)" if n else "$0.50", CREDITS),
        (lambda n: f"{n}.50-" if n else "0.50", CREDITS),
        (lambda n: f"{1000 + n}", [1000.0 + n for n in range(ROWS)]),
    ],
)
def test_amounts(read: Callable[..., Read], form: Callable[[int], str], bills: list[float]) -> None:
    found = read(text_of(billed(form)))
    assert (found.bills, found.faults) == (bills, {})


class TestAmountsThatDoNotTell:
    @pytest.mark.parametrize("sign", [".", ","])
    def test_a_thousand_or_a_fraction_is_refused_unless_the_source_says(
        self, read: Callable[..., Read], sign: str
    ) -> None:
        text = text_of(billed(lambda n: f"{n + 1}{sign}000"))
        with pytest.raises(DeliveryRefusedError, match="decimal =") as caught:
            read(text)
        assert (caught.value.reason, caught.value.column) == ("AMBIGUOUS_NUMBERS", "Billing Amount")
        other = {".": ",", ",": "."}[sign]
        assert read(text, decimal=other).bills == [1000.0 * (n + 1) for n in range(ROWS)]
        assert read(text, decimal=sign).bills == [float(n + 1) for n in range(ROWS)]

    def test_both_signs_are_refused(self, read: Callable[..., Read]) -> None:
        with pytest.raises(DeliveryRefusedError, match=r"both 12\.5 and 12,5"):
            read(text_of(billed(lambda n: f"{n},50" if n % 2 else f"{n}.50")))

    def test_a_single_one_of_the_other_kind_is_a_fault_and_never_a_hundredfold(self, read: Callable[..., Read]) -> None:
        for sign, other in ((".", ","), (",", ".")):
            found = read(text_of(billed(lambda n, a=sign, b=other: f"{1000 + n}{a if n else b}25")))
            assert (found.bills, found.faults) == (BILLS[1:], {"BAD_NUMBER": 1})


def test_words_for_nothing(read: Callable[..., Read]) -> None:
    """The exports of SQL, R and spreadsheets."""
    made = rows(
        Billing_Amount=lambda row, n: ("NULL", "NA", "#N/A", row["Billing Amount"])[n % 4],
        Discharge_Date=lambda *_: "\\N",
        Insurance_Provider=lambda *_: "n/a",
        Test_Results=lambda *_: "keine",
    )
    found = read(text_of(made), missing=("keine",))
    assert (found.faults, found.bills) == ({}, BILLS[3::4])
    for name in ("discharged_at", "insurer", "test_result"):
        assert found.values[f"admissions_{name}"] == [None] * ROWS
    assert read(text_of(made)).values["admissions_test_result"] == ["keine"] * ROWS


@pytest.mark.parametrize(
    ("above", "delimiter", "titles"),
    [
        ("sep=;\n", ";", None),
        ("Admissions of all wards\nMade 2024-05-07 by the export\n\n", ",", 2),
        (";;;;;\nAdmissions;;;;;\n", ";", 2),
    ],
)
def test_lines_above_the_header(read: Callable[..., Read], above: str, delimiter: str, titles: int | None) -> None:
    made: list[Row | str] = list(rows())
    made.insert(4, "40 rows selected.")
    found = read(above + text_of(made, delimiter=delimiter))
    assert (found.days, found.faults) == (FIRST_DAYS, {"MALFORMED_ROW": 1})
    assert found.notices.get("TITLE_LINES") == titles


def test_names_of_columns_in_another_style(read: Callable[..., Read]) -> None:
    header, body = text_of(rows()).split("\n", 1)
    for style in (header.upper().replace(" ", "_"), header.lower().replace(" ", "-"), header.replace(" ", "  ")):
        assert read(f"{style}\n{body}").bills == BILLS
    with pytest.raises(DeliveryRefusedError) as caught:
        read(f"{header.replace('Room Number', 'billing_amount').replace('Billing Amount', 'BILLING-AMOUNT')}\n{body}")
    assert caught.value.reason == "MISSING_COLUMN"


def test_a_workbook_with_a_title_across_merged_cells_and_cells_that_are_dates(read: Callable[..., Read]) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["B2"] = "Monthly report"
    sheet.merge_cells("B2:P2")
    sheet["B3"], sheet["D3"] = "Patient", "Stay"
    sheet.append([None, *COLUMNS])
    for row in rows():
        days = {name: dt.datetime.fromisoformat(row[name]) for name in ("Date of Admission", "Discharge Date")}
        sheet.append(
            [None, *(row | {"Age": int(row["Age"]), "Billing Amount": float(row["Billing Amount"])} | days).values()]
        )
    sheet.append([None, "Total", None, None, None, None, None, None, None, None, sum(BILLS)])
    file = io.BytesIO()
    book.save(file)
    found = read(file.getvalue(), ending="xlsx")
    assert (found.days, found.bills, found.faults) == (FIRST_DAYS, BILLS, {"MISSING_VALUE": 1})
    assert found.notices["TITLE_LINES"] == 2


def test_a_nested_parquet_column_is_refused_where_it_is_used(read: Callable[..., Read], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(text_of(rows()))
    path = tmp_path / "rows.parquet"
    with duckdb.connect() as own:
        own.execute(f"CREATE TABLE t AS FROM read_csv('{tmp_path}/rows.csv', all_varchar = true)")
        own.execute(f"COPY (SELECT *, {{a: 1}} AS extra, [1] AS more FROM t) TO '{path}' (FORMAT parquet)")
        assert read(path).bills == BILLS
        own.execute(f'COPY (SELECT * REPLACE (["Medication"] AS "Medication") FROM t) TO \'{path}\' (FORMAT parquet)')
    with pytest.raises(DeliveryRefusedError, match="Column Medication holds lists"):
        read(path)


def test_ids_that_became_fractions_still_meet(read: Callable[..., Read], tmp_path: Path) -> None:
    """As pandas writes a column of whole numbers with a gap."""
    tables = datasets.omop_set(20)
    whole = read(datasets.write_omop(tmp_path / "whole", tables, rename=str.upper), part=2).values["admission_key"]
    for row in tables["CONDITION_OCCURRENCE"]:
        row["visit_occurrence_id"] += ".0" if row["visit_occurrence_id"] else ""
    fractions = read(datasets.write_omop(tmp_path / "fractions", tables), part=2).values["admission_key"]
    assert len(whole) == 20
    assert sorted(map(str, fractions)) == sorted(map(str, whole))


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (b'<?xml version="1.0"?><Bundle xmlns="http://hl7.org/fhir"/>', "UNKNOWN_LAYOUT", "FHIR as JSON"),
        (b"<html><table><tr><td>Name</td></tr></table></html>", "UNKNOWN_LAYOUT", "XML or HTML"),
        (b"MSH|^~\\&|ADT|HOUSE|||198808181126||ADT^A01|1|P|2.3\rPID|1||12^5^M11\r", "UNKNOWN_LAYOUT", "HL7 v2"),
        (json.dumps([{"resourceType": "Patient"}]).encode("utf-16"), "NOT_UTF8", "JSON in UTF-16"),
        (text_of(rows(), delimiter="^").encode(), "UNKNOWN_LAYOUT", "comma, semicolon, tab or bar"),
        (b"Fallnummer;Aufnahme\n1;2\n", "UNKNOWN_LAYOUT", "medisync source draft"),
    ],
)
def test_what_is_not_read_is_named(read: Callable[..., Read], content: bytes, reason: str, words: str) -> None:
    with pytest.raises(DeliveryRefusedError, match=words) as caught:
        read(content)
    assert caught.value.reason == reason


def test_an_old_macintosh_s_letters_are_not_taken_for_others(read: Callable[..., Read]) -> None:
    text = text_of(rows(Hospital=lambda *_: "Hôpital Général"))
    assert set(read(text.encode("cp1252")).values["admissions_site"]) == {"Hôpital Général"}
    assert read(text.encode("mac_roman")).faults == {"NOT_UTF8": ROWS}


def test_genders_in_other_languages(read: Callable[..., Read]) -> None:
    words = {"w": "female", "Weiblich": "female", "Femme": "female", "männlich": "male", "HOMME": "male", "d": "other"}
    made = rows(Gender=lambda _, n: list(words)[n % len(words)])
    assert read(text_of(made)).values["patients_gender"] == [*words.values()] * (ROWS // len(words))
