"""Small files in the layout of the healthcare CSV, with made-up people whose names are easy to search for."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable
from pathlib import Path

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
SURNAME = "Brambleworth"
"""Every patient's last name."""

SECRET = "Sekretwert"
"""A value to put where a fault is: no message may show it."""

CONDITIONS = ("Cancer", "Obesity", "Diabetes", "Asthma", "Hypertension", "Arthritis")
MEDICATIONS = ("Aspirin", "Ibuprofen", "Lipitor", "Paracetamol", "Penicillin")


def letters(number: int) -> str:
    """``number`` in four letters, so that every name is a different word."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in (3, 2, 1, 0))


def admission(number: int, **changes: str) -> dict[str, str]:
    """Row ``number``: one admission of a patient of its own. ``changes`` use ``_`` for spaces."""
    row = {
        "Name": f"Quen{letters(number)} {SURNAME}",
        "Age": str(20 + number % 60),
        "Gender": ("Female", "Male")[number % 2],
        "Blood Type": ("A+", "O-", "AB+")[number % 3],
        "Medical Condition": CONDITIONS[number % len(CONDITIONS)],
        "Date of Admission": f"20{20 + number % 4}-{1 + number % 12:02d}-{1 + number % 28:02d}",
        "Doctor": f"Ottoline Featherstonehaugh{letters(number % 7)}",
        "Hospital": ("Hill Infirmary", "Lake Hospital", "Mill Clinic")[number % 3],
        "Insurance Provider": ("Blue Cross", "Medicare", "Aetna")[number % 3],
        "Billing Amount": f"{1000 + number}.25",
        "Room Number": str(100 + number % 300),
        "Admission Type": ("Urgent", "Elective", "Emergency")[number % 3],
        "Discharge Date": f"20{24 + number % 2}-06-{1 + number % 28:02d}",
        "Medication": MEDICATIONS[number % len(MEDICATIONS)],
        "Test Results": ("Normal", "Abnormal", "Inconclusive")[number % 3],
    }
    given = {name.replace("_", " "): value for name, value in changes.items()}
    assert given.keys() <= row.keys(), given.keys() - row.keys()
    return row | given


def admissions(number: int, start: int = 0) -> list[dict[str, str]]:
    """``number`` different admissions."""
    return [admission(index) for index in range(start, start + number)]


def line(row: dict[str, str], delimiter: str = ",") -> str:
    """One row as text, without a line end."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerow(row.values())
    return text.getvalue().removesuffix("\r\n")


def text_of(rows: Iterable[dict[str, str] | str], *, delimiter: str = ",", newline: str = "\n") -> str:
    """A whole file: header, then ``rows``; a row given as text goes in as it is."""
    lines = [delimiter.join(COLUMNS), *(row if isinstance(row, str) else line(row, delimiter) for row in rows)]
    return newline.join(lines) + newline


def write_csv(path: Path, rows: Iterable[dict[str, str] | str], **how: str) -> Path:
    """Write ``rows`` to ``path``, compressed when it ends in ``.gz``."""
    content = text_of(rows, **how).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, compresslevel=1) if path.suffix == ".gz" else content)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a delivered file, by the standard library's reader."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        return list(csv.DictReader(file))
