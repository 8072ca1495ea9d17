"""A new analysis is one notebook: written, checked, run, run by hand, and carried away."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medisync import intake
from medisync.errors import ParameterError
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.runs import by_hand, derived_params, dropped, export, notebook_check, planning, records, registry, story
from medisync.runs.export import ExportError, export_run
from medisync.runs.notebook_check import Check
from medisync.runs.published import Freshness, published
from medisync.runs.starting_notebook import NameTakenError, start_notebook
from medisync.runs.story import Request
from medisync.settings import environment
from tests.conftest import make_workspace
from tests.support.admissions_csv import admissions, write_csv
from tests.support.fork_servers import kernel_server
from tests.support.small_notebooks import OPEN, publish, write_notebook

REQUEST = Request(trigger="test")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A workspace with sixty admissions and one analysis, as ``medisync new`` wrote it, run once."""
    folder = tmp_path_factory.mktemp("new")
    with pytest.MonkeyPatch.context() as patched:
        lake = Lake(make_workspace(folder, patched, notebooks=folder / "notebooks", retries=0))
        intake.ingest(lake, write_csv(folder / "sixty.csv", admissions(60)))
        start_notebook(lake.settings, "bed_use", title="Use of beds")
        with kernel_server(folder) as server:
            kernels.socket_path(lake.settings).symlink_to(server.path)
            [outcome] = story.run(lake, ["bed_use"], parameters={"least_admissions": 1}, request=REQUEST)
            assert outcome.record.status == "completed", outcome.record.error_message
            yield lake
        lake.close()


def checked(lake: Lake, path: Path) -> dict[str, Check]:
    return {one.what: one for one in notebook_check.check(lake.settings, path)}


def test_it_is_an_analysis_like_any_other(begun: Lake) -> None:
    [one] = registry.analyses(begun.settings)
    assert (one.analysis, one.title, one.reads, one.schedule) == ("bed_use", "Use of beds", ("admissions",), "hourly")
    fields = one.params_model().model_fields
    assert {name: (field.annotation, field.description) for name, field in fields.items()} == {
        "months": (int, "months up to the last admission"),
        "least_admissions": (int, "a month with fewer is not shown"),
    }
    [shelf] = published(begun)
    assert shelf.freshness is Freshness.NEVER  # so far it ran with another parameter only
    with pytest.raises(ParameterError, match="months: Input should be a valid integer"):
        one.parameters({"months": "many"})


def test_what_new_wrote_passes_its_check(begun: Lake) -> None:
    checks = checked(begun, begun.settings.analyses / "bed_use.ipynb")
    assert {name: one.detail for name, one in checks.items() if not one.is_well} == {}
    assert checks["Two runs give the same"].detail == "identical"
    assert "6,000 admissions" in checks["It runs on demo data and publishes one result"].detail or (
        "admissions in" in checks["It runs on demo data and publishes one result"].detail
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bed_use", "already"),
        ("Bed", "cannot be"),
        ("../x", "cannot be"),
        ("full_analysis", "cannot be"),
        ("contract", "is called"),
        ("patient_demographics", "is called"),
    ],
)
def test_names_that_cannot_be(begun: Lake, name: str, reason: str) -> None:
    with pytest.raises(NameTakenError, match=reason):
        start_notebook(begun.settings, name)


