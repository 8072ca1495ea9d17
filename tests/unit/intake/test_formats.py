"""Encodings, line ends, delimiters, workbooks, Parquet, FHIR's odd references; what is unsafe is refused."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import secrets
import stat
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import openpyxl
import pytest

from medisync import intake
from medisync.intake import DeliveryReport, DeliveryStatus
from medisync.intake.arrival import Completeness
from medisync.intake.foresight import foresee
from medisync.lake import Lake
from medisync.settings import Settings
from tests.support import datasets
from tests.support.admissions_csv import COLUMNS, SURNAME, admission, admissions, text_of

GERMAN = (
    "MRN;Fall;Aufnahme;Entlassung;Geburtsdatum;Geschlecht;Station;Diagnose;Betrag\n"
    "A-1;9001;31.12.2023 08:15;02.01.2024 10:00;17.05.1950;W;Süd;Grippe;1.234,50 €\n"
    "A-2;9002;01.02.2024;;01.02.1990;M;;Asthma;99,00\n"
    "A-2;9003;05.03.2024;04.03.2024;01.02.1990;M;;Asthma;7\n"
)
KLINIK = """
mode = "upsert"
date_order = "day"
decimal = ","
site = "Klinikum"
patient_system = "mrn.example.org"
deleted = { column = "Status", values = ["storniert"] }
[columns]
patient = "MRN"
admission = "Fall"
admitted_at = "Aufnahme"
discharged_at = "Entlassung"
birth_date = "Geburtsdatum"
gender = "Geschlecht"
site = "Station"
condition = "Diagnose"
billing_amount = "Betrag"
[thresholds]
quarantine_share = 0.5
[codes.gender]
W = "female"
[codes.condition]
grippe = "Influenza"
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("formats")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    lake.settings.make_folders()
    yield lake
    lake.close()


def deliver(lake: Lake, path: Path, content: bytes | None = None, source: str | None = None) -> DeliveryReport:
    if content is not None:
        path.write_bytes(content)
    return intake.ingest(lake, path, source=source or f"source-{secrets.token_hex(4)}")


def of_the_file(report: DeliveryReport) -> dict[str, int]:
    """The notices about the file, without those about what is in it: the made-up stays are long."""
    return {reason: number for reason, number in report.notices.items() if reason != "LONG_STAY"}


def rows(lake: Lake, report: DeliveryReport, columns: str, table: str = "admissions") -> list[tuple[Any, ...]]:
    sql = f"SELECT {columns} FROM clinical.{table} WHERE source = ? ORDER BY ALL"
    return [tuple(row.values()) for row in lake.query(sql, [report.source])]


