"""The search for people finds them in whatever they are packed into, and nobody where nobody is."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import io
import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from medisync import intake
from medisync.cli.main import app
from medisync.intake.privacy import IdentifierKind, Identifiers, identifiers_of, scan
from medisync.intake.privacy.folding import fold, words
from medisync.intake.privacy.patterns import Patterns
from medisync.intake.privacy.scan import identifying_dates
from medisync.lake import Lake
from medisync.ledger import Claims, open_ledger
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, write_csv

NAME = "Zoë Ünterschlag-Weiß"
SYNTHEA = """Id,BIRTHDATE,SSN,FIRST,LAST,ADDRESS,CITY,LAT,LON,PHONE
3edac2e3-d223-6fae-d515-daf96ef6bc76,1931-10-06,999-17-5017,Maynard46,Mosciski958,784 Stamm Lock Unit 46,Somerville,\
42.36877442769006,-71.15168585038569,555-123-4567
"""
FHIR = {
    "resourceType": "Patient",
    "id": "a-17-b-2291-x",
    "name": [{"family": "Kuhlmanova", "given": ["Brady"]}],
    "telecom": [{"system": "email", "value": "b.k@example.org"}],
    "address": [{"line": ["12 Mulberry Crescent"], "city": "Boston"}],
    "birthDate": "1941-02-03",
}


@pytest.fixture(scope="module")
def sought(tmp_path_factory: pytest.TempPathFactory) -> Identifiers:
    folder = tmp_path_factory.mktemp("delivered")
    rows = [*admissions(30), admissions(1)[0] | {"Name": NAME, "Hospital": "Unterschlag Hospital"}]
    write_csv(folder / "one.csv.gz", rows)
    (folder / "patients.csv").write_text(SYNTHEA)
    (folder / "bundle.json").write_text(json.dumps({"resourceType": "Bundle", "entry": [{"resource": FHIR}]}))
    return identifiers_of([folder])


def kinds(folder: Path, sought: Identifiers) -> set[IdentifierKind]:
    return {finding.kind for finding in scan([folder], sought).findings}


def _database(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (a TEXT, b TEXT)")
        database.execute("INSERT INTO t VALUES (?, ?)", (f"about {text}", "Boston"))
        database.commit()


def _log(path: Path, text: str) -> None:
    """A database whose row stands in its write-ahead log alone."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE t (a TEXT)")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("INSERT INTO t VALUES (?)", (text,))
        database.commit()
        kept = Path(f"{path}-wal").read_bytes()
    path.unlink()
    Path(f"{path}-wal").write_bytes(kept)


def _duckdb(path: Path, text: str) -> None:
    with duckdb.connect(str(path)) as database:
        database.execute(
            "CREATE TABLE t AS SELECT i, CASE WHEN i = 777 THEN ? ELSE 'x' END AS a FROM range(5000) r(i)", [text]
        )


