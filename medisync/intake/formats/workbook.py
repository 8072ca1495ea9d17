"""Excel and OpenDocument workbooks (.xlsx, .xlsm, .xls, .ods): each visible sheet is a table."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from medisync.intake.formats import text, workbook_reader
from medisync.intake.formats.tables import Room, Table
from medisync.intake.parts import Part
from medisync.intake.reading import HEADER_BYTES, refused
from medisync.intake.reasons import FileFault
from medisync.intake.sources import Source

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SECONDS = 2.0 * workbook_reader.SECONDS


def tables_of(part: Part, source: Source, room: Room) -> list[Table]:
    """The visible sheets of a workbook that hold anything, in their order; raises DeliveryRefusedError."""
    folder = room.file(".sheets")
    folder.mkdir(mode=0o700)
    _convert(part.path, folder)
    tables = []
    names = _outcome(folder)
    for number, name in enumerate(names, start=1):
        if source.sheet is not None and source.sheet != name:
            continue
        sheet = folder / f"{number}.csv"
        if not sheet.stat().st_size:
            continue
        # Which sheet it was is said by its number: its name could be a person's.
        label = part.label if len(names) == 1 else f"{part.label} sheet {number}".strip()
        with sheet.open("rb") as file:
            start = file.read(HEADER_BYTES)
        plain = source.model_copy(update={"encoding": "utf-8", "delimiter": ","})
        table = text.table_of(Part(part.name, label, sheet), start, "none", plain, room)
        tables.append(replace(table, format="workbook"))
    if not tables:
        raise refused(FileFault.EMPTY_FILE, "The workbook has no visible sheet with anything in it.")
    return tables


def _convert(path: Path, folder: Path) -> None:
    """Write the sheets as CSV into ``folder`` by a process of its own, which may come to any end."""
    import python_calamine

    libraries = Path(python_calamine.__file__).parent.parent
    command = [sys.executable, "-I", "-S", workbook_reader.__file__, str(libraries), str(path), str(folder)]
    try:
        subprocess.run(  # noqa: S603 - our own program on a path of ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise refused(FileFault.TOO_LARGE, "Reading the workbook took too long.", hint="Deliver it as CSV.") from None


def _outcome(folder: Path) -> list[str]:
    report = folder / "sheets.json"
    # Without a report the process was ended by its limits on memory or time.
    outcome = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {"error": FileFault.TOO_LARGE}
    error = outcome.get("error")
    if error is None:
        return [str(name) for name in outcome["sheets"]]
    if error == FileFault.ENCRYPTED:
        raise refused(
            FileFault.ENCRYPTED, "The workbook is locked with a password.", hint="Save it without a password."
        )
    if error == FileFault.TOO_LARGE:
        megabytes = workbook_reader.MEMORY_BYTES // 1024**2
        raise refused(
            FileFault.TOO_LARGE, f"The workbook needs more than {megabytes} MB to be read.", hint="Deliver it as CSV."
        )
    raise refused(FileFault.DAMAGED, "The workbook is damaged, or none.", hint="Open it, and save it anew.")
