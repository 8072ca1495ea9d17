"""Formats that hospitals have and that are not read: named, so that whoever delivers knows what to export instead."""

from __future__ import annotations

import codecs

from medisync.intake.reading import refused
from medisync.intake.reasons import FileFault

UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def refuse(start: bytes) -> None:
    """Raises DeliveryRefusedError when a text that begins with ``start`` is of such a format."""
    encoding = UTF16.get(start[:2])
    if encoding:
        if start[2:64].decode(encoding, errors="replace").lstrip()[:1] in ("{", "["):
            raise refused(FileFault.NOT_UTF8, "It is JSON in UTF-16.", hint="FHIR demands UTF-8.")
        return
    text = start[:512].removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"<"):
        raise refused(
            FileFault.UNKNOWN_LAYOUT,
            "It is XML or HTML, which is not read.",
            hint="Export FHIR as JSON or NDJSON, tables as CSV, .xlsx or Parquet.",
        )
    if text.startswith((b"MSH|", b"FHS|", b"BHS|")):
        raise refused(
            FileFault.UNKNOWN_LAYOUT, "It holds HL7 v2 messages, which are not read.", hint="Export FHIR R4 or CSV."
        )
    if text.startswith(b"%PDF-"):
        raise refused(FileFault.UNKNOWN_LAYOUT, "It is a PDF, which is not read.", hint="Export the table itself.")
