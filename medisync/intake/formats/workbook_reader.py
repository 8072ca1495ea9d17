"""Turns a workbook's sheets into CSV. A program of its own: ``python -I -S workbook_reader.py LIBRARIES FILE FOLDER``.

A workbook of a few kilobytes can claim a million rows by sixteen thousand columns, or make its parser panic. So it is
read by a process with limits on memory and time, that imports nothing of ours and can die alone. It writes
``FOLDER/<n>.csv`` for each visible worksheet and, last, ``FOLDER/sheets.json`` with their names, or with an error.
Values are as stored: of a formula the value it had when the workbook was saved; formulas and macros are never run.
"""

import csv
import datetime as dt
import json
import os
import resource
import sys

MEMORY_BYTES = 700 * 1024**2
SECONDS = 120
LARGEST_OUTPUT_BYTES = 4 * 1024**3
EXACT_INTEGERS = 2**53


def text(value: object) -> str:
    """A cell as canonical text: dates in ISO form, whole numbers without a fraction."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value == value // 1 and abs(value) < EXACT_INTEGERS else repr(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="seconds") if value.time() != dt.time() else value.date().isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)


def convert(path: str, folder: str) -> dict[str, object]:
    import python_calamine as calamine

    try:
        workbook = calamine.CalamineWorkbook.from_path(path)
    except calamine.PasswordError:
        return {"error": "ENCRYPTED"}
    names = []
    for sheet in workbook.sheets_metadata:
        is_table = sheet.typ == calamine.SheetTypeEnum.WorkSheet
        if not is_table or sheet.visible != calamine.SheetVisibleEnum.Visible:
            continue
        names.append(sheet.name)
        with open(os.path.join(folder, f"{len(names)}.csv"), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            for row in workbook.get_sheet_by_name(sheet.name).iter_rows():
                values = [text(value).replace("\0", "\ufffd") for value in row]
                if any(values):
                    writer.writerow(values)
    return {"sheets": names}


def main() -> None:
    libraries, path, folder = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_OUTPUT_BYTES, LARGEST_OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.append(libraries)
    try:
        outcome = convert(path, folder)
    except MemoryError:
        outcome = {"error": "TOO_LARGE"}
    except BaseException as error:  # a panic of the parser is none of the usual exceptions
        outcome = {"error": "ENCRYPTED" if "assword" in str(error) else "DAMAGED"}
    with open(os.path.join(folder, "sheets.json"), "w", encoding="utf-8") as file:
        json.dump(outcome, file)


if __name__ == "__main__":
    main()