class TestForm:
    """What is wrong with a notebook's form is said before a kernel starts."""

    def faults(self, lake: Lake, path: Path) -> dict[str, str]:
        return {one.what: one.detail for one in notebook_check._form(lake.settings, path) if not one.is_well}

    def test_parameters_outputs_and_tables(self, begun: Lake, tmp_path: Path) -> None:
        path = write_notebook(tmp_path, "odd", "x = 1", f"{OPEN}\nsnapshot.query('SELECT * FROM clinical.patients')")
        document = json.loads(path.read_text())
        document["cells"][1], document["cells"][2] = document["cells"][2], document["cells"][1]
        document["cells"][3]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
        path.write_text(json.dumps(document))
        assert set(self.faults(begun, path)) == {
            "The parameters cell comes first",
            "It has no outputs",
            "It declares the tables it reads",
        }
        assert self.faults(begun, path)["It declares the tables it reads"].endswith("patients")

    def test_parameters_that_cannot_be_understood(self, begun: Lake, tmp_path: Path) -> None:
        path = write_notebook(tmp_path, "odd", parameters="weeks: Weeks = 3")
        assert "the annotation Weeks is not understood" in self.faults(begun, path)["Its parameters can be understood"]
        path = write_notebook(tmp_path, "odd", parameters="weeks: int = 'many'")
        assert "weeks: Input should be a valid integer" in self.faults(begun, path)["Its parameters can be understood"]

    def test_two_notebooks_with_one_name(self, begun: Lake, tmp_path: Path) -> None:
        path = write_notebook(tmp_path, "bed_use")
        assert "declares the same analysis" in self.faults(begun, path)["Its name is its own"]

    def test_no_analysis(self, begun: Lake, tmp_path: Path) -> None:
        path = tmp_path / "no.ipynb"
        path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
        assert set(self.faults(begun, path)) == {"It is an analysis notebook"}
        with pytest.raises(registry.NotebookError, match="There is no notebook"):
            notebook_check.find(begun.settings, "nothing")


@pytest.mark.parametrize(
    ("line", "given", "kept"),
    [
        ("a = 1", 2, 2),
        ("a = 0.5", 1, 1.0),
        ("a = True", False, False),
        ("a = (0, 10)", [1, 2, 3], [1, 2, 3]),
        ("a = ['x']", ["y", "z"], ["y", "z"]),
        ("a: float = 1", 2, 2.0),
        ("a: int | None = None", 5, 5),
        ("a: Literal['day', 'week'] = 'day'", "week", "week"),
        ("a: list[float] = [1]", [2], [2.0]),
        ("a = None", "anything", "anything"),
    ],
)
def test_types_come_from_the_parameters_cell(line: str, given: object, kept: object) -> None:
    model = derived_params.derived_model("x", f"snapshot_id = None\n{line}  # what it is", without="snapshot_id")
    assert model.checked({"a": given}).model_dump(mode="json") == {"a": kept}
    assert model.model_fields["a"].description == "what it is"


@pytest.mark.parametrize(
    ("line", "given"), [("a = 1", 1.5), ("a = 'x'", 3), ("a: Literal['day'] = 'day'", "week"), ("a = (1, 2)", ["x"])]
)
def test_values_of_another_type_are_refused(line: str, given: object) -> None:
    model = derived_params.derived_model("x", line, without="snapshot_id")
    with pytest.raises(ParameterError, match="Wrong parameters: a"):
        model.checked({"a": given})


