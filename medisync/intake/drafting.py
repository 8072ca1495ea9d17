"""A first source file from a look at a table: a guess for each column, with how sure it is and why.

Names of columns say most, the shapes of their values the rest. No value stands in the draft. A table without a header
is refused, since its first row would be taken for names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medisync.errors import DeliveryRefusedError
from medisync.intake.formats import Room, Table, tables_of
from medisync.intake.layouts import recognise
from medisync.intake.layouts.dates import NUMERIC, OFFSET
from medisync.intake.layouts.values import COMMA_DECIMAL
from medisync.intake.parts import parts_of
from medisync.intake.reading import refused
from medisync.intake.reasons import FileFault
from medisync.intake.sources import Source

if TYPE_CHECKING:
    import duckdb

CERTAIN_ENOUGH = 0.4
"""Guesses below this are not worth a line."""

NAME_WEIGHT, SHAPE_WEIGHT = 0.7, 0.3

NAMES: dict[str, tuple[str, ...]] = {
    "patient": ("patient id", "patient number", "patient no", "mrn", "medical record number", "pid", "patient", "name",
                "patient name", "patientennummer", "subject id", "person id"),
    "admission": ("admission id", "encounter id", "visit id", "case id", "case number", "fallnummer", "episode id",
                  "stay id", "hadm id", "encounter", "visit", "case", "fall", "admission number"),
    "practitioner": ("doctor", "physician", "practitioner", "provider", "arzt", "consultant", "attending", "clinician"),
    "admitted_at": ("admitted", "admission date", "date of admission", "admit date", "admittime", "aufnahme",
                    "aufnahmedatum", "start date", "arrival", "admission time", "start", "admit"),
    "discharged_at": ("discharged", "discharge date", "date of discharge", "dischtime", "entlassung",
                      "entlassungsdatum", "end date", "departure", "discharge", "stop", "end"),
    "age_years": ("age", "age years", "alter", "patient age", "age at admission"),
    "birth_date": ("birth date", "date of birth", "dob", "birthdate", "geburtsdatum", "born"),
    "birth_year": ("birth year", "year of birth", "yob", "geburtsjahr"),
    "gender": ("gender", "sex", "geschlecht"),
    "blood_type": ("blood type", "blood group", "blutgruppe"),
    "site": ("hospital", "site", "facility", "clinic", "ward", "department", "station", "klinik", "location"),
    "admission_type": ("admission type", "type of admission", "encounter class", "class", "visit type",
                       "aufnahmeart", "priority"),
    "insurer": ("insurance provider", "insurer", "payer", "insurance", "versicherung", "krankenkasse", "payor"),
    "billing_amount": ("billing amount", "amount", "charge", "charges", "cost", "total", "total cost", "betrag",
                       "price", "bill"),
    "room": ("room", "room number", "bed", "zimmer", "bett"),
    "test_result": ("test result", "test results", "result", "befund"),
    "condition": ("medical condition", "condition", "diagnosis", "diagnose", "diagnosis name", "disease", "problem"),
    "condition_code": ("icd", "icd10", "icd code", "diagnosis code", "condition code", "snomed"),
    "medication": ("medication", "drug", "medicine", "prescription", "medikament", "drug name"),
    "medication_code": ("atc", "ndc", "rxnorm", "drug code", "medication code"),
}  # fmt: skip
"""Field -> what its column is called, the surest first."""

MEANT = {
    "pat": "patient", "patienten": "patient", "paciente": "patient", "paziente": "patient", "patiënt": "patient",
    "patnr": "patient number", "patid": "patient id", "ipp": "patient id", "nhc": "patient id",
    "nr": "number", "num": "number", "numero": "number", "número": "number", "numéro": "number", "nummer": "number",
    "adm": "admission", "aufn": "aufnahme", "eintritt": "admission date", "aufnahmezeit": "admission date",
    "ingreso": "admission date", "ricovero": "admission date", "entrée": "admission date", "opname": "admission date",
    "disch": "discharge", "entl": "entlassung", "austritt": "discharge date", "entlassungszeit": "discharge date",
    "alta": "discharge date", "dimissione": "discharge date", "sortie": "discharge date", "ontslag": "discharge date",
    "fallnr": "case number", "fallid": "case id", "aufnahmenummer": "case number", "séjour": "stay id",
    "episodio": "episode id", "enc": "encounter",
    "geb": "birth", "gebdat": "birth date", "gebdatum": "birth date", "naissance": "birth date",
    "nacimiento": "birth date", "nascita": "birth date", "geboortedatum": "birth date",
    "dat": "date", "datum": "date", "fecha": "date", "data": "date", "dt": "date",
    "sexe": "sex", "sexo": "sex", "sesso": "sex", "geslacht": "sex", "edad": "age", "età": "age", "leeftijd": "age",
    "dx": "diagnosis", "diag": "diagnosis", "hauptdiagnose": "diagnosis", "diagnostic": "diagnosis",
    "diagnóstico": "diagnosis", "diagnosi": "diagnosis", "hôpital": "hospital", "krankenhaus": "hospital",
    "ospedale": "hospital", "ziekenhuis": "hospital", "abteilung": "department", "service": "department",
    "rechnungsbetrag": "amount", "montant": "amount", "importe": "amount", "kosten": "cost", "médicament": "drug",
    "medicamento": "drug", "farmaco": "drug", "médecin": "doctor", "médico": "doctor", "medico": "doctor",
}  # fmt: skip
"""Short for words of ``NAMES``, or them in other languages."""

SHAPES = {
    "patient": ("key", "code", "name"),
    "admission": ("key", "code"),
    "practitioner": ("name", "code"),
    "admitted_at": ("date",),
    "discharged_at": ("date",),
    "age_years": ("age",),
    "birth_date": ("date",),
    "birth_year": ("year",),
    "gender": ("gender",),
    "blood_type": ("blood",),
    "site": ("few", "words"),
    "admission_type": ("few",),
    "insurer": ("few", "words"),
    "billing_amount": ("number",),
    "room": ("code", "age", "number"),
    "test_result": ("few",),
    "condition": ("few", "words"),
    "condition_code": ("code", "few"),
    "medication": ("few", "words"),
    "medication_code": ("code", "few", "number"),
}
"""Field -> the shapes its values have, the most usual first."""

DATE = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}([ T].*)?|{NUMERIC[1:]}.*|\d{{8}}")
WORDS = {
    "key": "nearly all different",
    "code": "codes",
    "name": "several words each",
    "date": "dates",
    "age": "whole numbers up to 120",
    "year": "years",
    "gender": "words for genders",
    "blood": "blood groups",
    "few": "few different values",
    "words": "words",
    "number": "numbers",
}


@dataclass(frozen=True)
class Guess:
    """``column`` (its place in the table) is taken for ``field``, with a confidence from 0 to 1, because of ``why``."""

    column: int
    field: str
    confidence: float
    why: str


def draft_of(connection: duckdb.DuckDBPyConnection, path: Path, source: Source, room: Room) -> str:
    """The text of a first source file for the file, folder or archive ``path``; raises DeliveryRefusedError."""
    if not path.exists():
        raise refused(FileFault.DISAPPEARED, "There is no such file.")
    tables, unread = tables_of(parts_of(path, room.folder / "unpacked"), source, connection, room)
    if not tables:
        raise unread[0][1]
    try:
        return draft(tables, recognise(tables, Source(name=source.name)).layout.name)
    except DeliveryRefusedError as error:
        if error.reason not in (FileFault.UNKNOWN_LAYOUT, FileFault.MISSING_COLUMN, FileFault.DUPLICATE_COLUMN):
            raise
    return draft([table for table in tables if table.resource is None], None)


def guesses_of(table: Table) -> list[Guess]:
    """For each field at most one column and for each column at most one field, the surest first.

    Raises DeliveryRefusedError when the table has no header.
    """
    _refuse_without_header(table)
    columns = [[row[place] for row in table.sample if row[place]] for place in range(len(table.columns))]
    shapes = [shapes_of(values) for values in columns]
    scored = sorted(
        (
            guess
            for place, name in enumerate(table.columns)
            for field in NAMES
            if (guess := _guess(place, name, field, shapes[place])).confidence >= CERTAIN_ENOUGH
        ),
        key=lambda guess: (-guess.confidence, guess.column),
    )
    taken_columns: set[int] = set()
    taken_fields: set[str] = set()
    kept = []
    for guess in scored:
        if guess.column not in taken_columns and guess.field not in taken_fields:
            kept.append(guess)
            taken_columns.add(guess.column)
            taken_fields.add(guess.field)
    return kept


def shapes_of(values: Sequence[str]) -> frozenset[str]:
    """What the values of a column look like: keys of ``WORDS``."""
    if not values:
        return frozenset()
    found = set()
    different = len({value.casefold() for value in values})

    def mostly(pattern: str) -> bool:
        return sum(bool(re.fullmatch(pattern, value)) for value in values) >= 0.9 * len(values)

    if mostly(DATE.pattern):
        found.add("date")
    if mostly(r"\d{1,3}") and all(int(value) <= 120 for value in values if value.isdecimal()):
        found.add("age")
    if mostly(r"(18|19|20)\d{2}"):
        found.add("year")
    if mostly(r"[-+]?[\d.,]*\d\s?[€$£]?"):
        found.add("number")
    if mostly(r"(?i)f|m|w|d|x|u|male|female|other|unknown|man|woman|männlich|weiblich|divers"):
        found.add("gender")
    if mostly(r"(?i)(a|b|ab|o|0)\s?[-+](ve)?"):
        found.add("blood")
    if mostly(r"\S*\d\S*") and "date" not in found:
        found.add("code")
    if mostly(r"[^\d]+ [^\d]+"):
        found.add("name")
    if mostly(r"[^\d]*"):
        found.add("words")
    if different >= 0.9 * len(values) and len(values) > 1 and "date" not in found:
        found.add("key")
    if different <= max(12, len(values) // 10):
        found.add("few")
    return frozenset(found)


def draft(tables: Sequence[Table], layout: str | None) -> str:
    """The text of a source file for ``tables``; with a known ``layout`` there is nothing to map."""
    lines = ["# Written by: medisync source draft. Look at each line before you use it; docs/sources.md says more."]
    if layout is not None:
        lines += [f"# The layout is recognised: {layout}. This file is needed only for what content cannot tell.", ""]
        lines += ['# mode = "auto"', '# time_zone = "Europe/Berlin"', '# site = "..."']
        return "\n".join(lines) + "\n"
    lines += ["", *_hints(tables)]
    for table in tables:
        lines += ["", "[[tables]]" if len(tables) > 1 else "[columns]", *_columns(table)]
    return "\n".join(lines) + "\n"


def _columns(table: Table) -> list[str]:
    guesses = guesses_of(table)
    if not guesses:
        raise refused(
            FileFault.UNKNOWN_LAYOUT,
            f"No name of its {len(table.columns)} columns says what it holds.",
            hint="Has the table a header? docs/sources.md lists what can be mapped.",
        )
    entries = [f"{guess.field} = {quoted(table.columns[guess.column])}" for guess in guesses]
    width = max((len(entry) for entry in entries), default=0)
    lines = [
        f"{entry:<{width}}  # {guess.confidence:.0%} sure: {guess.why}"
        for entry, guess in zip(entries, guesses, strict=True)
    ]
    fields = {guess.field for guess in guesses}
    for field, what in (("patient", "the patient's number"), ("admitted_at", "the time of admission")):
        if field not in fields:
            lines.append(f'# {field} = "..."  # not found: name the column with {what}')
    used = {guess.column for guess in guesses}
    others = [name for place, name in enumerate(table.columns) if place not in used]
    return [*lines, *(f"# not mapped, never kept: {quoted(name)}" for name in others)]


def _hints(tables: Sequence[Table]) -> list[str]:
    """Keys about the whole source that the samples suggest."""
    texts = [value for table in tables for row in table.sample for value in row if value]
    lines = ['mode = "auto"  # or "upsert", "snapshot", "append"']
    numeric = [
        match for text in texts if (match := re.match(r"(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4}|\d{2})(\D|$)", text))
    ]
    if numeric:
        day = any(int(match.group(1)) > 12 for match in numeric)
        month = any(int(match.group(2)) > 12 for match in numeric)
        if day != month:
            lines.append(f'date_order = "{"day" if day else "month"}"')
        else:
            lines.append('# date_order = "day"  # or "month": the dates looked at do not tell')
    if any(re.search(OFFSET, text) and ":" in text for text in texts):
        lines.append('# time_zone = "Europe/Berlin"  # timestamps with an offset are converted to it')
    if any(COMMA_DECIMAL.fullmatch(text) for text in texts):
        lines.append('decimal = ","')
    return lines


def _guess(place: int, name: str, field: str, shapes: frozenset[str]) -> Guess:
    names, wanted = NAMES[field], SHAPES[field]
    written = re.findall(r"[^\W_]+", re.sub(r"([a-zß-ÿ])([A-Z])", r"\1 \2", name).lower())
    meant = " ".join(MEANT.get(word, word) for word in written)
    called = max(_called(words, names) for words in {" ".join(written), meant})
    fitting = [shape for shape in wanted if shape in shapes]
    looks = 1.0 - 0.2 * wanted.index(fitting[0]) if fitting else 0.0
    # A name alone may mislead, a shape alone tells little: of dates there are many.
    confidence = NAME_WEIGHT * called + SHAPE_WEIGHT * looks if called else 0.0
    if called and shapes and not fitting:
        confidence *= 0.5
    why = [*(["its name"] if called else []), *([WORDS[fitting[0]]] if fitting else [])]
    return Guess(place, field, round(min(confidence, 0.99), 2), ", ".join(why))


def _called(words: str, names: Sequence[str]) -> float:
    """How surely a column called ``words`` is meant by one of ``names``; of several words some may say it."""
    if words in names:
        return 1.0 - 0.02 * names.index(words)
    parts = set(words.split())
    return max((0.7 * len(set(one.split())) / len(parts) for one in names if set(one.split()) <= parts), default=0.0)


def _refuse_without_header(table: Table) -> None:
    """Names are no numbers, no dates, and do not occur among the values below them."""
    for place, name in enumerate(table.columns):
        is_value = bool(re.fullmatch(r"[-+]?[\d.,]+", name)) or bool(DATE.fullmatch(name))
        is_repeated = any(row[place].casefold() == name.casefold() for row in table.sample)
        if is_value or (is_repeated and name):
            raise refused(
                FileFault.UNKNOWN_LAYOUT,
                f"Column {place + 1} is called by what looks like a value: the table seems to have no header.",
                hint="Put a line with the columns' names above the rows.",
            )


def quoted(text: str) -> str:
    """``text`` as a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in escaped) + '"'