def _parquet(path: Path, text: str) -> None:
    with duckdb.connect() as database:
        database.execute(
            "CREATE TABLE t AS SELECT i, CASE WHEN i = 777 THEN ? ELSE 'x' END AS a FROM range(5000) r(i)", [text]
        )
        database.execute(f"COPY t TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def _zip(path: Path, text: str) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep.csv", f"a,b\n{text},1\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner.getvalue())


PLACES: dict[str, Callable[[Path, str], object]] = {
    "note.txt": lambda path, text: path.write_text(f"Seen: {text}, again."),
    "upper.txt": lambda path, text: path.write_text(text.upper()),
    "turned.txt": lambda path, text: path.write_text(", ".join(reversed(text.split(" ", 1)))),
    "old.txt": lambda path, text: path.write_bytes(f"\xe4\xe4\xe4 \xe4 {text} again".encode("latin-1", "replace")),
    "wide.txt": lambda path, text: path.write_bytes(text.encode("utf-16")),
    "bundle.js": lambda path, text: path.write_bytes(b"x" * 5_000_000 + f"('{text}')".encode() + b"y" * 3_000_000),
    "page.html": lambda path, text: path.write_text("".join(f"&#{ord(sign)};" for sign in text)),
    "link.log": lambda path, text: path.write_text(f"GET /?q={text.replace(' ', '%20')}&x=1"),
    "notebook.ipynb": lambda path, text: path.write_text(json.dumps({"cells": [json.dumps({"out": f"\n{text}\n"})]})),
    "inline.json": lambda path, text: path.write_text(
        json.dumps({"d": base64.b64encode(f'{{"n": "{text}"}}'.encode()).decode()})
    ),
    "packed.gz": lambda path, text: path.write_bytes(gzip.compress(f"a,b\n{text},1".encode())),
    "packed.zip": _zip,
    "base.sqlite": _database,
    "base.db": _log,
    "base.duckdb": _duckdb,
    "table.parquet": _parquet,
}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_name_is_found_in_every_kind_of_file(place: str, sought: Identifiers, tmp_path: Path) -> None:
    PLACES[place](tmp_path / place, "Nobody Inparticular")
    assert kinds(tmp_path, sought) == set()
    (tmp_path / place).unlink(missing_ok=True)
    PLACES[place](tmp_path / place, NAME)
    assert kinds(tmp_path, sought) == {IdentifierKind.NAME}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("999-17-5017", IdentifierKind.NUMBER),
        ("999175017", IdentifierKind.NUMBER),
        ("3EDAC2E3-D223-6FAE-D515-DAF96EF6BC76", IdentifierKind.NUMBER),
        ("a-17-b-2291-x", IdentifierKind.NUMBER),
        ("call (555) 123-4567 now", IdentifierKind.PHONE),
        ("5551234567", IdentifierKind.PHONE),
        ("B.K@EXAMPLE.ORG", IdentifierKind.EMAIL),
        ("784 stamm lock, unit 46", IdentifierKind.ADDRESS),
        ("12 Mulberry Crescent", IdentifierKind.ADDRESS),
        ("at 42.36877442769006 north", IdentifierKind.PLACE),
        ("born 1931-10-06", IdentifierKind.BIRTH_DATE),
        ("born 6.10.1931", IdentifierKind.BIRTH_DATE),
        ("Maynard46,Mosciski958", IdentifierKind.NAME),
        ("Maynard Mosciski", IdentifierKind.NAME),
        ("KuhlmanovaBrady", IdentifierKind.NAME),
    ],
)
def test_every_kind_of_identifier_is_found(
    text: str, kind: IdentifierKind, sought: Identifiers, tmp_path: Path
) -> None:
    (tmp_path / "x.txt").write_text(f"a line before\n{text}\na line after")
    assert kinds(tmp_path, sought) == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "0.9991750173",  # a number that goes on
        "12.999175017",  # a decimal
        "Unterschlag Hospital, Somerville, Boston",  # said anyway
        "Ottoline",  # one word
        "1931-10-06, 1931-11-02, 1932-01-15",  # dates among others of their time
        "Maynard\nMosciski",  # the end of one line, the start of the next
        "bmaynard mosciskiz",
    ],
)
def test_nobody_is_found_where_nobody_is(text: str, sought: Identifiers, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(text)
    assert kinds(tmp_path, sought) == set()


def test_a_file_can_be_called_after_a_person(sought: Identifiers, tmp_path: Path) -> None:
    (tmp_path / "brady_kuhlmanova.csv").write_text("")
    assert kinds(tmp_path, sought) == {IdentifierKind.NAME}


def test_a_column_of_surnames_is_found_and_a_few_of_them_are_not(tmp_path: Path) -> None:
    surnames = [f"Quastel{chr(97 + i)}{chr(97 + j)}" for i in range(8) for j in range(8)]
    lines = [f"Ann,{name}" for name in surnames]
    (tmp_path / "people.csv").write_text("FIRST,LAST\n" + "\n".join(lines))
    sought = identifiers_of([tmp_path / "people.csv"])
    place = tmp_path / "place"
    place.mkdir()
    (place / "x.json").write_text(json.dumps(surnames[:10]))
    assert kinds(place, sought) == set()
    (place / "x.json").write_text(json.dumps(surnames[:30]))
    assert kinds(place, sought) == {IdentifierKind.SURNAMES}


def test_dense_numbers_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "omop.csv").write_text("person_id,gender\n" + "".join(f"{i},m\n" for i in range(1000, 1500)))
    sought = identifiers_of([tmp_path / "omop.csv"])
    assert (len(sought), sought.left_out) == (0, {"a short or dense number": 500})


def test_birth_dates_count_only_where_no_other_date_is_near() -> None:
    births = frozenset({dt.date(1931, 10, 6), dt.date(2020, 5, 5)})
    assert identifying_dates({dt.date(1931, 10, 6), dt.date(2020, 5, 5), dt.date(2020, 5, 6)}, births) == {
        dt.date(1931, 10, 6)
    }
    many = frozenset(dt.date(1930, 1, 1) + dt.timedelta(days=7 * week) for week in range(400))
    assert identifying_dates(set(list(many)[:2]), many) == set()
    assert len(identifying_dates(set(list(many)[:3]), many)) == 3


