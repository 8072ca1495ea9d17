"""FHIR R4: bundles (JSON) and bulk NDJSON. Each type of resource we keep becomes a table of text.

NDJSON is read by DuckDB, line by line, so memory does not depend on a file's size. Documents (bundles, single
resources, arrays of them) are first rewritten as NDJSON, entry by entry. Nesting does no harm: DuckDB's parser does not
recurse, and Python's refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medisync.intake import delimited
from medisync.intake.delimited import text, without_patterns
from medisync.intake.formats import documents
from medisync.intake.formats.tables import Room, Table
from medisync.intake.parts import Part
from medisync.intake.reading import identifier, refused
from medisync.intake.reasons import FileFault, Notice, RowFault

if TYPE_CHECKING:
    import duckdb

LARGEST_LINE_BYTES = 64 * 1024**2
LARGEST_RESOURCE_BYTES = 1024**2
"""Of a resource we keep; the specification's largest examples have a tenth."""

_ID = r"[^/?#|\s]+"
"""The specification allows fewer signs than servers use."""


def _text(path: str) -> str:
    return f"json_extract_string(resource, '$.{path}')"


def reference(field: str, target: str) -> str:
    """The id that a reference at ``field`` points to: relative, absolute, ``urn:uuid:``, contained or by identifier."""
    text = _text(f"{field}.reference")
    fragment = f"substr({text}, 2)"
    contained = (
        "list_filter(json_extract(resource, '$.contained[*]'), "
        f"lambda one: json_extract_string(one, '$.id') = {fragment})[1]"
    )
    by_identifier = "concat_ws('|', json_extract_string({0}, '$.{1}system'), json_extract_string({0}, '$.{1}value'))"
    inner = by_identifier.format(f"({contained})", "identifier[0].")
    outer = by_identifier.format("resource", f"{field}.identifier.")
    return (
        f"CASE WHEN {text} LIKE 'urn:uuid:%' OR {text} LIKE 'urn:oid:%' THEN lower(substr({text}, 10)) "
        f"WHEN {text} LIKE '#%' THEN coalesce(nullif({inner}, ''), {_text('id')} || {text}) "
        f"WHEN regexp_matches({text}, '(^|/){target}/{_ID}(/_history/.*)?$') "
        f"THEN regexp_extract({text}, '(^|/){target}/({_ID})(/_history/.*)?$', 2) "
        f"WHEN {text} LIKE '{target}?identifier=%' THEN substr({text}, {len(target) + len('?identifier=') + 1}) "
        f"ELSE nullif({outer}, '') END"
    )


def _concept(field: str, resource: str = "resource") -> str:
    """What a CodeableConcept is called: by the first of its codings that has a name, else by its text."""
    displays = f"json_extract_string({resource}, '$.{field}.coding[*].display')"
    named = f"list_filter({displays}, lambda one: one <> '')[1]"
    return f"coalesce({named}, json_extract_string({resource}, '$.{field}.text'))"


def _joined(path: str) -> str:
    return f"array_to_string(json_extract_string(resource, '$.{path}'), ' ')"


_CONTAINED_MEDICATION = (
    "(list_filter(json_extract(resource, '$.contained[*]'), "
    f"lambda one: '#' || json_extract_string(one, '$.id') = {_text('medicationReference.reference')})[1])"
)


def _medication_coding(element: str) -> str:
    contained = f"json_extract_string({_CONTAINED_MEDICATION}, '$.code.coding[0].{element}')"
    return f"coalesce({_text(f'medicationCodeableConcept.coding[0].{element}')}, {contained})"


_DELETED = {"deleted": _text("_deleted")}
RESOURCES: dict[str, dict[str, str]] = {
    "Patient": {
        "id": _text("id"),
        "gender": _text("gender"),
        "birthDate": _text("birthDate"),
        "name.given": _joined("name[*].given[*]"),
        "name.family": _joined("name[*].family"),
        **_DELETED,
    },
    "Encounter": {
        "id": _text("id"),
        "status": _text("status"),
        "class": f"coalesce({_text('class.code')}, {_text('class[0].coding[0].code')})",
        "class.display": _text("class.display"),
        "subject": reference("subject", "Patient"),
        "period.start": _text("period.start"),
        "period.end": _text("period.end"),
        "serviceProvider": reference("serviceProvider", "Organization"),
        "serviceProvider.display": _text("serviceProvider.display"),
        "participant": reference("participant[0].individual", "Practitioner"),
        **_DELETED,
    },
    "Condition": {
        "id": _text("id"),
        "verificationStatus": _text("verificationStatus.coding[0].code"),
        "code": _text("code.coding[0].code"),
        "code.system": _text("code.coding[0].system"),
        "code.text": _concept("code"),
        "subject": reference("subject", "Patient"),
        "encounter": reference("encounter", "Encounter"),
        "recordedDate": f"coalesce({_text('recordedDate')}, {_text('onsetDateTime')}, {_text('onsetPeriod.start')})",
        **_DELETED,
    },
    "MedicationRequest": {
        "id": _text("id"),
        "status": _text("status"),
        "medication": f"coalesce({_concept('medicationCodeableConcept')}, {_text('medicationReference.display')}, "
        f"{_concept('code', _CONTAINED_MEDICATION)})",
        "medication.code": _medication_coding("code"),
        "medication.system": _medication_coding("system"),
        "medicationReference": reference("medicationReference", "Medication"),
        "subject": reference("subject", "Patient"),
        "encounter": reference("encounter", "Encounter"),
        "authoredOn": _text("authoredOn"),
        **_DELETED,
    },
    "Organization": {"id": _text("id"), "name": _text("name")},
    "Medication": {
        "id": _text("id"),
        "code.text": _concept("code"),
        "code": _text("code.coding[0].code"),
        "code.system": _text("code.coding[0].system"),
    },
}
"""Type -> column -> SQL over the JSON value ``resource``. Columns are called by the element they come from."""


