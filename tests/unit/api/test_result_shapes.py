"""Results keep the shape their version promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from medisync.analyses.contract import Finding, Result, Table
from medisync.api.results import MODELS, VERSIONS, AnyResult, as_data, schema_name

KNOWN = Path(__file__).with_name("result_shapes.json")
"""Analysis -> version -> fingerprint of its shape. A new shape gets a new version and a new line here:
``python -m tests.unit.api.test_result_shapes`` writes it."""


def fingerprint(analysis: str) -> str:
    schema = MODELS[analysis].model_json_schema()
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("analysis", sorted(MODELS))
def test_a_shape_that_changed_has_a_new_version(analysis: str) -> None:
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    assert known[analysis].get(str(VERSIONS[analysis])) == fingerprint(analysis)


def test_an_analysis_of_one_s_own_is_served_in_the_same_form_without_a_schema() -> None:
    assert schema_name("beds_by_ward") is None
    table = {"title": "Beds", "columns": ["ward", "beds"], "rows": [["A", 3], ["B", None]]}
    figure = {"name": "f", "title": "F", "alt": "bars", "svg": "<svg/>", "table": None}
    document = {"analysis": "beds_by_ward", "tables": {"beds": table}, "figures": [figure], "lake_rows": {"x": 1}}
    shown = as_data(document, figures=False)
    assert shown["tables"]["beds"]["rows"] == [{"ward": "A", "beds": 3}, {"ward": "B", "beds": None}]
    assert "svg" not in shown["figures"][0]
    assert "lake_rows" not in shown
    assert as_data(document, figures=True)["figures"][0]["svg"] == "<svg/>"


def test_what_an_analysis_of_one_s_own_publishes_has_typed_parts() -> None:
    own = Result(
        analysis="beds_by_ward",
        title="Beds",
        headline="Three beds.",
        finding=Finding.DESCRIPTION,
        metrics={"beds_count": 3, "share": 0.5, "ward": "A", "is_full": True, "unknown": None},
        tables={"beds": Table(title="Beds", columns=("ward", "beds"), rows=(("A", 3), ("B", None)))},
    )
    shown = as_data(own.model_dump(mode="json"), figures=False)
    assert AnyResult.model_validate(shown).model_dump(mode="json")["tables"] == shown["tables"]
    for part, wrong in {"tables": {"beds": {"title": "Beds", "rows": []}}, "metrics": {"m": [1]}, "more": 1}.items():
        with pytest.raises(ValidationError):
            AnyResult.model_validate({**shown, part: wrong})


if __name__ == "__main__":
    shapes = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    for name in MODELS:
        shapes.setdefault(name, {})[str(VERSIONS[name])] = fingerprint(name)
    KNOWN.write_text(json.dumps(shapes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