def test_patterns_agree_with_a_search_word_by_word() -> None:
    forms = [f"{a}{i} {b}" for i in range(60) for a in ("anna", "bo", "christopher") for b in ("li", "meier", "o neil")]
    patterns = Patterns(form.encode() for form in forms)
    text = fold(
        " ".join(f"x{i}, anna{i} meier bo{i} li christopher{i} o'neil; anna{i} meierx" for i in range(0, 90, 7))
    )
    padded = text.replace(b"\x01", b" ").replace(b"\x02", b" ")
    expected = {form.encode() for form in forms if f" {form} ".encode() in padded}
    assert patterns.found(text) == expected
    assert len(expected) == 27


def test_folding() -> None:
    assert fold("Ünter-Schlag, Zoë;x\n'a'") == b"\x02unter schlag zoe\x01x\x02a\x02"
    assert words("Dr. Łukasz  O’Neil 1.5") == ["dr", "lukasz", "o", "neil", "1.5"]
    assert words("Dr. Lukasz O'Neil 1.5 v.2") == fold("Dr. Lukasz O'Neil 1.5 v.2").decode().strip("\x02").split()


def test_a_name_in_the_lake_is_found_in_its_files_and_in_its_catalog(lake: Lake, sought: Identifiers) -> None:
    with lake.transaction("planted") as cursor:
        cursor.execute(
            "INSERT INTO lake.clinical.admissions (source, admission_key, patient_key, site, admitted_at, delivery_id) "
            "SELECT 'default', uuid(), uuid(), ?, TIMESTAMP '2024-01-01', 'd' FROM range(3)",
            [f"Ward of {NAME}"],
        )
        cursor.execute(
            "INSERT INTO lake.analytics.results VALUES ('r', 'a', 'full', ?)",
            [json.dumps({"headline": f"{NAME} is ill"})],
        )
    lake.close()  # reading the catalog's file drops the locks that this process holds on it
    findings = scan([lake.settings.data], sought).findings
    assert {(Path(one.file).suffix, one.kind) for one in findings} >= {(".parquet", IdentifierKind.NAME)}
    assert any(Path(one.file).name.startswith("catalog.sqlite") for one in findings)


def test_a_name_in_postgres_is_found_by_its_table(server_workspace: Settings, tmp_path: Path) -> None:
    """The workspace's own database belongs to its folder; others are named by their address."""
    lake = Lake(server_workspace)
    delivered = write_csv(tmp_path / "delivered.csv", admissions(3))
    intake.ingest(lake, delivered)
    command = ["privacy-scan", "--file", str(delivered), "--json"]
    clean = CliRunner().invoke(app, [*command, str(server_workspace.data)])
    assert clean.exit_code == 0, clean.output
    assert json.loads(clean.output)["files"] > 40  # the catalog's and the ledger's tables among them
    with lake.transaction("planted") as cursor:
        cursor.execute(
            "INSERT INTO lake.analytics.results VALUES ('r', 'a', 'full', ?)",
            [json.dumps({"headline": "Quenaaab Brambleworth is ill"})],
        )
    Claims(open_ledger(server_workspace)).add("of Quenaaab Brambleworth", "default")
    for place in (str(server_workspace.data), server_workspace.database_url):
        told = CliRunner().invoke(app, [*command, place])
        assert told.exit_code == 1
        found = json.loads(told.output)["findings"]
        assert {one["kind"] for one in found} == {"name"}
        tables = {one["file"].partition(": ")[2] for one in found}  # in rows, and in what the catalog knows of a column
        assert {"ledger.claims", "lake.ducklake_table_column_stats"} < tables
        assert any(one.startswith("lake.ducklake_inlined_data_") for one in tables)
        assert "brambleworth" not in told.output.lower()
    wrong = CliRunner().invoke(app, [*command, "postgresql://somebody:secret@host/name"])
    assert wrong.exit_code == 2
    assert "secret" not in wrong.output


class TestCommand:
    def test_exit_codes_and_no_value(self, tmp_path: Path) -> None:
        write_csv(tmp_path / "delivered.csv", admissions(3))
        place = tmp_path / "place"
        place.mkdir()
        (place / "clean.txt").write_text("nobody")
        command = ["privacy-scan", str(place), "--file", str(tmp_path / "delivered.csv")]
        assert CliRunner().invoke(app, command).exit_code == 0
        (place / "leak.txt").write_text("Quenaaab Brambleworth")
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1
        assert "leak.txt: 1 name" in result.output
        assert "brambleworth" not in result.output.lower()
        told = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
        assert told["findings"] == [{"file": "leak.txt", "kind": "name", "number": 1}]
