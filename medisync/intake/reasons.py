"""Reason codes: why a row was quarantined or a file refused. Each has a section in ``docs/checks.md``."""

from __future__ import annotations

from enum import StrEnum


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
    TOO_MANY_FAULTS = "TOO_MANY_FAULTS"  # a larger share of faulty rows than the threshold
    UNPROCESSABLE = "UNPROCESSABLE"  # the database could not work with it, and no check foresaw why


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


class Notice(StrEnum):
    """Worth telling, nothing is withheld for it."""

    NEGATIVE_BILLING = "NEGATIVE_BILLING"
    SKIPPED_FILES = "SKIPPED_FILES"  # files of a set that no layout knows, or that hold nothing we keep
    SKIPPED_RESOURCES = "SKIPPED_RESOURCES"  # FHIR resources of other types
    CODE_WITHOUT_NAME = "CODE_WITHOUT_NAME"  # a code stands where its name was not to be had
    TRANSCODED = "TRANSCODED"  # files whose text was not UTF-8 and was converted
    LINE_ENDS_MIXED = "LINE_ENDS_MIXED"  # files with line ends of two kinds
    SPLIT_CELL = "SPLIT_CELL"  # an amount stood behind the insurer, in one cell
    EXTRA_COLUMNS = "EXTRA_COLUMNS"  # columns no mapping knows; they are never kept


OLDEST_AGE_YEARS = 120
"""The oldest verified age is 122; above 120 a typing error is likelier than a patient."""

EARLIEST_ADMISSION = "1900-01-01"
"""Before it no admission was recorded by a computer: a year of 0204 or 1024 is a typing error."""

LONGEST_VALUE = 1000
"""Characters of one value; a hospital's or an insurer's name has fewer, so more of them are rows run together."""

POOLED_AGE_YEARS = 90
"""Ages of 90 and more are kept as 90: the HIPAA Safe Harbor rule, 45 CFR 164.514(b)(2)(i)(C)."""
