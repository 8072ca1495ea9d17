"""FHIR R4 resources as bulk NDJSON for the benchmark of intake: made up, of one mix whatever their number."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENCOUNTERS_A_PATIENT, CONDITIONS_A_PATIENT, REQUESTS_A_PATIENT = 4, 3, 2
RESOURCES_A_PATIENT = 1 + ENCOUNTERS_A_PATIENT + CONDITIONS_A_PATIENT + REQUESTS_A_PATIENT
FIRST_DAY = dt.datetime(2018, 1, 1)  # noqa: DTZ001 - local time of a hospital
DAYS = 2000
CONDITIONS = (("38341003", "Hypertension"), ("44054006", "Diabetes type 2"), ("195967001", "Asthma"))
MEDICATIONS = (("197361", "Amlodipine 5 MG"), ("860975", "Metformin 500 MG"), ("745679", "Albuterol inhaler"))


def write_bulk(path: Path, resources: int, seed: int = 1) -> None:
    """Write ``resources`` (a multiple of 10) resources to the NDJSON ``path``: one patient, four encounters, three
    conditions and two medication requests in ten, each about as long as those of the specification's examples."""
    if resources % RESOURCES_A_PATIENT:
        raise ValueError("a patient has ten resources")
    chance = random.Random(seed)  # noqa: S311 - made-up data
    with path.open("w", encoding="utf-8") as file:
        for number in range(resources // RESOURCES_A_PATIENT):
            file.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in _of_patient(number, chance))


def _of_patient(number: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    patient = f"p-{number}"
    yield {
        "resourceType": "Patient",
        "id": patient,
        "meta": _meta("Patient"),
        "name": [{"use": "official", "family": f"Family{number}", "given": [f"Given{number % 977}", "M."]}],
        "telecom": [{"system": "phone", "value": f"555-{number % 10000:04d}", "use": "home"}],
        "gender": chance.choice(("female", "male")),
        "birthDate": f"{chance.randint(1930, 2005)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}",
        "address": [{"line": [f"{number} Some Street"], "city": "Springfield", "postalCode": f"{number % 100000:05d}"}],
    }
    subject = {"reference": f"Patient/{patient}"}
    starts = []
    for visit in range(ENCOUNTERS_A_PATIENT):
        start = FIRST_DAY + dt.timedelta(days=chance.randrange(DAYS), minutes=chance.randrange(1440))
        starts.append(start)
        yield {
            "resourceType": "Encounter",
            "id": f"e-{number}-{visit}",
            "meta": _meta("Encounter"),
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "32485007"}], "text": "Admission"}],
            "subject": {**subject, "display": f"Given{number % 977} Family{number}"},
            "participant": [{"individual": {"reference": f"Practitioner/d-{chance.randrange(400)}"}}],
            "period": {"start": _at(start), "end": _at(start + dt.timedelta(days=chance.randint(0, 20)))},
            "serviceProvider": {"reference": f"Organization/o-{number % 4}", "display": f"Hospital {number % 4}"},
        }
    for place in range(CONDITIONS_A_PATIENT):
        code, name = chance.choice(CONDITIONS)
        yield {
            "resourceType": "Condition",
            "id": f"c-{number}-{place}",
            "meta": _meta("Condition"),
            "verificationStatus": {"coding": [{"code": "confirmed"}]},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": code, "display": name}], "text": name},
            "subject": subject,
            "encounter": {"reference": f"Encounter/e-{number}-{place}"},
            "recordedDate": _at(starts[place]),
        }
    for place in range(REQUESTS_A_PATIENT):
        code, name = chance.choice(MEDICATIONS)
        system = "http://www.nlm.nih.gov/research/umls/rxnorm"
        yield {
            "resourceType": "MedicationRequest",
            "id": f"m-{number}-{place}",
            "meta": _meta("MedicationRequest"),
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"coding": [{"system": system, "code": code, "display": name}], "text": name},
            "subject": subject,
            "encounter": {"reference": f"Encounter/e-{number}-{place}"},
            "authoredOn": _at(starts[place]),
            "dosageInstruction": [{"text": "One tablet daily", "timing": {"repeat": {"frequency": 1, "period": 1}}}],
        }


def _meta(resource: str) -> dict[str, Any]:
    return {"versionId": "1", "profile": [f"http://hl7.org/fhir/StructureDefinition/{resource}"]}


def _at(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}+01:00"