def is_json(start: bytes) -> bool:
    """Whether a text that begins so may be JSON."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def is_document(start: bytes) -> bool:
    """Whether a text that begins so is JSON, and not one record a line."""
    return is_json(start) and not _is_ndjson(start)


def together(parts: Sequence[Part], room: Room) -> Part:
    """Several documents as one part, whose rows count through all of them; raises DeliveryRefusedError."""
    path = room.file(".ndjson")
    documents.write_as_ndjson(parts, path)
    return Part(path.name, f"{len(parts)} documents" if len(parts) > 1 else parts[0].label, path)


def tables_of(part: Part, compression: str, cursor: duckdb.DuckDBPyConnection, room: Room) -> list[Table]:
    """One table for each type of resource we keep in a file of one JSON record a line; raises DeliveryRefusedError.

    Lines that are no resource go to ``malformed``. Resources of other types are counted in the notices.
    """
    packing = "gzip" if compression == "gzip" else "uncompressed"
    path = without_patterns(part.path).replace("'", "''")
    source = (
        f"(SELECT row_number() OVER () AS row_number, json AS resource FROM read_ndjson_objects('{path}', "
        f"ignore_errors = true, compression = '{packing}', maximum_object_size = {LARGEST_LINE_BYTES}))"
    )
    numbers = _count(cursor, source, part)
    known = [name for name in RESOURCES if name in numbers]
    if not known:
        cursor.execute("DELETE FROM malformed WHERE part = ?", [part.label])
        raise refused(
            FileFault.UNKNOWN_LAYOUT,
            "Its JSON holds no FHIR resource that is loaded.",
            hint="docs/intake.md says which are.",
        )
    others = sum(number for name, number in numbers.items() if name not in RESOURCES)
    notices = {Notice.SKIPPED_RESOURCES.value: others} if others else {}
    shelf = room if delimited.is_large(part.path, compression) else None
    return [_table(part, name, source, notices if name == known[0] else {}, shelf) for name in known]


def _is_ndjson(start: bytes) -> bool:
    """Whether the first line is a whole resource, and no bundle."""
    line = start.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
    if start.startswith(b"\xef\xbb\xbf") or b"\r" in line.rstrip(b"\r"):
        return False
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        # A first line that is damaged in a file of lines, each with an object: the rest may be well.
        lines = start.split(b"\n")[1:4]
        return bool(lines) and all(re.match(rb'\s*\{.*"resourceType".*\}\s*$', one) for one in lines if one.strip())
    return isinstance(found, dict) and found.get("resourceType") != "Bundle"


def _count(cursor: duckdb.DuckDBPyConnection, source: str, part: Part) -> dict[str, int]:
    """Resources by type. Sets lines aside that are no resource or too large."""
    import duckdb

    delimited.prepare(cursor)
    kept = ", ".join(f"'{name}'" for name in RESOURCES)
    try:
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE resource_types AS "
            "SELECT row_number, json_extract_string(resource, '$.resourceType') AS type, "
            f"strlen(resource::VARCHAR) AS size FROM {source}"
        )
    except duckdb.OutOfMemoryException:
        raise refused(FileFault.TOO_LARGE, "One of its records is too large to be read.") from None
    except duckdb.Error:
        raise refused(FileFault.MALFORMED, "It is neither a JSON document nor one JSON record a line.") from None
    cursor.execute(
        f"INSERT INTO malformed SELECT ?, row_number, NULL, CASE WHEN size IS NULL OR type IS NULL "
        f"THEN '{RowFault.MALFORMED_ROW.value}' ELSE '{RowFault.VALUE_TOO_LONG.value}' END, NULL FROM resource_types "
        f"WHERE type IS NULL OR (type IN ({kept}) AND size > {LARGEST_RESOURCE_BYTES})",
        [part.label],
    )
    found = cursor.execute(
        "SELECT type, count(*) FROM resource_types WHERE type IS NOT NULL GROUP BY type ORDER BY type"
    ).fetchall()
    cursor.execute("DROP TABLE temp.resource_types")
    return dict(found)


def _table(part: Part, resource: str, source: str, notices: dict[str, int], shelf: Room | None) -> Table:
    """Of a large part the text goes into a file of ``shelf``, so that memory does not grow with it."""
    columns = RESOURCES[resource]

    def read(cursor: duckdb.DuckDBPyConnection, positions: Mapping[str, int], table: str) -> None:
        expressions = list(columns.values())
        kept = "".join(f", {expressions[index]} AS {identifier(name)}" for name, index in positions.items())
        trimmed = "".join(f", nullif(trim({identifier(name)}), '') AS {identifier(name)}" for name in positions)
        select = (
            f"SELECT row_number, row_hash{trimmed} FROM ("
            f"SELECT row_number, hash(resource::VARCHAR) AS row_hash{kept} FROM {source} "
            f"WHERE strlen(resource::VARCHAR) <= {LARGEST_RESOURCE_BYTES} "
            f"AND json_extract_string(resource, '$.resourceType') = '{resource}')"
        )
        if shelf is None:
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {select}")
            return
        file = shelf.file(".parquet")
        cursor.execute(f"COPY ({select}) TO {text(str(file))} (FORMAT parquet)")
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS FROM read_parquet({text(without_patterns(file))})")

    return Table(part, "fhir", tuple(columns), (), read, resource=resource, notices=notices)
