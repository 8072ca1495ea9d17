"""Every data set that ships loads, its counts are those of its files, and all six analyses compute on it."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medisync import intake
from medisync.intake import DeliveryReport, DeliveryStatus
from medisync.lake import Lake, Snapshot
from medisync.settings import Settings
from tests.support import datasets

ANALYSES = (
    "patient_demographics",
    "patient_health_trends",
    "illness_prediction",
    "medication_analysis",
    "patient_volume_prediction",
    "illness_surge_prediction",
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("layouts")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    yield lake
    lake.close()


def load(lake: Lake, path: Path, source: str) -> DeliveryReport:
    report = intake.ingest(lake, path, source=source)
    assert report.status is DeliveryStatus.LOADED, report.message
    return report


def count(lake: Lake, table: str, source: str) -> int:
    return int(lake.query(f"SELECT count(*) AS n FROM clinical.{table} WHERE source = ?", [source])[0]["n"])


def counts(lake: Lake, source: str) -> tuple[int, int, int, int]:
    patients, admissions, conditions, prescriptions = (
        count(lake, table, source) for table in ("patients", "admissions", "conditions", "prescriptions")
    )
    return patients, admissions, conditions, prescriptions


def values(lake: Lake, table: str, column: str, source: str) -> Counter[Any]:
    return Counter(
        row[column] for row in lake.query(f"SELECT {column} FROM clinical.{table} WHERE source = ?", [source])
    )


class TestMessyHealthcareCsv:
    def test_it_loads_with_its_faults_listed(self, lake: Lake) -> None:
        rows = datasets.messy_rows()
        report = load(lake, datasets.MESSY, "messy")
        last = {(row["Name"].lower(), day_of(row), row["Hospital"].lower()): row for row in rows}
        # Five rows repeat another; one writes the date of another's with other separators.
        assert (report.rows_read, report.created) == (len(rows), len(last)) == (10_006, 10_000)
        assert (report.duplicates_exact, report.duplicates_conflicting, report.quarantined) == (5, 1, 0)
        assert report.notices["SPLIT_CELL"] == 10_006
        insurers = Counter(re.sub(r" [\d.]+$", "", row["Insurance Provider"]) for row in last.values())
        assert values(lake, "admissions", "insurer", "messy") == insurers
        assert values(lake, "admissions", "admitted_at", "messy") == Counter(day_of(row) for row in last.values())
        billed = sum(round(float(row["Insurance Provider"].split()[-1]), 2) for row in last.values())
        found = lake.query("SELECT sum(billing_amount) AS total FROM clinical.admissions WHERE source = 'messy'")
        assert float(found[0]["total"]) == pytest.approx(billed, abs=0.5)


def day_of(row: dict[str, str]) -> dt.datetime:
    return dt.datetime.strptime(re.sub(r"[/.]", "-", row["Date of Admission"]), "%d-%m-%y")  # noqa: DTZ007


class TestSynthea:
    def test_a_set_in_one_archive(self, lake: Lake) -> None:
        report = load(lake, datasets.SYNTHEA, "synthea")
        encounters = datasets.synthea_rows("encounters")
        patients = {row["Id"]: row for row in datasets.synthea_rows("patients")}
        given = [len(datasets.synthea_rows(name)) for name in ("patients", "encounters", "conditions", "medications")]
        assert (report.created, report.quarantined, report.rows_read) == (604, 0, sum(given))
        # One medication stands there twice, with other costs; costs are not kept.
        columns = ("ENCOUNTER", "CODE", "DESCRIPTION", "START")
        medications = {tuple(row[name] for name in columns) for row in datasets.synthea_rows("medications")}
        assert counts(lake, "synthea") == (*given[:3], len(medications)) == (27, 604, 438, 662)
        names = {row["Id"]: row["NAME"] for row in datasets.synthea_rows("organizations")}
        assert values(lake, "admissions", "site", "synthea") == Counter(
            names[row["ORGANIZATION"]] for row in encounters
        )
        payers = {row["Id"]: row["NAME"] for row in datasets.synthea_rows("payers")}
        assert values(lake, "admissions", "insurer", "synthea") == Counter(payers[row["PAYER"]] for row in encounters)
        ages = Counter(min(years(patients[row["PATIENT"]]["BIRTHDATE"], row["START"][:10]), 90) for row in encounters)
        assert values(lake, "admissions", "age_years", "synthea") == ages
        described = Counter(row["DESCRIPTION"] for row in datasets.synthea_rows("conditions"))
        assert values(lake, "conditions", "condition", "synthea") == described

    def test_one_by_one_in_the_worst_order(self, lake: Lake, tmp_path: Path) -> None:
        with zipfile.ZipFile(datasets.SYNTHEA) as archive:
            archive.extractall(tmp_path)
        order = ("payers", "organizations", "medications", "conditions", "encounters", "patients")
        for name in order:
            report = load(lake, tmp_path / f"{name}.csv", "synthea-apart")
        assert counts(lake, "synthea-apart") == counts(lake, "synthea")
        for table, columns in (
            ("admissions", "site, insurer, age_years, admitted_at, billing_amount"),
            ("conditions", "condition, code, recorded_at"),
            ("prescriptions", "medication, code, prescribed_at"),
        ):
            together, apart = (
                lake.query(f"SELECT {columns} FROM clinical.{table} WHERE source = ? ORDER BY ALL", [source])
                for source in ("synthea", "synthea-apart")
            )
            assert together == apart
        assert "WAITING" not in report.notices

    def test_a_folder_is_the_same_delivery_as_its_archive(self, lake: Lake, tmp_path: Path) -> None:
        folder = tmp_path / "export"
        with zipfile.ZipFile(datasets.SYNTHEA) as archive:
            archive.extractall(folder)
        assert intake.ingest(lake, folder, source="synthea").status is DeliveryStatus.REPEAT
        assert folder.is_dir()


class TestFhir:
    def test_bulk_files(self, lake: Lake) -> None:
        report = load(lake, datasets.FHIR_BULK, "bulk")
        assert counts(lake, "bulk") == (80, 2260, 544, 570)
        assert (report.created, report.quarantined) == (2260, 0)
        self._compare(lake, "bulk", datasets.FHIR_BULK)

    def test_bundles(self, lake: Lake) -> None:
        report = load(lake, datasets.FHIR_BUNDLES, "bundles")
        kinds = Counter(one["resourceType"] for one in datasets.resources(datasets.FHIR_BUNDLES))
        kept = ("Patient", "Encounter", "Condition", "MedicationRequest")
        assert counts(lake, "bundles") == tuple(kinds[kind] for kind in kept)
        assert (
            report.notices["SKIPPED_RESOURCES"]
            == sum(kinds.values()) - sum(kinds[k] for k in kept) - kinds["Organization"]
        )
        names = {
            f"urn:uuid:{one['id']}": one["name"] for one in datasets.resources(datasets.FHIR_BUNDLES, "Organization")
        }
        sites = Counter(
            names[one["serviceProvider"]["reference"]] for one in datasets.resources(datasets.FHIR_BUNDLES, "Encounter")
        )
        assert values(lake, "admissions", "site", "bundles") == sites
        self._compare(lake, "bundles", datasets.FHIR_BUNDLES)

    def _compare(self, lake: Lake, source: str, archive: Path) -> None:
        births = {one["id"]: one["birthDate"] for one in datasets.resources(archive, "Patient")}
        encounters = list(datasets.resources(archive, "Encounter"))
        ages = Counter(
            min(years(births[one["subject"]["reference"][9:]], one["period"]["start"][:10]), 90) for one in encounters
        )
        assert values(lake, "admissions", "age_years", source) == ages
        starts = Counter(dt.datetime.fromisoformat(one["period"]["start"]).replace(tzinfo=None) for one in encounters)
        assert values(lake, "admissions", "admitted_at", source) == starts
        for table, column, kind, element in (
            ("conditions", "condition", "Condition", "code"),
            ("prescriptions", "medication", "MedicationRequest", "medicationCodeableConcept"),
        ):
            texts = Counter(one[element]["text"] for one in datasets.resources(archive, kind))
            assert values(lake, table, column, source) == texts


class TestOmop:
    @pytest.mark.parametrize(
        ("delimiter", "rename", "source"), [(",", str.lower, "omop"), ("\t", str.upper, "omop-upper")]
    )
    def test_a_set_as_text(self, lake: Lake, tmp_path: Path, delimiter: str, rename: Any, source: str) -> None:
        tables = datasets.omop_set()
        report = load(lake, datasets.write_omop(tmp_path / "cdm", tables, delimiter=delimiter, rename=rename), source)
        self._compare(lake, source, tables, report)

    def test_a_set_as_parquet(self, lake: Lake, tmp_path: Path) -> None:
        tables = datasets.omop_set()
        folder = datasets.write_omop(tmp_path / "cdm", tables)
        for path in list(folder.iterdir()):
            target = str(path.with_suffix(".parquet"))
            lake.cursor().execute(f"COPY (FROM read_csv('{path}')) TO '{target}' (FORMAT parquet)")
            path.unlink()
        self._compare(lake, "omop-parquet", tables, load(lake, folder, "omop-parquet"))

    def _compare(self, lake: Lake, source: str, tables: dict[str, Any], report: DeliveryReport) -> None:
        visits = tables["VISIT_OCCURRENCE"]
        loaded = (len(tables["PERSON"]), len(visits), len(tables["CONDITION_OCCURRENCE"]) - 1, len(visits))
        assert counts(lake, source) == loaded
        assert (report.quarantined, report.faults) == (0, {})
        assert report.notices["WITHOUT_ADMISSION"] == 1  # the condition without a visit
        assert report.notices["CODE_WITHOUT_NAME"] == 1  # the drug no concept names
        sites = {"0": "Hill Infirmary", "1": "Lake Hospital", "": None}
        assert values(lake, "admissions", "site", source) == Counter(sites[row["care_site_id"]] for row in visits)
        concepts = {row["concept_id"]: row["concept_name"] for row in tables["CONCEPT"]}
        drugs = Counter(concepts.get(row["drug_concept_id"], "d999") for row in tables["DRUG_EXPOSURE"])
        assert values(lake, "prescriptions", "medication", source) == drugs
        persons = {row["person_id"]: row["birth_datetime"][:10] for row in tables["PERSON"]}
        ages = Counter(years(persons[row["person_id"]], row["visit_start_date"]) for row in visits)
        assert values(lake, "admissions", "age_years", source) == ages


def years(birth: str, day: str) -> int:
    born, then = dt.date.fromisoformat(birth), dt.date.fromisoformat(day)
    return then.year - born.year - ((then.month, then.day) < (born.month, born.day))


@pytest.mark.parametrize(
    "data_set", [datasets.MESSY, datasets.SYNTHEA, datasets.FHIR_BULK, datasets.FHIR_BUNDLES, None], ids=str
)
def test_all_analyses_compute(tmp_path: Path, data_set: Path | None) -> None:
    import importlib

    settings = Settings(data=tmp_path / "data", reports=tmp_path / "reports")
    lake = Lake(settings)
    path = data_set or datasets.write_omop(tmp_path / "cdm", datasets.omop_set())
    load(lake, path, "default")
    lake.close()
    with Snapshot(settings) as snapshot:
        for name in ANALYSES:
            module = importlib.import_module(f"medisync.analyses.{name}")
            parameters = module.Params()
            result = module.compute(module.load(snapshot, parameters), parameters)
            assert result.headline
    shutil.rmtree(tmp_path / "data")