class TestText:
    TEXT = text_of([admission(number, Hospital="Universitätsklinik Köln") for number in range(12)])

    @pytest.mark.parametrize(
        ("content", "notices"),
        [
            (TEXT.encode(), {}),
            (TEXT.encode("utf-8-sig"), {}),
            (TEXT.encode("utf-16"), {"TRANSCODED": 1}),
            (TEXT.encode("utf-16-be"), {"TRANSCODED": 1}),
            (TEXT.encode("cp1252"), {"TRANSCODED": 1}),
            (gzip.compress(TEXT.encode("latin-1")), {"TRANSCODED": 1}),
            (TEXT.encode().replace(b"\n", b"\r"), {}),
            (TEXT.encode().replace(b"\n", b"\r\n", 4), {"LINE_ENDS_MIXED": 1}),
        ],
        ids=["UTF-8", "BOM", "UTF-16", "UTF-16 without BOM", "Windows", "Latin-1 gzip", "CR", "CRLF and LF"],
    )
    def test_any_encoding_and_line_end(
        self, lake: Lake, tmp_path: Path, content: bytes, notices: dict[str, int]
    ) -> None:
        report = deliver(lake, tmp_path / "data.csv", content)
        assert (report.status, report.created, of_the_file(report)) == (DeliveryStatus.LOADED, 12, notices)
        assert rows(lake, report, "DISTINCT site") == [("Universitätsklinik Köln",)]

    def test_an_encoding_that_shows_late(self, lake: Lake, tmp_path: Path) -> None:
        """The first million bytes are ASCII."""
        people = [*admissions(9000), admission(9001, Hospital="Köln")]
        content = text_of(people).encode("cp1252")
        assert max(content[: 1 << 20]) < 128
        report = deliver(lake, tmp_path / "data.csv", content)
        assert (report.created, report.quarantined, of_the_file(report)) == (9001, 0, {"TRANSCODED": 1})
        assert len(rows(lake, report, "site")) == 9001
        assert ("Köln",) in rows(lake, report, "DISTINCT site")

    @pytest.mark.parametrize(
        ("form", "reason"), [("%d/%m/%Y", None), ("%m-%d-%y", None), ("%Y%m%d", None), ("%d.%m.%Y %H:%M", None)]
    )
    def test_the_dates_of_a_column_tell_how_they_are_written(
        self, lake: Lake, tmp_path: Path, form: str, reason: str | None
    ) -> None:
        days = [dt.datetime(2023, 1, 1) + dt.timedelta(days=3 * number) for number in range(40)]  # noqa: DTZ001
        people = [
            admission(number, Date_of_Admission=day.strftime(form), Discharge_Date=day.strftime(form))
            for number, day in enumerate(days)
        ]
        report = deliver(lake, tmp_path / "data.csv", text_of(people).encode())
        assert (report.status, report.reason) == (DeliveryStatus.LOADED, reason)
        assert rows(lake, report, "admitted_at") == [(day,) for day in days]

    @pytest.mark.parametrize(
        ("days", "reason"),
        [
            (["03/04/2023", "05/06/2023", "01/02/2023"], "AMBIGUOUS_DATES"),
            (["13/04/2023", "05/16/2023", "01/02/2023"], "MIXED_DATES"),
        ],
    )
    def test_dates_that_do_not_tell_are_refused_unless_the_source_says(
        self, lake: Lake, tmp_path: Path, days: list[str], reason: str
    ) -> None:
        people = [admission(number, Date_of_Admission=day, Discharge_Date="") for number, day in enumerate(days)] + [
            admission(number, Date_of_Admission="04/05/2023", Discharge_Date="") for number in range(10, 20)
        ]
        source = f"source-{secrets.token_hex(4)}"
        report = deliver(lake, tmp_path / "data.csv", text_of(people).encode(), source)
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, reason)
        assert "Date of Admission" in str(report.message)
        (lake.settings.sources / f"{source}.toml").write_text('date_order = "day"')
        report = deliver(lake, tmp_path / "data.csv", None, source)
        assert report.status is DeliveryStatus.LOADED
        assert report.faults == ({"BAD_DATE": 1} if reason == "MIXED_DATES" else {})

    def test_a_mapped_source(self, lake: Lake, tmp_path: Path) -> None:
        (lake.settings.sources / "klinik.toml").write_text(KLINIK, encoding="utf-8")
        lines = GERMAN.splitlines()
        text = "\n".join([f"{lines[0]};Status", *(f"{line};" for line in lines[1:])])
        foreseen = foresee(lake, tmp_path / "none.csv", source="klinik")
        assert foreseen.report.reason == "DISAPPEARED"
        path = tmp_path / "export.csv"
        path.write_text(text, encoding="cp1252")
        foreseen = foresee(lake, path, source="klinik")
        assert (foreseen.report.created, foreseen.report.quarantined) == (2, 1)
        assert foreseen.faults == (("", "Entlassung", "DISCHARGE_BEFORE_ADMISSION", 1),)
        assert lake.query("SELECT count(*) AS n FROM clinical.deliveries WHERE source = 'klinik'") == [{"n": 0}]
        report = deliver(lake, path, None, "klinik")
        assert (report.status, report.created, report.quarantined) == (DeliveryStatus.LOADED, 2, 1)
        assert rows(lake, report, "site, age_years, billing_amount::VARCHAR, admitted_at") == [
            ("Klinikum", 34, "99.00", dt.datetime(2024, 2, 1)),  # noqa: DTZ001
            ("Süd", 73, "1234.50", dt.datetime(2023, 12, 31, 8, 15)),  # noqa: DTZ001
        ]
        assert rows(lake, report, "condition", "conditions") == [("Asthma",), ("Influenza",)]
        assert rows(lake, report, "gender, birth_year", "patients") == [("female", 1950), ("male", 1990)]
        report = deliver(lake, path, (text.splitlines()[0] + "\nA-2;9002;;;;;;;;storniert\n").encode(), "klinik")
        assert (report.deleted, report.quarantined) == (1, 0)

    def test_a_wrong_source_file_refuses(self, lake: Lake, tmp_path: Path) -> None:
        (lake.settings.sources / "wrong.toml").write_text('colour = "red"')
        report = deliver(lake, tmp_path / "data.csv", text_of(admissions(3)).encode(), "wrong")
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, "BAD_SOURCE")
        assert "key colour" in str(report.message)


