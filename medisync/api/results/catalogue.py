"""Which model speaks for which analysis, and how a stored result becomes what the API shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from medisync.api.results import (
    illness_prediction,
    illness_surge_prediction,
    medication_analysis,
    patient_demographics,
    patient_health_trends,
    patient_volume_prediction,
    readmissions,
)

MODELS: Mapping[str, type[BaseModel]] = {
    "illness_prediction": illness_prediction.IllnessPredictionResult,
    "illness_surge_prediction": illness_surge_prediction.IllnessSurgePredictionResult,
    "medication_analysis": medication_analysis.MedicationAnalysisResult,
    "patient_demographics": patient_demographics.PatientDemographicsResult,
    "patient_health_trends": patient_health_trends.PatientHealthTrendsResult,
    "patient_volume_prediction": patient_volume_prediction.PatientVolumePredictionResult,
    "readmissions": readmissions.ReadmissionsResult,
}

VERSIONS: Mapping[str, int] = {
    "illness_prediction": illness_prediction.VERSION,
    "illness_surge_prediction": illness_surge_prediction.VERSION,
    "medication_analysis": medication_analysis.VERSION,
    "patient_demographics": patient_demographics.VERSION,
    "patient_health_trends": patient_health_trends.VERSION,
    "patient_volume_prediction": patient_volume_prediction.VERSION,
    "readmissions": readmissions.VERSION,
}


LEFT_OUT = frozenset({"lake_rows", "disclosure", "tables", "figures"})
"""Rows that the lake keeps typed as well, declarations for disclosure control, and what gets another form here."""


def schema_name(analysis: str) -> str | None:
    """The versioned name of the analysis' shape, such as ``patient_demographics.v1``; None for analyses of your own."""
    return f"{analysis}.v{VERSIONS[analysis]}" if analysis in VERSIONS else None


def as_data(document: Mapping[str, Any], *, figures: bool) -> dict[str, Any]:
    """A stored result in the form of its model: rows as objects, drawings left out unless ``figures``."""
    shown = {name: value for name, value in document.items() if name not in LEFT_OUT}
    shown["tables"] = {name: _table(table) for name, table in document.get("tables", {}).items()}
    shown["figures"] = [
        one if figures else {name: value for name, value in one.items() if name != "svg"}
        for one in document.get("figures", [])
    ]
    return shown


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    columns = table["columns"]
    return {**table, "columns": columns, "rows": [dict(zip(columns, row, strict=True)) for row in table["rows"]]}