@pytest.fixture(scope="module")
def taken(begun: Lake, tmp_path_factory: pytest.TempPathFactory) -> list[dropped.TakenIn]:
    """Papermill called by hand on the notebook; then a round takes the result in."""
    folder = tmp_path_factory.mktemp("by-hand")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("papermill"),
            begun.settings.analyses / "bed_use.ipynb", folder / "out.ipynb",
            "-p", "months", "7", "-p", "least_admissions", "1", "--no-progress-bar",
        ],
        env={**os.environ, **environment(begun.settings)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert by_hand.RECORDED in (folder / "out.ipynb").read_text()
    [waiting] = dropped.folder(begun.settings).glob("*.json")
    assert waiting.stat().st_mode & 0o777 == 0o600
    assert waiting.parent.stat().st_mode & 0o777 == 0o700
    kept = waiting.read_text()
    taken = dropped.take_in(begun)
    waiting.write_text(kept)
    assert dropped.take_in(begun)[0].run_id == taken[0].run_id  # taken in again after a crash, recorded once
    return taken


@pytest.fixture(scope="module")
def run_id(begun: Lake) -> str:
    rows = begun.query("SELECT min(run_id) AS run_id FROM analytics.runs WHERE status = 'completed'")
    return str(rows[0]["run_id"])


class TestByHand:
    def test_only_the_cells_of_the_workspace_s_notebook_count(self, begun: Lake) -> None:
        [notebook] = registry.analyses(begun.settings)
        own = list(notebook.cells)
        assert by_hand._ran(notebook, own)
        assert by_hand._ran(notebook, ["", own[0], "# Parameters\nmonths = 7\n", *own[1:]])
        assert by_hand._ran(notebook, ["x = 1", *own])  # tried something first, then ran all
        assert not by_hand._ran(notebook, [*own[:-1], "total = 0", own[-1]])
        assert not by_hand._ran(notebook, [own[1], own[0], *own[2:]])
        assert not by_hand._ran(notebook, [own[0].replace("24", "25"), *own[1:]])
        assert not by_hand._ran(notebook, own[1:])

    def test_a_result_published_by_hand_is_recorded(self, begun: Lake, taken: list[dropped.TakenIn]) -> None:
        [one] = taken
        assert one.run_id is not None
        record, result = records.completed(begun, one.run_id)
        assert (record.trigger, record.parameters["months"]) == ("papermill", 7)
        assert record.requested_by == getpass.getuser()
        assert result.headline == record.headline
        assert len(begun.query("FROM analytics.runs WHERE run_id = ?", [one.run_id])) == 1
        [chosen] = planning.plan(begun, ["bed_use"], parameters=record.parameters)
        assert chosen.answered_by is None, "other seeds and threads: no answer for a run of the workspace"

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda content: content.update(notebook_hash="0" * 64), "changed since"),
            (lambda content: content.update(code_hash="0" * 64), "changed since"),
            (lambda content: content.update(snapshot_id=999_999), "no longer kept"),
            (lambda content: content["parameters"].update(months="x"), "Wrong parameters"),
            (lambda content: content["result"].update(finding="great"), "no result"),
            (lambda content: content["result"].update(analysis="other"), "There is no analysis"),
            (lambda content: content.pop("environment"), "no result"),
        ],
    )
    def test_what_does_not_hold_is_put_aside(
        self, begun: Lake, taken: list[dropped.TakenIn], change: object, reason: str
    ) -> None:
        del taken
        [chosen] = planning.plan(begun, ["bed_use"])
        content = {
            "result": begun_result(begun),
            "requested_by": "ada",
            "published_at": "2024-05-07T10:00:00+00:00",
            "started_at": "2024-05-07T09:59:00+00:00",
            "snapshot_id": chosen.snapshot_id,
            "parameters": dict(chosen.parameters),
            "notebook_hash": chosen.notebook.notebook_hash,
            "code_hash": chosen.code_hash,
            "environment": {},
            "fixed_environment": {},
        }
        change(content)  # type: ignore[operator]
        place = dropped.folder(begun.settings)
        (place / "20240507T100000000000-abc123.json").write_text(json.dumps(content))
        before = begun.last_snapshot_id()
        [one] = dropped.take_in(begun)
        assert one.run_id is None
        assert reason in str(one.refused_because)
        assert begun.last_snapshot_id() == before
        [aside] = place.glob("*.refused")
        aside.unlink()
        assert not dropped.is_any_waiting(begun.settings)


def begun_result(lake: Lake) -> dict[str, object]:
    rows = lake.query("SELECT document FROM analytics.results WHERE audience = 'full' ORDER BY run_id LIMIT 1")
    document: dict[str, object] = json.loads(rows[0]["document"])
    return document


