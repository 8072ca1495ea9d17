"""Files of the known standards as other programs and other houses write them."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from medisync.intake.drafting import guesses_of
from medisync.intake.formats.tables import Table
from medisync.intake.parts import Part
from tests.support import datasets
from tests.support.admissions_csv import COLUMNS, admissions, text_of
from tests.unit.intake.conftest import Read

ROWS = 24
FIRST_DAYS = sorted(row["Date of Admission"] for row in admissions(ROWS))
Reading = Callable[..., Read]
Resource = dict[str, Any]


def ndjson(*resources: Resource, end: str = "\n") -> bytes:
    return "".join(json.dumps(one) + end for one in resources).encode()


def patient(**more: Any) -> Resource:
    return {"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1980-05-01", **more}


def encounter(**more: Any) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": "e",
        "status": "finished",
        "class": {"code": "IMP"},
        "subject": {"reference": "Patient/p"},
        "period": {"start": "2024-05-02T10:00:00Z"},
        **more,
    }


def condition(**more: Any) -> Resource:
    return {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/e"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "1", "display": "Asthma"}]},
        **more,
    }


def request(**more: Any) -> Resource:
    return {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/e"},
        "medicationCodeableConcept": {"coding": [{"system": "rx", "code": "2", "display": "Aspirin"}]},
        **more,
    }


class TestFhir:
    def test_entries_without_an_encounter_are_counted_and_refuse_nothing(self, read: Reading) -> None:
        """Most of a problem list names no encounter."""
        lone = {"encounter": None}
        found = read(
            ndjson(patient(), encounter(), condition(), request(), *[condition(**lone)] * 5, *[request(**lone)] * 4),
            ending="ndjson",
        )
        assert (found.faults, found.notices) == ({}, {"WITHOUT_ADMISSION": 9})
        assert found.of("conditions_condition") == ["Asthma"]
        assert found.of("prescriptions_medication") == ["Aspirin"]

    def test_an_encounter_that_is_named_otherwise_is_none_to_guess(self, read: Reading) -> None:
        ids = ("urn:uuid:e", "https://ehr.example.org/fhir/Encounter/e", "Encounter/e/_history/2", "Encounter/e")
        found = read(ndjson(encounter(), *(condition(encounter={"reference": one}) for one in ids)), ending="ndjson")
        assert len(set(found.of("admission_key"))) == 1
        odd = read(
            ndjson(encounter(id="e_1~x"), condition(encounter={"reference": "Encounter/e_1~x"})), ending="ndjson"
        )
        assert len(set(odd.of("admission_key"))) == 1
        assert odd.notices == {}

    def test_the_first_coding_with_a_name_names_and_the_first_code_counts(self, read: Reading) -> None:
        codings = [{"system": "local", "code": "X1"}, {"system": "http://snomed.info/sct", "code": "1", "display": "A"}]
        found = read(
            ndjson(
                encounter(),
                condition(code={"coding": codings, "text": "as somebody typed it"}),
                condition(id="d", code={"text": "only text"}),
                condition(id="f", code={"coding": [{"code": "Z"}]}),
            ),
            ending="ndjson",
        )
        assert found.of("conditions_condition") == ["A", "only text", "Z"]
        assert found.of("conditions_code") == ["X1", None, "Z"]

    @pytest.mark.parametrize("place", ["concept", "contained", "resource"])
    def test_a_medication_wherever_it_stands(self, read: Reading, place: str) -> None:
        concept = {"coding": [{"system": "rx", "code": "2", "display": "Aspirin"}]}
        medication = {"resourceType": "Medication", "id": "a", "code": concept}
        said: dict[str, Any] = {
            "concept": {"medicationCodeableConcept": concept},
            "contained": {"contained": [medication], "medicationReference": {"reference": "#a"}},
            "resource": {"medicationReference": {"reference": "Medication/a"}},
        }[place]
        one = request(**said)
        if place != "concept":
            del one["medicationCodeableConcept"]
        found = read(ndjson(one, encounter(), *([medication] if place == "resource" else [])), ending="ndjson")
        assert (found.of("prescriptions_medication"), found.of("prescriptions_code")) == (["Aspirin"], ["2"])
        assert found.of("prescriptions_code_system") == ["rx"]

    def test_conditions_before_patients_in_a_folder_of_a_bulk_export(self, read: Reading, tmp_path: Path) -> None:
        """The order of names is not the order of what refers to what; a manifest and a log lie beside."""
        folder = tmp_path / "export"
        folder.mkdir()
        kinds = {"1.Condition.ndjson": condition(), "2.Encounter.ndjson": encounter(), "3.Patient.ndjson": patient()}
        for name, one in kinds.items():
            (folder / name).write_bytes(ndjson(one))
        (folder / "manifest.json").write_text('{"transactionTime": "2024-06-01T00:00:00Z", "output": []}')
        (folder / "log.txt").write_text("exported 3 files\n")
        (folder / "4.Observation.ndjson").write_bytes(ndjson({"resourceType": "Observation", "id": "o"}))
        found = read(folder)
        assert (found.faults, found.of("admissions_age_years")) == ({}, [44])
        assert found.of("conditions_condition") == ["Asthma"]

    @pytest.mark.parametrize("end", ["\r\n", "\n\n", "\r\n\r\n"])
    def test_line_ends_and_blank_lines(self, read: Reading, end: str) -> None:
        found = read(ndjson(patient(), encounter(), condition(), end=end), ending="ndjson")
        assert (found.faults, found.of("conditions_condition")) == ({}, ["Asthma"])

    def test_a_byte_order_mark_and_a_bundle_in_each_line(self, read: Reading) -> None:
        bundles = [
            {"resourceType": "Bundle", "type": kind, "entry": [{"resource": one} for one in (patient(), found)]}
            for kind, found in (("collection", encounter()), ("searchset", condition()))
        ]
        found = read(b"\xef\xbb\xbf" + ndjson(*bundles), ending="json")
        assert (found.faults, found.of("conditions_condition")) == ({}, ["Asthma"])


class TestOmop:
    def test_visits_alone(self, read: Reading, tmp_path: Path) -> None:
        tables = {"VISIT_OCCURRENCE": datasets.omop_set(20)["VISIT_OCCURRENCE"]}
        found = read(datasets.write_omop(tmp_path / "cdm", tables))
        assert (len(found.days), found.faults) == (20, {})
        assert set(found.values["admissions_admission_type"]) == {
            "Inpatient Visit",
            "Outpatient Visit",
            "Emergency Room Visit",
        }

    def test_without_vocabularies_codes_stand_for_names(self, read: Reading, tmp_path: Path) -> None:
        tables = datasets.omop_set(20)
        del tables["CONCEPT"], tables["CARE_SITE"]
        found = read(datasets.write_omop(tmp_path / "cdm", tables, rename=str.upper))
        assert found.faults == {}
        assert found.notices["WITHOUT_ADMISSION"] == 1
        assert found.notices["CODE_WITHOUT_NAME"] == 58
        assert set(found.of("conditions_condition")) == {f"c{one}" for one in datasets.CONDITION_CONCEPTS}

    def test_athena_s_vocabulary_has_quotes_that_are_none(self, read: Reading, tmp_path: Path) -> None:
        """Athena writes tabs and never quotes: a name may hold one inch sign, or begin with a quoted word."""
        folder = datasets.write_omop(tmp_path / "cdm", datasets.omop_set(20))
        lines = (folder / "CONCEPT.csv").read_text().replace(",", "\t").splitlines()
        lines += ['91\tNeedle 3/4" long\tDevice\tSNOMED\t\tS\tx1', '92\t"Old" name\tDevice\tSNOMED\t\tS\tx2'] * 3
        (folder / "CONCEPT.csv").write_text("\n".join(lines) + "\n")
        found = read(folder)
        assert len(found.of("conditions_condition")) == 20
        assert set(found.of("conditions_condition")) == set(datasets.CONDITION_CONCEPTS.values())

    def test_typed_parquet_with_gaps(self, read: Reading, tmp_path: Path) -> None:
        folder = datasets.write_omop(tmp_path / "cdm", datasets.omop_set(20), rename=str.upper)
        with duckdb.connect() as own:
            for path in list(folder.iterdir()):
                own.execute(f"COPY (FROM read_csv('{path}')) TO '{path.with_suffix('.parquet')}' (FORMAT parquet)")
                path.unlink()
        found = read(folder)
        assert (found.faults, len(found.of("conditions_condition"))) == ({}, 20)
        assert len(set(found.of("admission_key"))) == 20

    def test_the_tables_we_do_not_read_are_counted(self, read: Reading, tmp_path: Path) -> None:
        folder = datasets.write_omop(tmp_path / "cdm", datasets.omop_set(20))
        others = {
            "concept_ancestor": "ancestor_concept_id,descendant_concept_id,min_levels_of_separation",
            "concept_synonym": "concept_id,concept_synonym_name,language_concept_id",
            "condition_era": "condition_era_id,person_id,condition_concept_id,condition_era_start_date",
            "provider": "provider_id,provider_name,year_of_birth,gender_concept_id,care_site_id",
            "visit_detail": "visit_detail_id,person_id,visit_detail_concept_id,visit_occurrence_id",
            "death": "person_id,death_date",
        }
        for name, header in others.items():
            (folder / f"{name}.csv").write_text(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
        found = read(folder)
        assert (found.faults, found.notices["SKIPPED_FILES"]) == ({}, len(others))


class TestSynthea:
    def written(self, folder: Path, change: Callable[[str, list[dict[str, str]]], None]) -> Path:
        folder.mkdir()
        for name in ("patients", "encounters", "conditions", "medications", "organizations", "payers", "providers"):
            rows = datasets.synthea_rows(name)
            change(name, rows)
            with (folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return folder

    def test_an_older_and_a_newer_version(self, read: Reading, tmp_path: Path) -> None:
        whole = read(self.written(tmp_path / "now", lambda *_: None))

        def older(_: str, rows: list[dict[str, str]]) -> None:
            """Of 2019: no payers, fewer columns."""
            for row in rows:
                for column in ("REVENUE", "LAT", "LON", "PAYER", "PAYER_COVERAGE", "TOTAL_CLAIM_COST", "BASE_COST"):
                    row.pop(column, None)

        def newer(name: str, rows: list[dict[str, str]]) -> None:
            for row in rows:
                row["SOMETHING_NEW"] = "1"
                if name == "conditions":
                    row["SYSTEM"] = "SNOMED-CT"

        for number, change in enumerate((older, newer)):
            found = read(self.written(tmp_path / f"other-{number}", change))
            assert (found.faults, found.days) == (whole.faults, whole.days)
            assert sorted(found.of("admissions_site")) == sorted(whole.of("admissions_site"))
            assert sorted(found.of("conditions_condition")) == sorted(whole.of("conditions_condition"))
        assert len(whole.days) == len(datasets.synthea_rows("encounters"))


class TestHealthcareCsv:
    def test_a_german_export(self, read: Reading) -> None:
        """Semicolons, a decimal comma, Latin-1, days first, Windows' line ends, and columns of the house's own."""
        made = admissions(ROWS)
        for number, row in enumerate(made):
            row["Hospital"] = "Städtisches Klinikum"
            row["Billing Amount"] = f"{1000 + number},25"
            for column in ("Date of Admission", "Discharge Date"):
                year, month, day = row[column].split("-")
                row[column] = f"{day}.{month}.{year}"
            row["Kostenstelle"] = str(number)
        columns = ["Kostenstelle", *reversed(COLUMNS)]
        file = io.StringIO()
        writer = csv.DictWriter(file, columns, delimiter=";", lineterminator="\r\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(made)
        found = read(file.getvalue().encode("latin-1"))
        assert (found.days, found.faults) == (FIRST_DAYS, {})
        assert found.bills == [1000.25 + number for number in range(ROWS)]
        assert set(found.values["admissions_site"]) == {"Städtisches Klinikum"}
        assert (found.notices["TRANSCODED"], found.notices["EXTRA_COLUMNS"]) == (1, 1)

    @pytest.mark.parametrize("rare", ["\r\n", "\n", "\r"])
    @pytest.mark.parametrize("place", [1, ROWS // 2, ROWS])
    @pytest.mark.parametrize("usual", ["\n", "\r\n"])
    def test_line_ends_of_two_kinds_lose_no_row(self, read: Reading, usual: str, rare: str, place: int) -> None:
        lines = text_of(admissions(ROWS)).splitlines()
        text = usual.join(lines[:place]) + rare + usual.join(lines[place:]) + usual
        found = read(text.encode())
        assert (found.days, found.faults) == (FIRST_DAYS, {})

    def test_a_discharge_without_its_time_on_the_day_of_admission(self, read: Reading) -> None:
        made = admissions(ROWS)
        for number, row in enumerate(made):
            day = dt.date.fromisoformat(row["Date of Admission"])
            row["Date of Admission"] = f"{day} 10:30:00"
            row["Discharge Date"] = str(day - dt.timedelta(days=number % 2))
        found = read(text_of(made))
        assert found.faults == {"DISCHARGE_BEFORE_ADMISSION": ROWS // 2}
        assert found.values["admissions_discharged_at"] == found.values["admissions_admitted_at"]

    def test_the_days_of_a_spreadsheet_as_numbers(self, read: Reading) -> None:
        """Copied as values, a day is its number since the end of 1899."""
        made = admissions(ROWS)
        for row in made:
            for column in ("Date of Admission", "Discharge Date"):
                row[column] = str((dt.date.fromisoformat(row[column]) - dt.date(1899, 12, 30)).days)
        found = read(text_of(made))
        assert (found.days, found.faults) == (FIRST_DAYS, {})


class TestDrafts:
    @pytest.mark.parametrize(
        ("header", "fields"),
        [
            (
                "Fallnr;PatNr;Nachname;GebDatum;Geschlecht;Aufnahme;Entlassung;Hauptdiagnose;ICD",
                "admission patient - birth_date gender admitted_at discharged_at condition condition_code",
            ),
            (
                "ADM_ID;MRN;Surname;DOB;Sex;Admit_Dt;Disch_Dt;Dx;ICD_Code",
                "admission patient - birth_date gender admitted_at discharged_at condition condition_code",
            ),
            (
                "Num_Sejour;IPP;Nom;Date_Naissance;Sexe;Date_Entrée;Date_Sortie;Diagnostic;ICD10",
                "- patient - birth_date gender admitted_at discharged_at condition condition_code",
            ),
        ],
    )
    def test_a_house_s_own_names_are_told(self, header: str, fields: str) -> None:
        sample = tuple(
            (
                f"F{n:04d}",
                f"P{n % 40:04d}",
                "Somebody",
                f"{1 + n % 28:02d}.05.1960",
                "mf"[n % 2],
                f"{13 + n % 10}.01.2024 10:30",
                f"{14 + n % 10}.02.2024 11:00",
                ("Pneumonia", "Asthma")[n % 2],
                ("J18.9", "J45.0")[n % 2],
            )
            for n in range(60)
        )
        names = tuple(header.split(";"))
        table = Table(Part("a.csv", "a.csv", Path("a.csv")), "text", names, sample, lambda *_: None)
        found = {names[guess.column]: guess.field for guess in guesses_of(table)}
        assert [found.get(name, "-") for name in names] == fields.split()
