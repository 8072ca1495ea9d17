"""What a delivered file is called outside the intake.

A file's name can be a patient's (a FHIR bundle is often called after its patient), so it is shown only when none of
its words is a name in the file, or, where the file could not be read, when all of its words are harmless ones.
"""

from __future__ import annotations

import re
import unicodedata

_HARMLESS_TEXT = """
admission admissions age ages bad big broken care changed claim claims clinic clinical condition conditions copy csv
daily data dataset date dates delivery demo department discharge discharges empty encounter encounters export extract
feed few fhir file first full future gz header healthcare hospital inpatient json large latin list master medical
medication medications messy missing monthly ndjson negative new old omop only outpatient parquet part patient
patients prescription prescriptions raw records report row rows sample second site small source synthea tab test tsv
txt update visits ward week weekly wide wrong xlsx year zip
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
