"""What a delivered file is called outside the intake.

A file's name can be a patient's (a FHIR bundle is often called after its patient), so it is shown only when none of
its words is a name in the file, or, where the file could not be read, when all of its words are harmless ones.
"""

from __future__ import annotations

import re
import unicodedata

_HARMLESS_TEXT = """
admission admissions age ages allergies allergy ancestor bad big broken bulk bundle bundles care careplan careplans
changed claim claims class clinic clinical concept concepts condition conditions copy cost csv daily data dataset date
dates death delivery demo department device devices diagnoses diagnosis discharge discharges domain dose drug empty
encounter encounters episode era export exposure extension extract feed few fhir file first folder full future gz
header healthcare hospital imaging immunization immunizations inpatient inpatients json jsonl large latin list
location locations master measurement measurements medical medication medicationrequest medications messy missing
monthly ndjson negative nested new note observation observations occurrence ods old omop only organization
organizations outpatient outpatients parquet part patient patients payer payers period person persons practitioner
practitioners prescription prescriptions procedure procedures provider providers raw records relationship report
request requests resources row rows sample second set sets sheet site sites small source specimen stay stays strength
studies study supplies supply synonym synthea tab table tables test transaction transactions transition transitions
tsv txt update visit visits vocabulary ward week weekly wide workbook wrong xls xlsm xlsx year zip zst
"""
HARMLESS_WORDS = frozenset(_HARMLESS_TEXT.split())


def words_of(file_name: str) -> list[str]:
    """The words of a file's name in lower case, digits apart; words in camel case also one by one."""
    name = unicodedata.normalize("NFC", file_name)
    apart = re.sub(r"([^\W\d_A-Z])([A-Z])", r"\1 \2", name)
    return list(dict.fromkeys(re.findall(r"[^\W\d_]+", f"{name} {apart}".lower())))


def label(file_name: str, name_words: set[str] | None) -> str:
    """``file_name`` as it may be shown; ``name_words`` are its words known to be people's names, None if unknown."""
    words = words_of(file_name)
    is_harmless = not name_words if name_words is not None else all(word in HARMLESS_WORDS for word in words)
    if is_harmless:
        return "".join(sign if sign.isprintable() else "?" for sign in file_name)
    ending = re.search(r"(\.[a-z]{2,7}){1,2}$", file_name.casefold())
    return f"(name withheld){ending.group() if ending else ''}"
