"""Data sets of the known layouts: those that ship in ``tests/data`` and a small OMOP set written on the spot."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"
MESSY = DATA / "healthcare_messy.csv.gz"
SYNTHEA = DATA / "synthea_csv.zip"
FHIR_BULK = DATA / "fhir_bulk.zip"
FHIR_BUNDLES = DATA / "fhir_bundles.zip"

OMOP_COLUMNS = {
    "PERSON": "person_id gender_concept_id year_of_birth month_of_birth day_of_birth birth_datetime "
    "gender_source_value",
    "VISIT_OCCURRENCE": "visit_occurrence_id person_id visit_concept_id visit_start_date visit_start_datetime "
    "visit_end_date visit_end_datetime provider_id care_site_id",
    "CONDITION_OCCURRENCE": "condition_occurrence_id person_id condition_concept_id condition_start_date "
    "condition_start_datetime visit_occurrence_id visit_detail_id condition_source_value",
    "DRUG_EXPOSURE": "drug_exposure_id person_id drug_concept_id drug_exposure_start_date "
    "drug_exposure_start_datetime visit_occurrence_id visit_detail_id drug_source_value",
    "CARE_SITE": "care_site_id care_site_name",
    "CONCEPT": "concept_id concept_name domain_id vocabulary_id concept_class_id standard_concept concept_code",
}
CONDITION_CONCEPTS = {"312327": "Acute myocardial infarction", "255848": "Pneumonia", "201820": "Diabetes mellitus"}
DRUG_CONCEPTS = {"1112807": "aspirin", "1503297": "metformin"}


def rows_of(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def messy_rows() -> list[dict[str, str]]:
    return rows_of(gzip.decompress(MESSY.read_bytes()).decode())


def synthea_rows(name: str) -> list[dict[str, str]]:
    with zipfile.ZipFile(SYNTHEA) as archive:
        return rows_of(archive.read(f"{name}.csv").decode())


def resources(archive: Path, kind: str | None = None) -> Iterator[dict[str, Any]]:
    """The resources of a .zip of bundles or NDJSON files, of one type or of all."""
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            text = opened.read(name).decode()
            found = (
                [entry["resource"] for entry in json.loads(text)["entry"]]
                if name.endswith(".json")
                else [json.loads(line) for line in text.splitlines()]
            )
            yield from (one for one in found if kind in (None, one["resourceType"]))


def omop_set(visits: int = 60) -> dict[str, list[dict[str, str]]]:
    """A small OMOP set: one visit in ten without a site, one condition without a visit, one unknown drug."""
    persons = max(visits // 4, 1)
    tables: dict[str, list[Sequence[str]]] = {name: [] for name in OMOP_COLUMNS}
    for number in range(persons):
        gender = ("8507", "8532")[number % 2]
        year = str(1940 + 3 * (number % 25))
        tables["PERSON"].append((str(number), gender, year, "5", "17", f"{year}-05-17 00:00:00", "MF"[number % 2]))
    for number in range(visits):
        day = f"{2021 + number % 3}-{1 + number % 12:02d}-{1 + number % 28:02d}"
        site = "" if number % 10 == 9 else str(number % 2)
        end = f"{day} 18:30:00"
        visit = (str(number), str(number % persons), ("9201", "9202", "9203")[number % 3], day, f"{day} 08:00:00")
        tables["VISIT_OCCURRENCE"].append((*visit, day, end, str(number % 5), site))
        concept = list(CONDITION_CONCEPTS)[number % len(CONDITION_CONCEPTS)]
        tables["CONDITION_OCCURRENCE"].append(
            (str(number), str(number % persons), concept, day, f"{day} 09:00:00", str(number), "", f"c{concept}")
        )
        drug = "999" if number == 0 else list(DRUG_CONCEPTS)[number % len(DRUG_CONCEPTS)]
        tables["DRUG_EXPOSURE"].append(
            (str(number), str(number % persons), drug, day, f"{day} 10:00:00", str(number), "", f"d{drug}")
        )
    tables["CONDITION_OCCURRENCE"].append((str(visits), "0", "255848", "2021-01-01", "", "", "", "c255848"))
    tables["CARE_SITE"] = [("0", "Hill Infirmary"), ("1", "Lake Hospital")]
    for concepts, domain, vocabulary in (
        (CONDITION_CONCEPTS, "Condition", "SNOMED"),
        (DRUG_CONCEPTS, "Drug", "RxNorm"),
    ):
        tables["CONCEPT"] += [(code, name, domain, vocabulary, "", "S", f"s{code}") for code, name in concepts.items()]
    return {
        name: [dict(zip(OMOP_COLUMNS[name].split(), row, strict=True)) for row in rows] for name, rows in tables.items()
    }


def write_omop(
    folder: Path,
    tables: dict[str, list[dict[str, str]]],
    *,
    delimiter: str = ",",
    rename: Callable[[str], str] = str.lower,
) -> Path:
    """The set as CSV files with their column names changed by ``rename``."""
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(rename(column) for column in OMOP_COLUMNS[name].split())
            writer.writerows(row.values() for row in rows)
    return folder
