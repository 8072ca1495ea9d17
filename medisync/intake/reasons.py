"""Reason codes: why a row was quarantined or a file refused. Each has a section in ``docs/checks.md``."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """What a fault leads to."""

    REFUSES = "refuses"  # nothing of the delivery is loaded
    QUARANTINES = "quarantines"  # the row is not loaded
    TOLD = "told"  # nothing is withheld


class FileFault(StrEnum):
    """Faults that refuse a delivery whole."""

    EMPTY_FILE = "EMPTY_FILE"  # not a single byte
    NO_ROWS = "NO_ROWS"  # a header and nothing below it
    NOT_A_FILE = "NOT_A_FILE"  # a directory, a socket, a link
    UNREADABLE = "UNREADABLE"  # no permission, or the disk says no
    DISAPPEARED = "DISAPPEARED"  # gone while it was being read
    DAMAGED = "DAMAGED"  # compressed data that do not decompress
    NOT_UTF8 = "NOT_UTF8"  # text in another encoding
    UNKNOWN_LAYOUT = "UNKNOWN_LAYOUT"  # no known layout has these columns
    MISSING_COLUMN = "MISSING_COLUMN"  # a known layout, but a column of it is missing
    DUPLICATE_COLUMN = "DUPLICATE_COLUMN"  # a column stands there twice
    MALFORMED = "MALFORMED"  # not a table: the text cannot be split into rows and columns
    UNSAFE_ARCHIVE = "UNSAFE_ARCHIVE"  # a .zip with a path that climbs out, a link, or an archive inside
    ENCRYPTED = "ENCRYPTED"  # locked with a password
    TOO_LARGE = "TOO_LARGE"  # swells beyond measure, or too large for its format
    MIXED_LAYOUTS = "MIXED_LAYOUTS"  # the files of one delivery are of different layouts
    BAD_SOURCE = "BAD_SOURCE"  # the source's file has a wrong key or value
    TOO_MANY_FAULTS = "TOO_MANY_FAULTS"  # a larger share of faulty rows than the threshold
    UNPROCESSABLE = "UNPROCESSABLE"  # the database could not work with it, and no check foresaw why
    MIXED_DATES = "MIXED_DATES"  # one column has dates with the day first and dates with the month first
    AMBIGUOUS_DATES = "AMBIGUOUS_DATES"  # no date of a column tells whether day or month comes first
    AMBIGUOUS_NUMBERS = "AMBIGUOUS_NUMBERS"  # no number of a column tells whether 1.000 is a thousand, or both occur
    AGE_UNITS = "AGE_UNITS"  # ages that are months or days
    AMOUNT_UNITS = "AMOUNT_UNITS"  # amounts in another unit than the source's own history; only where it says so
    VOLUME_UNUSUAL = "VOLUME_UNUSUAL"  # far fewer or more rows than usual; only where the source says so
    UNKNOWN_ADMISSION = "UNKNOWN_ADMISSION"  # conditions without an admission; only where the source says so


class RowFault(StrEnum):
    """Faults that quarantine one row."""

    MALFORMED_ROW = "MALFORMED_ROW"  # more or fewer fields than the header, or broken quoting
    NOT_UTF8 = "NOT_UTF8"  # text in another encoding
    CONTROL_CHARACTER = "CONTROL_CHARACTER"  # a NUL byte
    VALUE_TOO_LONG = "VALUE_TOO_LONG"  # above 1,000 characters
    MISSING_VALUE = "MISSING_VALUE"
    BAD_DATE = "BAD_DATE"
    BAD_NUMBER = "BAD_NUMBER"
    NEGATIVE_AGE = "NEGATIVE_AGE"
    IMPLAUSIBLE_AGE = "IMPLAUSIBLE_AGE"  # above 120 years
    DISCHARGE_BEFORE_ADMISSION = "DISCHARGE_BEFORE_ADMISSION"
    DATE_IN_FUTURE = "DATE_IN_FUTURE"  # admitted or discharged after the day the file arrived
    DATE_TOO_EARLY = "DATE_TOO_EARLY"  # admitted before 1900
    BIRTH_AFTER_ADMISSION = "BIRTH_AFTER_ADMISSION"  # admitted before the patient's day of birth


class Notice(StrEnum):
    """Worth telling, nothing is withheld for it."""

    NEGATIVE_BILLING = "NEGATIVE_BILLING"
    SKIPPED_FILES = "SKIPPED_FILES"  # files of a set that no layout knows, or that hold nothing we keep
    SKIPPED_RESOURCES = "SKIPPED_RESOURCES"  # FHIR resources of other types
    CODE_WITHOUT_NAME = "CODE_WITHOUT_NAME"  # a code stands where its name was not to be had
    TRANSCODED = "TRANSCODED"  # files whose text was not UTF-8 and was converted
    TITLE_LINES = "TITLE_LINES"  # lines above the header: a title, a date
    LINE_ENDS_MIXED = "LINE_ENDS_MIXED"  # files with line ends of two kinds
    WAITING = "WAITING"  # conditions and prescriptions whose admission has not come yet
    WITHOUT_ADMISSION = "WITHOUT_ADMISSION"  # conditions and prescriptions that name no admission
    UNKNOWN_ADMISSION = "UNKNOWN_ADMISSION"  # those that came with admissions, none of which is theirs
    BIRTH_AFTER_ADMISSION = "BIRTH_AFTER_ADMISSION"  # known admissions before the date of birth that came now
    DELIVERY_MISSED = "DELIVERY_MISSED"  # expected deliveries that did not come before this one
    SPLIT_CELL = "SPLIT_CELL"  # an amount stood behind the insurer, in one cell
    EXTRA_COLUMNS = "EXTRA_COLUMNS"  # columns no mapping knows; they are never kept
    LONG_STAY = "LONG_STAY"  # stays of more than two years
    EMPTY_COLUMN = "EMPTY_COLUMN"  # columns without a single value
    MORE_MISSING = "MORE_MISSING"  # columns with many more empty values than the source's deliveries before
    MANY_DUPLICATES = "MANY_DUPLICATES"  # many rows repeat another one's key
    AMOUNT_UNITS = "AMOUNT_UNITS"  # amounts in another unit than the source's own history
    VOLUME_UNUSUAL = "VOLUME_UNUSUAL"  # far fewer or more rows than the source usually sends


def severities(code: str) -> tuple[Severity, ...]:
    """What a fault with this reason code may lead to, the gravest first; none for an unknown code."""
    kinds = ((FileFault, Severity.REFUSES), (RowFault, Severity.QUARANTINES), (Notice, Severity.TOLD))
    return tuple(severity for kind, severity in kinds if code in {one.value for one in kind})


OLDEST_AGE_YEARS = 120
"""The oldest verified age is 122; above 120 a typing error is likelier than a patient."""

EARLIEST_ADMISSION = "1900-01-01"
"""Before it no admission was recorded by a computer: a year of 0204 or 1024 is a typing error."""

LONGEST_VALUE = 1000
"""Characters of one value; a hospital's or an insurer's name has fewer, so more of them are rows run together."""

POOLED_AGE_YEARS = 90
"""Ages of 90 and more are kept as 90: the HIPAA Safe Harbor rule, 45 CFR 164.514(b)(2)(i)(C)."""

LONGEST_STAY_DAYS = 731
"""Stays of two years and more exist, in psychiatry; beyond that they are worth a look."""