class TestExport:
    def test_somebody_else_gets_the_same_numbers(self, begun: Lake, run_id: str, tmp_path: Path) -> None:
        folder = export_run(begun, run_id, tmp_path / "carried" / "away")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEDISYNC_", "PYTHONPATH"))}
        done = subprocess.run(
            [sys.executable, "run.py"], cwd=folder, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "values are identical." in done.stdout
        names = {path.name for path in folder.iterdir()}
        assert names >= {"README.md", "run.py", "record.json", "parameters.json", "result.json", "requirements.lock"}
        assert run_id in (folder / "README.md").read_text()
        keys = {row["key"] for row in begun.query("SELECT patient_key::VARCHAR AS key FROM clinical.patients")}
        import duckdb

        with duckdb.connect() as connection:
            path = folder / "data" / "clinical.admissions.parquet"
            rows = connection.execute(f"SELECT patient_key::VARCHAR, admission_key::VARCHAR FROM '{path}'").fetchall()
        assert len(rows) == 60
        assert keys.isdisjoint({key for row in rows for key in row})
        assert len({row[0] for row in rows}) == len(keys)
        text = "".join(path.read_text(errors="replace") for path in folder.rglob("*.json"))
        assert str(begun.settings.data) not in text

    def test_released_holds_no_row(self, begun: Lake, run_id: str, tmp_path: Path) -> None:
        if not begun.query("SELECT 1 FROM analytics.results WHERE run_id = ? AND audience = 'released'", [run_id]):
            with begun.transaction("release") as transaction:
                transaction.execute(
                    "INSERT INTO lake.analytics.results VALUES (?, 'bed_use', 'released', '{\"headline\": \"few\"}')",
                    [run_id],
                )
        path = export_run(begun, run_id, tmp_path / "released.zip", audience="released")
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/", 1)[1] for name in archive.namelist()}
        assert names == {
            "README.md", "notebook/bed_use.ipynb", "parameters.json", "record.json", "released.json",
            "requirements.lock",
        }  # fmt: skip
        assert path.stat().st_mode & 0o777 == 0o600

    def test_nothing_is_half_written(
        self, begun: Lake, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "there").mkdir()
        with pytest.raises(ExportError, match="exists already"):
            export_run(begun, run_id, tmp_path / "there")
        with pytest.raises(records.NoSuchRunError):
            export_run(begun, "nobody", tmp_path / "new")

        def full(*_: object) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(export, "_readme", full)
        with pytest.raises(OSError, match="No space"):
            export_run(begun, run_id, tmp_path / "new")
        assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_disk_that_fills_while_a_run_is_kept_publishes_nothing(begun: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on the size of files stands for a full disk; the run's report is larger than it."""
    del monkeypatch
    write_notebook(begun.settings.analyses, "large", OPEN, publish("large", f", warnings=('w' * {3_000_000},)"))
    code = (
        "import resource, signal, sys\n"
        "from medisync.lake import Lake\nfrom medisync.runs import story\nfrom medisync.settings import load_settings\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "lake = Lake(load_settings())\nlake.connection()\n"
        "plans = story.plan(lake, ['large'])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))\n"
        "outcome = story.perform(lake, plans[0], story.Request(trigger='test'))\n"
        "print(outcome.record.status.value, outcome.record.error_code, outcome.record.run_id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment(begun.settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status, error_code, run_id = done.stdout.split()[-3:]
    assert (status, error_code) == ("failed", "internal"), done.stdout
    assert begun.query("SELECT 1 FROM analytics.results WHERE run_id = ?", [run_id]) == []
    report = begun.settings.reports / "runs" / run_id / "report.html"
    assert "This run failed" in report.read_text()
    assert "www" not in report.read_text().replace("http://www.w3.org", "")
    assert not list(report.parent.glob("*.draft"))
    assert not (begun.settings.reports / "latest" / "large.html").exists()
    (begun.settings.analyses / "large.ipynb").unlink()
    assert begun.query("SELECT count(*) AS n FROM clinical.admissions")[0]["n"] == 60
