"""What makes an analysis run again, and what does not. Nothing is executed here: earlier runs are put on record."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medisync import intake
from medisync.analyses.contract import Finding, Result
from medisync.errors import LakeBusyError, NoDataError, ParameterError, UnknownAnalysisError
from medisync.intake import DeliveryStatus
from medisync.lake import Lake
from medisync.runs import closure, identity, registry, story
from medisync.runs.earlier import EarlierRuns
from medisync.runs.published import Freshness, published
from medisync.runs.publishing import publish
from medisync.runs.record import Outcome, RunRecord, RunStatus, new_run_id
from medisync.runs.story import Plan, Request
from medisync.settings import Settings
from tests.conftest import ROOT
from tests.support.admissions_csv import admission, admissions, write_csv
from tests.support.small_notebooks import OPEN, write_notebook
from tests.support.small_notebooks import publish as publishing_cell


@pytest.fixture(scope="module")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Ten admissions, shared by the tests of this module: each has notebooks of its own and leaves no run behind."""
    folder = tmp_path_factory.mktemp("shared")
    opened = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    intake.ingest(opened, write_csv(folder / "first.csv", admissions(10)))
    yield opened
    opened.close()


@pytest.fixture
def filled(shared_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """The shared lake without a run, and with two analyses in a folder of their own."""
    settings = shared_lake.settings.model_copy(
        update={"notebooks": tmp_path / "notebooks", "reports": tmp_path / "reports", "retries": 0}
    )
    settings.reports.mkdir()
    write_notebook(settings.analyses, "count", parameters="weeks = 4\nlabel = 'a'")
    write_notebook(settings.analyses, "pills", reads=("prescriptions",))
    monkeypatch.setattr(shared_lake, "settings", settings)
    yield shared_lake
    with shared_lake.transaction("forget runs") as transaction:
        for table in ("runs", "results"):
            transaction.execute(f"DELETE FROM lake.analytics.{table}")


def answer(lake: Lake, chosen: Plan, *, status: RunStatus = RunStatus.COMPLETED, minutes: int = 0) -> RunRecord:
    """Put a run of ``chosen`` on record as if it had been executed."""
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    record = RunRecord(
        run_id=new_run_id(),
        analysis=chosen.analysis,
        title=chosen.notebook.title,
        status=status,
        parameters=chosen.parameters,
        parameters_hash=identity.hash_of(chosen.parameters),
        snapshot_id=chosen.snapshot_id,
        inputs=chosen.inputs,
        run_key=chosen.run_key,
        notebook=chosen.notebook.path.name,
        notebook_hash=chosen.notebook.notebook_hash,
        code_hash=chosen.code_hash,
        environment={},
        fixed_environment={},
        trigger="test",
        requested_by="test",
        started_at=now,
        finished_at=now,
        headline="Nothing here." if status is RunStatus.COMPLETED else None,
        error_code=None if status is RunStatus.COMPLETED else "notebook-raised",
        error_message=None if status is RunStatus.COMPLETED else "it failed",
    )
    result = Result(analysis=chosen.analysis, title="T", headline="Nothing here.", finding=Finding.NOTHING)
    publish(lake, record, result if status is RunStatus.COMPLETED else None)
    return record


def answer_all(lake: Lake) -> dict[str, RunRecord]:
    return {chosen.analysis: answer(lake, chosen) for chosen in story.plan(lake)}


def to_run(lake: Lake, **options: Any) -> list[str]:
    """The analyses that would get a kernel now."""
    return [chosen.analysis for chosen in story.plan(lake, **options) if chosen.answered_by is None]


class TestWhatRunsAgain:
    def test_nothing_when_nothing_changed(self, filled: Lake) -> None:
        assert to_run(filled) == ["count", "pills"]
        records = answer_all(filled)
        assert to_run(filled) == []
        for chosen in story.plan(filled):
            outcome = story.perform(filled, chosen, Request(trigger="test"))
            assert outcome == Outcome(record=records[chosen.analysis], skipped=True)

    def test_all_when_forced(self, filled: Lake) -> None:
        answer_all(filled)
        assert to_run(filled, force=True) == ["count", "pills"]

    def test_those_whose_tables_changed(self, filled: Lake, tmp_path: Path) -> None:
        ward = {"source": "ward"}
        intake.ingest(filled, write_csv(tmp_path / "a.csv", admissions(11)), **ward)
        answer_all(filled)
        rows = [admission(0, Medication="Colchicine"), *admissions(10, start=1)]
        assert intake.ingest(filled, write_csv(tmp_path / "b.csv", rows), **ward).changed_tables == ("prescriptions",)
        assert to_run(filled) == ["pills"]
        assert {one.analysis: one.freshness for one in published(filled)} == {
            "count": Freshness.CURRENT,
            "pills": Freshness.UPDATING,
        }

    def test_not_for_data_that_a_run_has_read_though_there_are_newer(self, filled: Lake, tmp_path: Path) -> None:
        """Those who brought the newer ones wait for a round, too: see run_round."""
        mine = filled.last_snapshot_id()
        records = answer_all(filled)
        intake.ingest(filled, write_csv(tmp_path / "newer.csv", admissions(12)), source="newer")
        theirs = filled.last_snapshot_id()
        assert mine is not None
        assert theirs is not None
        plans = story.plan(filled)
        assert [one.answered_by for one in plans] == [None, None]
        earlier = EarlierRuns.of(filled, plans)
        assert {one.analysis: earlier.answered(one, mine).answered_by for one in plans} == records
        assert [earlier.answered(one, theirs).answered_by for one in plans] == [None, None]
        write_notebook(filled.settings.analyses, "pills", OPEN, "x = 1", publishing_cell("pills"))
        changed = [earlier.answered(one, mine) for one in story.plan(filled)]
        assert {one.analysis: one.answered_by for one in changed} == {"count": records["count"], "pills": None}

    def test_none_after_a_repeat(self, filled: Lake, tmp_path: Path) -> None:
        answer_all(filled)
        report = intake.ingest(filled, write_csv(tmp_path / "again.csv", admissions(10)))
        assert report.status is DeliveryStatus.REPEAT
        assert to_run(filled) == []

    def test_other_parameters(self, filled: Lake) -> None:
        answer_all(filled)
        assert to_run(filled, names=["count"], parameters={"weeks": 5}) == ["count"]
        assert to_run(filled, names=["count"], parameters={"weeks": 4}) == []

    def test_a_failed_run_is_no_answer(self, filled: Lake) -> None:
        for chosen in story.plan(filled):
            answer(filled, chosen, status=RunStatus.FAILED)
        assert to_run(filled) == ["count", "pills"]

    def test_a_changed_notebook(self, filled: Lake) -> None:
        answer_all(filled)
        write_notebook(
            filled.settings.analyses, "pills", OPEN, "x = 1", publishing_cell("pills"), reads=("prescriptions",)
        )
        assert to_run(filled) == ["pills"]

    def test_not_a_notebook_with_other_prose_or_outputs(self, filled: Lake) -> None:
        answer_all(filled)
        path = write_notebook(filled.settings.analyses, "count", parameters="weeks = 4\nlabel = 'a'", prose="# Better")
        document = json.loads(path.read_text())
        document["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
        document["cells"][2]["execution_count"] = 7
        path.write_text(json.dumps(document))
        assert to_run(filled) == []
        assert published(filled)[0].freshness is Freshness.CURRENT

    def test_a_changed_helper_beside_the_notebook_for_those_that_import_it(self, filled: Lake) -> None:
        folder = filled.settings.analyses
        (folder / "helper.py").write_text("import deeper\n")
        (folder / "deeper.py").write_text("A = 1\n")
        (folder / "unused.py").write_text("A = 1\n")
        write_notebook(folder, "pills", f"import helper\n{OPEN}", publishing_cell("pills"), reads=("prescriptions",))
        answer_all(filled)
        (folder / "unused.py").write_text("A = 2\n")
        assert to_run(filled) == []
        (folder / "deeper.py").write_text("A = 2\n")
        assert to_run(filled) == ["pills"]
        assert {one.analysis: one.reason for one in published(filled)} == {
            "count": None,
            "pills": "The analysis has changed.",
        }


class TestCodeOfAnAnalysis:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A copy of the package that can be changed; only its files are looked at."""
        copy = tmp_path / "copy" / "medisync"
        shutil.copytree(ROOT / "medisync", copy, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(closure, "PACKAGE", copy)
        return copy

    @staticmethod
    def hashes() -> dict[str, str]:
        found = (registry.read_notebook(path) for path in sorted((ROOT / "notebooks" / "analyses").glob("*.ipynb")))
        return {one.analysis: identity.code_hash(one) for one in found if one is not None}

    def changed_by(self, file: Path) -> set[str]:
        before = self.hashes()
        file.write_text(file.read_text() + "\n# changed\n")
        after = self.hashes()
        return {analysis for analysis in before if before[analysis] != after[analysis]}

    def test_a_statistic_concerns_only_the_analyses_that_use_it(self, package: Path) -> None:
        assert self.changed_by(package / "stats" / "concentration.py") == {"medication_analysis"}
        assert "patient_demographics" not in self.changed_by(package / "stats" / "farrington.py")
        volume = self.changed_by(package / "stats" / "forecasting.py")
        assert "patient_volume_prediction" in volume
        assert "medication_analysis" not in volume

    def test_what_all_use_concerns_all(self, package: Path) -> None:
        for name in ("analyses/contract.py", "lake/lake.py", "lake/schema/0001_clinical.sql"):
            assert self.changed_by(package / name) == set(self.hashes()), name

    def test_what_only_shows_results_concerns_none(self, package: Path) -> None:
        for name in ("reports/page.py", "runs/story.py", "errors.py"):
            assert self.changed_by(package / name) == set(), name

    def test_every_module_an_analysis_really_loads_is_seen(self) -> None:
        """Against Python's own account: import each analysis module in a fresh interpreter and compare."""
        import subprocess
        import sys

        code = (
            "import sys, json, importlib; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"
        )
        for path in sorted((ROOT / "notebooks" / "analyses").glob("*.ipynb")):
            notebook = registry.read_notebook(path)
            assert notebook is not None
            if not notebook.has_module:
                continue
            told = subprocess.run(
                [sys.executable, "-c", code, f"medisync.analyses.{notebook.analysis}"],
                capture_output=True,
                check=True,
                cwd=ROOT,
            )
            loaded = {
                name for name in json.loads(told.stdout) if name.startswith(("medisync.stats.", "medisync.analyses."))
            }
            files = closure.source_files(notebook.code, path.parent, analysis=notebook.analysis)
            seen = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
            assert loaded <= seen | {"medisync.stats", "medisync.analyses"}, notebook.analysis

    def test_code_that_cannot_be_parsed_depends_on_everything(self, package: Path, tmp_path: Path) -> None:
        everything = closure.source_files("this is no python", tmp_path, analysis="x")
        assert package / "stats" / "farrington.py" in everything
        few = closure.source_files("%matplotlib inline\n!ls\nimport medisync as ms", tmp_path, analysis="x")
        assert package / "stats" / "farrington.py" not in few

    def test_relative_imports_packages_and_functions_are_followed(self, package: Path, tmp_path: Path) -> None:
        (package / "analyses" / "mine").mkdir()
        (package / "analyses" / "mine" / "__init__.py").write_text("from .parts import a\n")
        (package / "analyses" / "mine" / "parts.py").write_text(
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import medisync.stats.ears\n"
            "def f():\n    from ...stats import counts\n    from medisync.stats.theta import forecast\n"
        )
        seen = {path.name for path in closure.source_files("", tmp_path, analysis="mine")}
        assert {"parts.py", "counts.py", "theta.py"} <= seen
        assert "ears.py" not in seen

    def test_it_is_looked_for_once_until_something_moves(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        walked: list[str] = []
        walk = closure.source_files
        monkeypatch.setattr(closure, "source_files", lambda *a, **b: walked.append("x") or walk(*a, **b))  # type: ignore[func-returns-value]
        monkeypatch.setattr("medisync.runs.filefacts.RACY_NANOSECONDS", 0)
        helper = tmp_path / "helper.py"
        helper.write_text("import deeper\n")

        def look() -> list[str]:
            found = closure.closure_of("import helper", tmp_path, analysis="x")
            return sorted(name for name in found.files if name.startswith(closure.BESIDE))

        assert look() == ["beside/helper.py"]
        assert look() == ["beside/helper.py"]
        assert len(walked) == 1
        (tmp_path / "deeper.py").write_text("A = 1\n")  # a module that was looked for appears
        assert look() == ["beside/deeper.py", "beside/helper.py"]
        before = closure.closure_of("import helper", tmp_path, analysis="x").hash
        (tmp_path / "deeper.py").write_text("A = 12\n")
        assert closure.closure_of("import helper", tmp_path, analysis="x").hash != before
        helper.unlink()
        assert look() == []


class TestRequests:
    def test_before_the_first_delivery(self, lake: Lake) -> None:
        with pytest.raises(NoDataError, match="no data yet"):
            story.plan(lake)

    def test_unknown_names(self, filled: Lake) -> None:
        with pytest.raises(UnknownAnalysisError, match=r"no analysis surges\. Known: count, pills and full_analysis"):
            story.plan(filled, ["count", "surges"])
        assert [one.analysis for one in story.plan(filled, ["full_analysis"])] == ["count", "pills"]
        assert [one.analysis for one in story.plan(filled, ["pills", "pills"])] == ["pills"]

    def test_an_unknown_parameter_is_refused_before_a_kernel_starts(self, filled: Lake) -> None:
        with pytest.raises(ParameterError, match=r"count has no parameter wekes\. Known parameters: weeks, label\."):
            story.plan(filled, ["count"], parameters={"wekes": 3})

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [({"horizon_wekes": 3}, "horizon_wekes: Extra inputs"), ({"horizon": -1}, "horizon: Input should be")],
    )
    def test_a_module_checks_its_parameters(
        self, filled: Lake, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any], message: str
    ) -> None:
        ours = filled.settings.model_copy(update={"notebooks": ROOT / "notebooks"})
        monkeypatch.setattr(filled, "settings", ours)
        with pytest.raises(ParameterError, match=message) as refusal:
            story.plan(filled, ["patient_volume_prediction"], parameters=parameters)
        assert "Known parameters" in str(refusal.value)

    def test_the_snapshot_is_no_parameter_of_a_request(self, filled: Lake) -> None:
        [chosen] = story.plan(filled, ["count"], parameters={"snapshot_id": 1})
        assert chosen.parameters == {"weeks": 4, "label": "a"}
        assert chosen.snapshot_id == filled.last_snapshot_id()


class TestNotebookFolder:
    def test_a_notebook_without_a_module_is_an_analysis_as_soon_as_it_lies_there(self, filled: Lake) -> None:
        assert "beds" not in [one.analysis for one in registry.analyses(filled.settings)]
        write_notebook(filled.settings.analyses, "beds", parameters="floor = 2")
        [chosen] = story.plan(filled, ["beds"])
        assert (chosen.parameters, chosen.notebook.title) == ({"floor": 2}, "Small beds")
        assert [one.freshness for one in published(filled)] == [Freshness.NEVER] * 3

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("no json", "no usable notebook"),
            ("[]", "no usable notebook"),
            ('{"cells": [], "metadata": {"medisync": {"analysis": "x"}}}', "no cell tagged 'parameters'"),
            ('{"cells": [], "metadata": {"medisync": {"analysis": "../../x"}}}', "name is not like"),
            ('{"cells": [], "metadata": {"medisync": {"title": "x"}}}', "no usable notebook"),
        ],
    )
    def test_a_broken_notebook_is_named_and_leaves_the_others_alone(
        self, filled: Lake, content: str, reason: str
    ) -> None:
        (filled.settings.analyses / "broken.ipynb").write_text(content)
        assert to_run(filled) == ["count", "pills"]
        [error] = registry.unusable(filled.settings)
        assert error.message.startswith("broken.ipynb")
        assert reason in error.message

    def test_a_folder_a_link_to_nothing_and_other_notebooks_are_passed_over(self, filled: Lake) -> None:
        folder = filled.settings.analyses
        (folder / "folder.ipynb").mkdir()
        (folder / "link.ipynb").symlink_to(folder / "nowhere.ipynb")
        (folder / "scratch.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
        assert to_run(filled) == ["count", "pills"]
        assert len(registry.unusable(filled.settings)) == 2

    def test_of_two_notebooks_of_one_analysis_the_first_counts(self, filled: Lake) -> None:
        folder = filled.settings.analyses
        (folder / "second.ipynb").write_bytes((folder / "count.ipynb").read_bytes())
        assert [one.path.name for one in registry.analyses(filled.settings)] == ["count.ipynb", "pills.ipynb"]
        assert "as count.ipynb does already" in registry.unusable(filled.settings)[0].message

    def test_a_module_that_cannot_be_imported_fails_its_analysis_alone(
        self, filled: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        import medisync.analyses

        (tmp_path / "beds.py").write_text("import no_such_module\n")
        monkeypatch.setattr(medisync.analyses, "__path__", [*medisync.analyses.__path__, str(tmp_path)])
        write_notebook(filled.settings.analyses, "beds")
        assert to_run(filled) == ["count", "pills"]
        assert "beds is left out" in caplog.text
        with pytest.raises(registry.NotebookError, match="ModuleNotFoundError"):
            story.plan(filled, ["beds"])
        shelf = {one.analysis: one for one in published(filled)}
        assert shelf["beds"].freshness is Freshness.FAILED
        assert "cannot be imported" in str(shelf["beds"].reason)
        assert shelf["count"].freshness is Freshness.NEVER


class TestUnforeseenErrors:
    def test_an_unforeseen_error_is_a_recorded_failure(self, filled: Lake, caplog: pytest.LogCaptureFixture) -> None:
        """The folder of run folders is a file, so nothing can be written there."""
        (filled.settings.reports / "runs").write_text("in the way")
        [chosen] = story.plan(filled, ["count"])
        outcome = story.perform(filled, chosen, Request(trigger="test"))
        assert (outcome.record.status, outcome.record.error_code) == (RunStatus.FAILED, "internal")
        assert "could not run count.ipynb" in str(outcome.record.error_message)
        assert filled.query("SELECT status, error_code FROM analytics.runs") == [
            {"status": "failed", "error_code": "internal"}
        ]
        assert "Traceback" in caplog.text

    def test_a_lake_that_is_busy_is_said_to_be(self, filled: Lake) -> None:
        (filled.settings.reports / "runs").write_text("in the way")
        impatient = Lake(filled.settings.model_copy(update={"lock_seconds": 0.2}))
        [chosen] = story.plan(impatient, ["count"])
        with filled.lock(seconds=0), pytest.raises(LakeBusyError):
            story.perform(impatient, chosen, Request(trigger="test"))
        impatient.close()


class TestShelf:
    def test_states(self, filled: Lake) -> None:
        count, pills = story.plan(filled)
        assert {one.freshness for one in published(filled)} == {Freshness.NEVER}
        answer(filled, count, status=RunStatus.FAILED)
        good = answer(filled, pills)
        answer(filled, pills, status=RunStatus.FAILED, minutes=1)
        shelf = {one.analysis: one for one in published(filled)}
        assert (shelf["count"].freshness, shelf["count"].result) == (Freshness.FAILED, None)
        assert (shelf["pills"].freshness, shelf["pills"].record) == (Freshness.STALE, good)
        assert shelf["pills"].result is not None
        assert "failed: it failed" in str(shelf["pills"].reason)
        answer(filled, pills, minutes=2)
        assert {one.analysis: one.freshness for one in published(filled)}["pills"] is Freshness.CURRENT

    def test_publishing_twice_changes_nothing(self, filled: Lake) -> None:
        record = answer(filled, story.plan(filled)[0])
        snapshot = filled.last_snapshot_id()
        result = Result(analysis="count", title="T", headline="Other.", finding=Finding.NOTHING)
        publish(filled, record, result)
        full = filled.query("FROM analytics.results WHERE audience = 'full'")
        assert len(filled.query("FROM analytics.runs")) == len(full) == 1
        changes = f"ducklake_table_changes('lake', 'analytics', 'results', {snapshot}, {filled.last_snapshot_id()})"
        assert filled.query(f"SELECT count(*) AS n FROM {changes} WHERE snapshot_id > {snapshot}") == [{"n": 0}]

    def test_a_flow_run_that_lost_sight_of_a_run_commits_it_once(self, filled: Lake) -> None:
        """The cluster's machine went on with it after the flow had given it up and done it itself."""
        first = answer(filled, story.plan(filled)[0])
        result = Result(analysis="count", title="T", headline="Other.", finding=Finding.NOTHING)
        there = first.model_copy(update={"run_id": f"{first.run_id}-there", "flow_run_id": "one"})
        here = there.model_copy(update={"run_id": f"{first.run_id}-here"})
        again = there.model_copy(update={"run_id": f"{first.run_id}-again", "flow_run_id": "another"})
        told = [publish(filled, record, result).run_id for record in (there, here, again)]
        assert told == [there.run_id, there.run_id, again.run_id]
        assert {row["run_id"] for row in filled.query("FROM analytics.runs")} == {first.run_id, *told}
