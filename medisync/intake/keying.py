"""The query that turns a feed's text into keys, values and the numbers of the checks that each row fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medisync.intake import namesakes
from medisync.intake.feeds import Check, Feed, Kind
from medisync.intake.reading import identifier
from medisync.intake.reasons import LONGEST_VALUE, POOLED_AGE_YEARS, RowFault

LAKE_COLUMNS: dict[Kind, dict[str, str]] = {
    Kind.PATIENTS: {"gender": "VARCHAR", "birth_year": "SMALLINT", "blood_type": "VARCHAR"},
    Kind.ADMISSIONS: {
        "site": "VARCHAR",
        "admission_type": "VARCHAR",
        "admitted_at": "TIMESTAMP",
        "discharged_at": "TIMESTAMP",
        "age_years": "SMALLINT",
        "insurer": "VARCHAR",
        "billing_amount": "DECIMAL(14, 2)",
        "room": "VARCHAR",
        "test_result": "VARCHAR",
        "practitioner_key": "UUID",
    },
    Kind.CONDITIONS: {
        "condition": "VARCHAR",
        "code": "VARCHAR",
        "code_system": "VARCHAR",
        "recorded_at": "TIMESTAMP",
    },
    Kind.PRESCRIPTIONS: {
        "medication": "VARCHAR",
        "code": "VARCHAR",
        "code_system": "VARCHAR",
        "prescribed_at": "TIMESTAMP",
    },
}
"""What a feed may fill of the lake's tables, and its type; other keys, source and delivery come by themselves."""

PRIVATE_COLUMNS = {Kind.PATIENTS: {"birth_date": "DATE"}}
"""What a feed may fill and the lake never gets."""

EVENTS = {Kind.CONDITIONS: "condition", Kind.PRESCRIPTIONS: "medication"}
"""Kinds of which an admission may have many, and the column none of their rows can do without."""


ELSEWHERE, PASSED_OVER = -1, -2
"""In the place of a check's number: the fault of the row is listed already; it has none, and is only counted."""


def keyed(feed: Feed, words: Sequence[str] = ()) -> str:
    """The query that reads a feed: its keys, values, notices, and the numbers of the checks the row fails.

    Of a feed with a reader, ``is_suspect`` says whether people in the row may be called by one of ``words``.
    """
    typed = "".join(f", {sql} AS {name}" for name, sql in feed.typed.items())
    purposes = _purposes(feed)
    texts = ", ".join(f"{sql or 'NULL::VARCHAR'} AS {purpose}_text" for purpose, sql in purposes.items())
    keys = "".join(
        f", {purpose}_pseudonym({purpose}_text) AS {purpose}_key" for purpose, sql in purposes.items() if sql
    )
    cast = _cast(feed)
    values = "".join(
        f", {_pooled(column, cast.get((sql, _type_of(kind, column)), sql))} AS {kind}_{column}"
        for kind, columns in feed.values.items()
        for column, sql in columns.items()
    )
    once = "".join(f", try_cast({sql} AS {type_name}) AS {name}" for (sql, type_name), name in cast.items())
    notices = "".join(
        f", coalesce({condition}, false) AS notice_{number}" for number, condition in enumerate(feed.notices.values())
    )
    deleted = f", coalesce({feed.deleted}, false) AS is_deleted" if feed.deleted else ""
    suspect = ""
    if feed.reader and feed.names:
        once += "".join(f", {sql} AS {name}" for name, sql in namesakes.folded(feed).items())
        suspicions = " OR ".join(namesakes.is_suspect(name, words) for name in namesakes.folded(feed) if words)
        suspect = f", coalesce({suspicions or 'false'}, false) AS is_suspect"
    inner = f"SELECT *, {texts}{once} FROM (SELECT *{typed} FROM {feed.table})"
    place = "" if feed.reader else "row_number, "
    faults = _faults_of(feed)
    return f"SELECT {place}row_hash{keys}{values}{deleted}{notices}{suspect}, {faults} AS faults FROM ({inner})"


def keyed_columns(feed: Feed) -> tuple[str, ...]:
    """The columns of ``keyed(feed)``, of a feed with a reader."""
    return (
        "row_hash",
        *(f"{purpose}_key" for purpose, sql in _purposes(feed).items() if sql),
        *(f"{kind}_{column}" for kind, columns in feed.values.items() for column in columns),
        *(("is_deleted",) if feed.deleted else ()),
        *(f"notice_{number}" for number in range(len(feed.notices))),
        *(("is_suspect",) if feed.names else ()),
        "faults",
    )


