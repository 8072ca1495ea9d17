"""What holds for all four descriptive analyses: the contract, the notebook, the figures, the cost."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from medisync.analyses import illness_prediction, medication_analysis, patient_demographics, patient_health_trends
from medisync.analyses.contract import Result
from tests.support.memory_lake import MemoryLake, lake_of, sample_lake
from tests.support.pace import cpu_seconds
from tests.support.planted import planted_admissions

NOTEBOOKS = Path(__file__).parents[3] / "notebooks" / "analyses"
ANALYSES = (illness_prediction, medication_analysis, patient_demographics, patient_health_trends)
every_analysis = pytest.mark.parametrize("analysis", ANALYSES, ids=lambda module: module.ANALYSIS)


@pytest.fixture(scope="module", params=["sample", "planted"])
def lake(request: pytest.FixtureRequest) -> MemoryLake:
    return sample_lake() if request.param == "sample" else lake_of(planted_admissions(6_000))


@every_analysis
def test_results_and_figures_travel_as_json_and_are_the_same_each_time(analysis: ModuleType, lake: MemoryLake) -> None:
    params = analysis.Params()
    inputs = analysis.load(lake, params)
    result, again = (analysis.compute(inputs, params) for _ in range(2))
    assert result == again
    returned = Result.model_validate_json(result.model_dump_json())
    drawn = analysis.figures(result)
    assert drawn
    assert [figure.svg for figure in analysis.figures(returned)] == [figure.svg for figure in drawn]
    for figure in drawn:
        ET.fromstring(figure.svg)
        assert figure.table in result.tables
        assert len(figure.alt) > 30
        assert "http" not in figure.svg.replace("http://www.w3.org", "")


@every_analysis
def test_a_row_more_or_less_in_another_order_changes_nothing(analysis: ModuleType) -> None:
    frame = planted_admissions(3_000)
    # patients keep what was recorded last, so the order of one patient's rows must stay
    shuffled = frame.assign(patient=[f"p{place}" for place in range(3_000)])
    params = analysis.Params()
    results = [
        analysis.compute(analysis.load(lake_of(one), params), params)
        for one in (shuffled, shuffled.sample(frac=1, random_state=1).reset_index(drop=True))
    ]
    assert results[0].headline == results[1].headline
    assert results[0].metrics == pytest.approx(results[1].metrics)


@every_analysis
def test_headline_is_one_plain_sentence_without_jargon_of_the_house(analysis: ModuleType, lake: MemoryLake) -> None:
    params = analysis.Params()
    headline = analysis.compute(analysis.load(lake, params), params).headline
    assert headline.endswith(".")
    assert headline[0].isupper() or headline[0].isdigit()
    for word in ("nan", " None", "_", "  "):
        assert word not in headline


@every_analysis
def test_compute_on_the_sample_is_cheap(analysis: ModuleType) -> None:
    params = analysis.Params()
    inputs = analysis.load(sample_lake(), params)
    analysis.compute(inputs, params)  # imports and caches
    assert cpu_seconds(lambda: analysis.compute(inputs, params)) < 0.3


@every_analysis
def test_every_parameter_is_described(analysis: ModuleType) -> None:
    assert all(field.description for field in analysis.Params.model_fields.values())


@every_analysis
def test_the_notebook_has_the_parameters_of_the_analysis(analysis: ModuleType) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{analysis.ANALYSIS}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].metadata.tags == ["parameters"]
    assigned = {
        line.targets[0].id: ast.literal_eval(line.value)  # type: ignore[attr-defined]
        for line in ast.parse(code[0].source).body
        if isinstance(line, ast.Assign)
    }
    assert assigned.pop("snapshot_id") is None
    assert assigned == {name: field.default for name, field in analysis.Params.model_fields.items()}
    assert analysis.Params(**assigned) == analysis.Params()
    assert notebook.metadata.medisync.analysis == analysis.ANALYSIS
    assert notebook.metadata.medisync.title == analysis.TITLE
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "def " not in "".join(cell.source for cell in code)