class TestWorkbooks:
    def test_the_first_sheet_with_a_known_layout(self, lake: Lake, tmp_path: Path) -> None:
        book = openpyxl.Workbook()
        book.active.append(["Notes"])
        sheet = book.create_sheet("Admissions")
        sheet.append([])
        sheet.append(list(COLUMNS))
        for row in admissions(20):
            day = dt.datetime.fromisoformat(row["Date of Admission"])
            typed: dict[str, Any] = {**row, "Age": int(row["Age"]), "Date of Admission": day}
            typed["Room Number"] = "=1+1"  # without a value saved with it
            sheet.append(list(typed.values()))
        book.create_sheet("Older").append(list(COLUMNS))
        book.save(tmp_path / "export.xlsx")
        report = deliver(lake, tmp_path / "export.xlsx")
        assert (report.status, report.created, report.layout) == (DeliveryStatus.LOADED, 20, "healthcare_csv")
        days = sorted(dt.datetime.fromisoformat(row["Date of Admission"]) for row in admissions(20))
        assert rows(lake, report, "admitted_at") == [(day,) for day in days]
        assert rows(lake, report, "DISTINCT room") == [(None,)]

    def test_a_sheet_that_claims_to_be_vast(self, lake: Lake, tmp_path: Path) -> None:
        book = openpyxl.Workbook()
        book.active["A1"] = "Name"
        book.active["XFD1048576"] = "x"
        book.save(tmp_path / "bomb.xlsx")
        report = deliver(lake, tmp_path / "bomb.xlsx")
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, "TOO_LARGE")

    def test_what_is_no_workbook(self, lake: Lake, tmp_path: Path) -> None:
        report = deliver(lake, tmp_path / "export.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, "DAMAGED")


class TestFhir:
    PATIENT: ClassVar[dict[str, Any]] = {
        "resourceType": "Patient",
        "id": "p1",
        "birthDate": "1980-02",
        "gender": "female",
        "name": [{"family": SURNAME}],
    }
    START = "2024-03-01T23:30:00+01:00"

    def encounter(self, number: int, subject: dict[str, Any], **more: Any) -> dict[str, Any]:
        period = {"start": self.START, "end": "2024-03-02T08:00:00+01:00"}
        return {
            "resourceType": "Encounter",
            "id": f"e{number}",
            "status": "finished",
            "class": {"code": "IMP"},
            "subject": subject,
            "period": period,
            **more,
        }

    def test_every_kind_of_reference(self, lake: Lake, tmp_path: Path) -> None:
        subjects: list[dict[str, Any]] = [
            {"reference": "Patient/p1"},
            {"reference": "https://fhir.example.org/r4/Patient/p1"},
            {"reference": "Patient/p1/_history/3"},
            *([{"reference": "urn:uuid:p1"}] * 3),
        ]
        found = [self.PATIENT, *(self.encounter(number, subject) for number, subject in enumerate(subjects))]
        contained = [{"resourceType": "Patient", "id": "c", "identifier": [{"system": "s", "value": "1"}]}]
        found.append(self.encounter(10, {"reference": "#c"}, contained=contained))
        found.append(self.encounter(11, {"identifier": {"system": "s", "value": "1"}}))
        found.append(self.encounter(12, {"display": "nobody"}))
        found.append({"resourceType": "Observation", "id": "o"})
        text = "\n".join(json.dumps(one) for one in found) + "\n{broken\n"
        report = deliver(lake, tmp_path / "mixed.ndjson", text.encode())
        assert (report.status, report.created, report.faults) == (
            DeliveryStatus.LOADED,
            8,
            {"MALFORMED_ROW": 1, "MISSING_VALUE": 1},
        )
        assert report.notices["SKIPPED_RESOURCES"] == 1
        by_patient = lake.query(
            "SELECT count(*) AS n FROM clinical.admissions WHERE source = ? GROUP BY patient_key ORDER BY n",
            [report.source],
        )
        assert [row["n"] for row in by_patient] == [2, 6]
        assert rows(lake, report, "DISTINCT admission_type, admitted_at") == [
            ("inpatient encounter", dt.datetime(2024, 3, 1, 23, 30))  # noqa: DTZ001 - as written: no zone is told
        ]

    def test_a_time_zone_converts_offsets(self, lake: Lake, tmp_path: Path) -> None:
        (lake.settings.sources / "far.toml").write_text('time_zone = "America/New_York"')
        text = "\n".join(json.dumps(one) for one in (self.PATIENT, self.encounter(1, {"reference": "Patient/p1"})))
        report = deliver(lake, tmp_path / "one.ndjson", text.encode(), "far")
        assert rows(lake, report, "admitted_at") == [(dt.datetime(2024, 3, 1, 17, 30),)]  # noqa: DTZ001

    def test_a_bundle_whose_entries_have_no_ids_or_others_than_their_addresses(
        self, lake: Lake, tmp_path: Path
    ) -> None:
        encounter = self.encounter(1, {"reference": "urn:uuid:aa"})
        condition = {
            "resourceType": "Condition",
            "subject": {"reference": "urn:uuid:aa"},
            "encounter": {"reference": "urn:uuid:bb"},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "6142004"}]},
        }
        request = {
            "resourceType": "MedicationRequest",
            "subject": {"reference": "urn:uuid:aa"},
            "encounter": {"reference": "urn:uuid:bb"},
            "medicationReference": {"reference": "urn:uuid:cc"},
        }
        medication = {"resourceType": "Medication", "code": {"text": "Aspirin"}}
        patient = {name: value for name, value in self.PATIENT.items() if name != "id"}
        entries = [
            {"fullUrl": "urn:uuid:dd", "resource": condition},
            {"fullUrl": "urn:uuid:ee", "resource": request},
            {"fullUrl": "urn:uuid:bb", "resource": encounter},
            {"fullUrl": "urn:uuid:cc", "resource": medication},
            {"fullUrl": "urn:uuid:aa", "resource": patient},
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        source = f"source-{secrets.token_hex(4)}"
        report = deliver(lake, tmp_path / "bundle.json", json.dumps(bundle, indent=1).encode(), source)
        assert (report.status, report.created, report.faults) == (DeliveryStatus.LOADED, 1, {})
        assert rows(lake, report, "condition, code", "conditions") == [("6142004", "6142004")]
        assert rows(lake, report, "medication", "prescriptions") == [("Aspirin",)]
        assert rows(lake, report, "age_years") == [(44,)]
        gone = {"resourceType": "Bundle", "entry": [{"request": {"method": "DELETE", "url": "Encounter/e1"}}]}
        report = deliver(lake, tmp_path / "gone.json", json.dumps(gone).encode(), source)
        assert (report.status, report.deleted) == (DeliveryStatus.LOADED, 1)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"[" * 300_000, "MALFORMED"),
            (b'{"resourceType":"Bundle","entry":[' + b'{"a":' * 100_000, "MALFORMED"),
            (b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"}}', "MALFORMED"),
            (b'{"resourceType":"Bundle","entry":[]}', "UNKNOWN_LAYOUT"),
            (b'{"a": 1}', "UNKNOWN_LAYOUT"),
            (b'{"resourceType":"Patient","id":"\xff\xfe"}', "MALFORMED"),
        ],
    )
    def test_json_that_is_refused(self, lake: Lake, tmp_path: Path, content: bytes, reason: str) -> None:
        report = deliver(lake, tmp_path / "data.json", content)
        assert report.status is DeliveryStatus.REFUSED
        assert report.reason in (reason, "NOT_UTF8", "UNKNOWN_LAYOUT", "NO_ROWS")


