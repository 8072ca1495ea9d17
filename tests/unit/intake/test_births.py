"""Dates of birth become ages and years, whatever the format and the order of files; what contradicts them is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medisync import intake
from medisync.intake import DeliveryReport
from medisync.intake.delivery import DeliveryMode
from medisync.lake import Lake
from medisync.settings import Settings

DAY = "2024-05-17"
TRUTH = {"1984-05-17": (40, 1984), "1984-05-18": (39, 1984), "1930-01-01": (90, None), "2024-05-17": (0, 2024)}
"""Date of birth -> age on DAY and year, as the lake may know them."""

SECRET = "Sekretwert"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("births")
    opened = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    yield opened
    opened.close()


def synthea(born: list[str]) -> dict[str, str]:
    patients = "".join(f"p{n},{day},F,{SECRET},{SECRET}\n" for n, day in enumerate(born))
    stays = "".join(f"e{n},{DAY}T10:00:00Z,p{n},inpatient,{SECRET}\n" for n in range(len(born)))
    return {
        "patients.csv": f"Id,BIRTHDATE,GENDER,FIRST,LAST\n{patients}",
        "encounters.csv": f"Id,START,PATIENT,ENCOUNTERCLASS,NOTE\n{stays}",
    }


def omop(born: list[str]) -> dict[str, str]:
    persons = "".join(f"{n},8532,{day[:4]},{int(day[5:7])},{int(day[8:])},{SECRET}\n" for n, day in enumerate(born))
    visits = "".join(f"{n},{n},9201,{DAY},{SECRET}\n" for n in range(len(born)))
    return {
        "PERSON.csv": f"person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,note_text\n{persons}",
        "VISIT_OCCURRENCE.csv": f"visit_occurrence_id,person_id,visit_concept_id,visit_start_date,note\n{visits}",
    }


def fhir(born: list[str], *others: dict[str, Any]) -> dict[str, str]:
    note = {"text": {"status": "generated", "div": f"<div>{SECRET}</div>"}}
    patients = [{"resourceType": "Patient", "id": f"p{n}", "birthDate": day, **note} for n, day in enumerate(born)]
    stays = [
        {"resourceType": "Encounter", "id": f"e{n}", "subject": {"reference": f"Patient/p{n}"},
         "period": {"start": f"{DAY}T10:00:00Z"}, "class": {"code": "IMP"}, **note}
        for n in range(len(born))
    ]  # fmt: skip
    lines = {"Patient": patients, "Encounter": [*stays, *others]}
    return {f"{name}.ndjson": "".join(json.dumps(one) + "\n" for one in rows) for name, rows in lines.items()}


def deliver(lake: Lake, folder: Path, files: dict[str, str], source: str) -> DeliveryReport:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    path = folder if len(files) > 1 else folder / next(iter(files))
    return intake.ingest(lake, path, source=source, mode=DeliveryMode.UPSERT)


def known(lake: Lake, source: str) -> list[tuple[int | None, int | None]]:
    rows = lake.query(
        "SELECT age_years, birth_year FROM clinical.admissions JOIN clinical.patients USING (source, patient_key) "
        "WHERE source = ? ORDER BY ALL",
        [source],
    )
    return [(row["age_years"], row["birth_year"]) for row in rows]


@pytest.mark.parametrize("make", [synthea, omop, fhir])
def test_ages_and_years_in_one_delivery_and_file_by_file(lake: Lake, tmp_path: Path, make: Any) -> None:
    files, name = make(list(TRUTH)), make.__name__
    report = deliver(lake, tmp_path / "set", files, name)
    assert (report.created, report.quarantined) == (len(TRUTH), 0), report.message
    truth = sorted(TRUTH.values(), key=str)
    assert sorted(known(lake, name), key=str) == truth
    for number, one in enumerate(reversed(files)):  # the admissions first
        deliver(lake, tmp_path / str(number), {one: files[one]}, f"{name}-apart")
    assert sorted(known(lake, f"{name}-apart"), key=str) == truth
    assert all(SECRET.encode() not in file.read_bytes() for file in lake.files.rglob("*.parquet"))


def test_an_admission_before_birth_is_found_in_whatever_order_they_come(lake: Lake, tmp_path: Path) -> None:
    born = ["1984-05-17", "2024-05-18", "1990-01-01", "1991-01-01", "1992-01-01", "1993-01-01"]
    files = fhir(born)
    together = deliver(lake, tmp_path / "set", files, "born-a")
    deliver(lake, tmp_path / "1", {"p.ndjson": files["Patient.ndjson"]}, "born-b")
    after = deliver(lake, tmp_path / "2", {"e.ndjson": files["Encounter.ndjson"]}, "born-b")
    for report in (together, after):
        assert (report.faults, report.quarantined) == ({"BIRTH_AFTER_ADMISSION": 1}, 1)
    deliver(lake, tmp_path / "3", {"e.ndjson": files["Encounter.ndjson"]}, "born-c")
    late = deliver(lake, tmp_path / "4", {"p.ndjson": files["Patient.ndjson"]}, "born-c")
    assert (late.notices["BIRTH_AFTER_ADMISSION"], late.quarantined) == (1, 0)


def test_a_condition_without_an_admission_is_told_waits_and_is_found_later(lake: Lake, tmp_path: Path) -> None:
    lost = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p0"}, "code": {"text": "Asthma"},
            "encounter": {"reference": "Encounter/e1"}}  # fmt: skip
    report = deliver(lake, tmp_path / "set", fhir(["1984-05-17"], lost), "lost")
    assert (report.status.value, report.notices["UNKNOWN_ADMISSION"]) == ("loaded", 1)
    alone = deliver(lake, tmp_path / "alone", {"c.ndjson": json.dumps({**lost, "id": "d"})}, "lost-alone")
    assert "UNKNOWN_ADMISSION" not in alone.notices
    assert alone.notices["WAITING"] == 1
    deliver(lake, tmp_path / "later", fhir(["1984-05-17", "1985-05-17"]), "lost")
    rows = lake.query("SELECT condition FROM clinical.conditions WHERE source = 'lost'")
    assert [row["condition"] for row in rows] == ["Asthma"]