def _purposes(feed: Feed) -> dict[str, str | None]:
    """What pseudonyms are made for -> the text each is made of."""
    return {"admission": feed.admission, "patient": feed.patient, "practitioner": feed.practitioner}


def _pooled(column: str, value: str) -> str:
    if column != "age_years":
        return value
    return f"CASE WHEN {value} > {POOLED_AGE_YEARS} THEN {POOLED_AGE_YEARS}::SMALLINT ELSE {value} END"


def practitioners_of(feed: Feed, rows: int) -> str:
    """The query for the practitioners of the first ``rows`` rows of a feed."""
    typed = "".join(f", {sql} AS {name}" for name, sql in feed.typed.items())
    return (
        f"SELECT DISTINCT {feed.practitioner} AS message FROM (SELECT *{typed} FROM (FROM {feed.table} LIMIT {rows})) "
        f"WHERE ({feed.practitioner}) IS NOT NULL"
    )


def _type_of(kind: Kind, column: str) -> str:
    return LAKE_COLUMNS[kind].get(column) or PRIVATE_COLUMNS[kind][column]


def _cast(feed: Feed) -> dict[tuple[str, str], str]:
    """(expression, type) of the values that are no text -> the column that holds them: each is computed once, also
    where two tables have it, for the value and for the check that none is lost."""
    wanted = dict.fromkeys(
        (sql, _type_of(kind, column)) for kind, columns in feed.values.items() for column, sql in columns.items()
    )
    return {one: f"v_value_{number}" for number, one in enumerate(wanted) if one[1] != "VARCHAR"}


def _faults_of(feed: Feed) -> str:
    """SQL: the numbers of ``checks_of(feed)`` that a row fails, NULL for a good row.

    Hardly a row fails one, so all are first asked at once. The last checks are a net below those of the layout: they
    are asked only of rows that pass all others.
    """
    net = len(feed.checks) + 2 * len(feed.columns)
    checks = list(checks_of(feed))
    if feed.reader:
        odd = feed.reader.odd
    else:
        whole = ", ".join(identifier(column) for column in feed.columns)
        odd = f"(contains(concat({whole}), chr(0)) OR strlen(concat({whole})) > {LONGEST_VALUE})"
    passed = f"CASE WHEN {feed.passed_over} THEN [{PASSED_OVER}]::SMALLINT[] END, " if feed.passed_over else ""
    suspicions = " OR ".join((*(f"({one.condition})" for one in feed.checks), odd))
    listed = ", ".join(f"CASE WHEN {one.condition} THEN {number} END" for number, one in enumerate(checks[:net]))
    netted = " ".join(f"WHEN {one.condition} THEN [{number}]" for number, one in enumerate(checks[net:], start=net))
    return (
        f"coalesce({passed}CASE WHEN {suspicions} THEN nullif(list_filter([{listed}]::SMALLINT[], "
        f"lambda one: one IS NOT NULL), []::SMALLINT[]) END, CASE {netted} END::SMALLINT[])"
    )


def checks_of(feed: Feed) -> Iterator[Check]:
    """The layout's checks; of every column's text; and that no key or value is lost without a word."""
    yield from feed.checks
    for column in feed.columns:
        yield Check(column, RowFault.CONTROL_CHARACTER, f"contains({identifier(column)}, chr(0))")
        yield Check(column, RowFault.VALUE_TOO_LONG, f"length({identifier(column)}) > {LONGEST_VALUE}")
    kinds = feed.carries
    lives = f"NOT coalesce({feed.deleted}, false)" if feed.deleted else "true"
    if any(kind is not Kind.PATIENTS for kind in kinds):
        yield Check("", RowFault.MISSING_VALUE, "admission_text IS NULL")
    if Kind.PATIENTS in kinds or Kind.ADMISSIONS in kinds:
        yield Check("", RowFault.MISSING_VALUE, f"patient_text IS NULL AND {lives}")
    for (sql, _), name in _cast(feed).items():
        yield Check("", RowFault.BAD_NUMBER, f"({sql}) IS NOT NULL AND {name} IS NULL")
    if "admitted_at" in feed.values.get(Kind.ADMISSIONS, {}):
        yield Check("", RowFault.MISSING_VALUE, f"({feed.values[Kind.ADMISSIONS]['admitted_at']}) IS NULL AND {lives}")
    if Kind.ADMISSIONS not in kinds:
        for kind, what in EVENTS.items():
            if kind in kinds:
                yield Check("", RowFault.MISSING_VALUE, f"({feed.values[kind][what]}) IS NULL AND {lives}")