def zipped(*members: tuple[str, bytes], mode: int = 0o644, flags: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, content)
    packed = bytearray(stream.getvalue())
    if flags:
        packed[6] |= flags
        packed[packed.index(b"PK\x01\x02") + 8] |= flags
    return bytes(packed)


GOOD = text_of(admissions(5)).encode()


class TestSets:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (zipped(("../up.csv", GOOD)), "UNSAFE_ARCHIVE"),
            (zipped(("/etc/up.csv", GOOD)), "UNSAFE_ARCHIVE"),
            (zipped(("C:/up.csv", GOOD)), "UNSAFE_ARCHIVE"),
            (zipped(("a.csv", GOOD), ("a.csv", GOOD)), "UNSAFE_ARCHIVE"),
            (zipped(("link.csv", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), "UNSAFE_ARCHIVE"),
            (zipped(("in.zip", zipped(("a.csv", GOOD)))), "UNSAFE_ARCHIVE"),
            (zipped(("zero.csv", bytes(80_000_000))), "TOO_LARGE"),
            (zipped(("a.csv", GOOD), flags=1), "ENCRYPTED"),
            (zipped(("a.csv", GOOD))[:-30], "DAMAGED"),
            (zipped(), "EMPTY_FILE"),
            (zipped(("read.me", b"nothing")), "UNKNOWN_LAYOUT"),
            (zipped(*((f"{number}.csv", b"") for number in range(2001))), "TOO_LARGE"),
            (zipped(("a.csv", GOOD), ("b.ndjson", b'{"resourceType":"Patient","id":"a"}\n')), "MIXED_LAYOUTS"),
            (zipped(("a.csv", GOOD), ("b.csv.gz", gzip.compress(GOOD)[:-9])), "DAMAGED"),
        ],
    )
    def test_archives_that_are_refused(self, lake: Lake, tmp_path: Path, content: bytes, reason: str) -> None:
        report = deliver(lake, tmp_path / "set.zip", content)
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, reason), report.message
        assert not (tmp_path / "up.csv").exists()

    def test_what_is_no_data_is_passed_over(self, lake: Lake, tmp_path: Path) -> None:
        others = (("README.txt", b"hello"), ("__MACOSX/._a.csv", b"x"), ("logo.png", b"\x89PNG\0"))
        members = (("data/a.csv", GOOD), *others)
        report = deliver(lake, tmp_path / "set.zip", zipped(*members))
        assert (report.status, report.created, of_the_file(report)) == (DeliveryStatus.LOADED, 5, {"SKIPPED_FILES": 2})

    def test_a_fault_names_its_part(self, lake: Lake, tmp_path: Path) -> None:
        bad = text_of([*admissions(9), admission(20, Age="-1")]).encode()
        report = deliver(lake, tmp_path / "set.zip", zipped(("a.csv", bad), (f"{SURNAME}.csv", GOOD)))
        found = lake.query(
            "SELECT part, row_number, reason FROM clinical.quarantine WHERE delivery_id = ?", [report.delivery_id]
        )
        assert found == [{"part": "file 2 (name withheld).csv", "row_number": 10, "reason": "NEGATIVE_AGE"}]

    def test_a_folder_with_a_link_is_refused(self, lake: Lake, tmp_path: Path) -> None:
        folder = tmp_path / "set"
        folder.mkdir()
        (folder / "a.csv").write_bytes(GOOD)
        (folder / "b.csv").symlink_to("/etc/passwd")
        assert deliver(lake, folder).reason == "NOT_A_FILE"

    def test_a_folder_is_complete_when_all_of_its_files_are(self, tmp_path: Path) -> None:
        folder = tmp_path / "set"
        folder.mkdir()
        completeness = Completeness(0.0)
        assert not completeness.is_complete(folder)
        assert not completeness.is_complete(folder)  # nothing is in it
        (folder / "a.csv").write_bytes(GOOD)
        (folder / "b.csv.part").write_bytes(GOOD[:20])
        assert not completeness.is_complete(folder)
        assert not completeness.is_complete(folder)
        (folder / "b.csv.part").rename(folder / "b.csv")
        assert not completeness.is_complete(folder)  # it has changed
        with (folder / "b.csv").open("ab") as writer:
            assert not completeness.is_complete(folder)
            writer.write(b"\n")
        assert not completeness.is_complete(folder)
        assert completeness.is_complete(folder)

    def test_names_are_kept_for_later_deliveries(self, lake: Lake, tmp_path: Path) -> None:
        tables = datasets.omop_set(8)
        folder = datasets.write_omop(tmp_path / "cdm", tables)
        source = f"source-{secrets.token_hex(4)}"
        assert deliver(lake, folder / "CONCEPT.csv", None, source).status is DeliveryStatus.LOADED
        for path in (folder / "CONCEPT.csv", folder / "CARE_SITE.csv"):
            path.unlink()
        report = deliver(lake, folder, None, source)
        assert ("metformin",) in rows(lake, report, "DISTINCT medication", "prescriptions")
        assert rows(lake, report, "DISTINCT site")[:2] == [("0",), ("1",)]  # no site was ever named
