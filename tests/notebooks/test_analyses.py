"""The analysis notebooks: well-formed, without outputs, in step with their modules, and run by plain papermill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from medisync.analyses.contract import AnalysisParams, Finding, Result
from medisync.intake import DeliveryReport
from medisync.lake import Lake, Snapshot
from medisync.runs import registry
from medisync.runs.publishing import check_lake_rows
from medisync.runs.record import RESULT_MIME
from tests.conftest import ROOT

FOLDER = ROOT / "notebooks" / "analyses"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ANALYSES = {
    "patient_health_trends",
    "patient_demographics",
    "illness_prediction",
    "medication_analysis",
    "patient_volume_prediction",
    "illness_surge_prediction",
    "readmissions",
}
WITH_MODULE = ANALYSES - {"readmissions"}
"""The others are one notebook and nothing else."""

OVERRIDES: dict[str, tuple[str, object]] = {
    "illness_prediction": ("alpha", 0.01),
    "illness_surge_prediction": ("alpha", 0.01),
    "medication_analysis": ("alpha", 0.01),
    "patient_demographics": ("age_band_starts", [0, 40, 80]),
    "patient_health_trends": ("alpha", 0.01),
    "patient_volume_prediction": ("horizon", 5),
    "readmissions": ("days", 14),
}
"""A parameter to set from outside, unlike its default, and harmless."""


def model_of(analysis: str) -> type[AnalysisParams]:
    notebook = registry.read_notebook(FOLDER / f"{analysis}.ipynb")
    assert notebook is not None
    model = notebook.params_model()
    assert model is not None
    return model


def test_all_that_ship_are_there() -> None:
    assert {path.stem for path in NOTEBOOKS} >= ANALYSES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestForm:
    def test_it_is_valid_and_has_no_outputs(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert notebook.metadata.kernelspec.name == "python3"
        for cell in notebook.cells:
            assert cell.get("outputs", []) == []
            assert cell.get("execution_count") is None

    def test_it_is_thin(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        assert notebook.cells[0].cell_type == "markdown"
        assert notebook.cells[1].metadata.get("tags") == ["parameters"]
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        assert len(code) <= 6
        for source in code[1:]:
            assert not re.search(r"^\s*(def|class|lambda|for|while|%|!)\b", source, flags=re.M)
            if path.stem in WITH_MODULE:
                assert "SELECT" not in source
                assert len(source.splitlines()) <= 25
        assert code[-1].strip() == "ms.publish(result)"

    def test_it_declares_itself(self, path: Path) -> None:
        notebook = registry.read_notebook(path)
        assert notebook is not None
        assert notebook.analysis == path.stem
        assert notebook.title
        assert set(notebook.reads) <= {"admissions", "patients", "conditions", "prescriptions", "sarima_orders"}
        assert notebook.reads

    def test_its_parameters_are_those_of_its_module(self, path: Path) -> None:
        notebook = registry.read_notebook(path)
        assert notebook is not None
        given = {name: value for name, value in notebook.defaults.items() if name != registry.PINNED}
        model = model_of(path.stem)
        assert notebook.defaults[registry.PINNED] is None
        assert list(given) == list(model.model_fields)
        assert model.checked(given) == model()
        assert model.checked(given).model_dump(mode="json") == notebook.parameters({})

    def test_its_module_keeps_the_contract(self, path: Path) -> None:
        import importlib

        if path.stem not in WITH_MODULE:
            pytest.skip("it has no module")
        module = importlib.import_module(f"medisync.analyses.{path.stem}")
        assert path.stem == module.ANALYSIS
        assert isinstance(module.TITLE, str)
        for name in ("load", "compute", "figures"):
            assert callable(getattr(module, name))


class TestReads:
    """``reads`` decides what makes an analysis run again, so it must name every table that ``load`` asks (earlier runs
    and forecasts aside: what they said of periods now complete changes only with the admissions)."""

    @pytest.mark.parametrize("analysis", sorted(WITH_MODULE))
    def test_every_table_asked_is_declared(self, sample_delivery: tuple[Lake, DeliveryReport], analysis: str) -> None:
        import importlib

        asked: set[str] = set()

        class Listener:
            def __init__(self, snapshot: Snapshot) -> None:
                self._snapshot = snapshot
                self.snapshot_id = snapshot.snapshot_id

            def query(self, sql: str, parameters: Any = None) -> Any:
                asked.update(re.findall(r"\b(?:clinical\.|analytics\.(?=sarima))(\w+)", sql))
                return self._snapshot.query(sql, parameters)

        module = importlib.import_module(f"medisync.analyses.{analysis}")
        with Snapshot(sample_delivery[0].settings) as snapshot:
            module.load(Listener(snapshot), module.Params())
        notebook = registry.read_notebook(FOLDER / f"{analysis}.ipynb")
        assert notebook is not None
        assert asked == set(notebook.reads)


@pytest.fixture(scope="module")
def executed(
    tmp_path_factory: pytest.TempPathFactory, sample_delivery: tuple[Lake, DeliveryReport]
) -> dict[str, nbformat.NotebookNode]:
    """Every notebook run by the command ``papermill`` on the sample, with one parameter set from outside."""
    folder = tmp_path_factory.mktemp("papermill")
    settings = sample_delivery[0].settings
    environment = {
        **os.environ,
        "MEDISYNC_DATA": str(settings.data),
        "MEDISYNC_REPORTS": str(settings.reports),
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
    }

    def start(analysis: str) -> subprocess.Popen[str]:
        name, value = OVERRIDES[analysis]
        how = ["-y", json.dumps({name: value})] if isinstance(value, list) else ["-p", name, str(value)]
        command = [
            Path(sys.executable).with_name("papermill"),
            FOLDER / f"{analysis}.ipynb",
            folder / f"{analysis}.ipynb",
        ]
        return subprocess.Popen(
            [*map(str, command), *how, "--no-progress-bar"],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    names = sorted(OVERRIDES)
    for some in (names[start : start + 2] for start in range(0, len(names), 2)):  # two at once
        for process in [start(name) for name in some]:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0, said
    return {name: nbformat.read(folder / f"{name}.ipynb", as_version=4) for name in names}


@pytest.mark.parametrize("analysis", sorted(ANALYSES))
class TestPapermill:
    @staticmethod
    def result(notebook: nbformat.NotebookNode) -> Result:
        [document] = [
            output["data"][RESULT_MIME]
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if RESULT_MIME in output.get("data", {})
        ]
        return Result.model_validate(document)

    def test_it_publishes_a_valid_result(self, executed: dict[str, nbformat.NotebookNode], analysis: str) -> None:
        result = self.result(executed[analysis])
        assert result.analysis == analysis
        assert result.headline.endswith(".")
        assert result.headline == result.headline.strip()
        check_lake_rows(result)
        assert result.figures
        for figure in result.figures:
            assert figure.svg.lstrip().startswith("<svg")
            assert figure.alt
            assert not re.search(r"(href|src)=.?https?:", figure.svg)
        assert len(executed[analysis].cells) > 6

    def test_the_parameter_from_outside_counts(self, executed: dict[str, nbformat.NotebookNode], analysis: str) -> None:
        name, value = OVERRIDES[analysis]
        default = getattr(model_of(analysis)(), name)
        given = executed[analysis].metadata.papermill.parameters[name]
        assert given == value
        assert given != (list(default) if isinstance(default, tuple) else default)

    def test_the_horizon_from_outside_is_forecast(
        self, executed: dict[str, nbformat.NotebookNode], analysis: str
    ) -> None:
        if analysis == "patient_volume_prediction":
            table = self.result(executed[analysis]).lake_rows["forecasts"]
            assert len({row[table.columns.index("ds")] for row in table.rows}) == OVERRIDES[analysis][1]

    def test_the_sample_says_nothing(self, executed: dict[str, nbformat.NotebookNode], analysis: str) -> None:
        """The sample was drawn at random: whoever finds something in it found noise."""
        assert self.result(executed[analysis]).finding in (Finding.NOTHING, Finding.DESCRIPTION)

    def test_no_output_is_an_error_or_names_this_machine(
        self, executed: dict[str, nbformat.NotebookNode], analysis: str
    ) -> None:
        for cell in executed[analysis].cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error"
                assert output.get("name") != "stderr", output.text
                assert str(ROOT) not in json.dumps(output)
