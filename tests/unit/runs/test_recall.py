"""Nothing changed is told without opening the lake, and only then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medisync import intake
from medisync.lake import Lake
from medisync.runs import filefacts, recall, standstill, story
from medisync.settings import environment
from tests.conftest import make_workspace
from tests.support.admissions_csv import admissions, write_csv
from tests.support.put_on_record import put_on_record
from tests.support.small_notebooks import OPEN, publish, write_notebook

TELLS = """
import json, sys
from medisync.runs import recall
from medisync.settings import load_settings
answers = recall.unchanged(load_settings())
heavy = sorted({"duckdb", "pandas", "prefect", "nbformat", "scipy"} & set(sys.modules))
print(json.dumps({"answers": answers, "heavy": heavy}))
"""


def told(lake: Lake) -> dict[str, object]:
    """What a fresh process says."""
    done = subprocess.run(
        [sys.executable, "-c", TELLS],
        env={**os.environ, **environment(lake.settings)},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, object] = json.loads(done.stdout)
    assert answer["heavy"] == []
    return answer


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Ten admissions and an analysis with a helper module, answered by a run; files not touched just now."""
    folder = tmp_path_factory.mktemp("answered")
    with pytest.MonkeyPatch.context() as patched:
        lake = Lake(make_workspace(folder, patched, notebooks=folder / "notebooks"))
        intake.ingest(lake, write_csv(folder / "ten.csv", admissions(10)))
        write_notebook(lake.settings.analyses, "count", f"import helper\n{OPEN}", publish("count"))
        helper = lake.settings.analyses / "helper.py"
        helper.write_text("A = 1\n")
        put_on_record(lake, story.plan(lake)[0])
        recall.note(lake)
        yield lake
        lake.close()


def test_what_is_unchanged_is_told_by_a_process_that_loads_nothing_heavy(answered: Lake) -> None:
    [answer] = told(answered)["answers"]  # type: ignore[misc]
    assert answer["analysis"] == "count"
    assert answer["skipped"] is True
    assert answer["headline"] == "Nothing here."


def test_a_commit_makes_it_look_properly(answered: Lake, tmp_path: Path) -> None:
    intake.ingest(answered, write_csv(tmp_path / "more.csv", admissions(3, start=100)))
    assert told(answered)["answers"] is None
    put_on_record(answered, story.plan(answered)[0])
    recall.note(answered)
    assert told(answered)["answers"] is not None


def test_a_changed_helper_makes_it_look_properly(answered: Lake) -> None:
    helper = answered.settings.analyses / "helper.py"
    before = helper.read_text()
    helper.write_text("A = 2\n")  # as long as before
    assert told(answered)["answers"] is None
    helper.write_text(before)
    assert told(answered)["answers"] is not None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": [1, "x"], "snapshot": "no"}', "no json"])
def test_a_damaged_note_is_no_note(answered: Lake, content: str) -> None:
    path = answered.settings.run_state / "recall.json"
    kept = path.read_text()
    path.write_text(content)
    assert recall._read(path) is None
    path.write_text(kept)


def test_the_note_is_for_its_owner_alone(answered: Lake) -> None:
    assert (answered.settings.run_state / "recall.json").stat().st_mode & 0o777 == 0o600


def test_a_process_with_duckdb_does_not_open_the_catalog_by_itself(answered: Lake) -> None:
    assert "duckdb" in sys.modules
    assert recall.unchanged(answered.settings) is None


def test_a_file_changed_just_now_is_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    path.write_text("import os\n")
    filefacts.facts_of(path, "")
    monkeypatch.setattr(filefacts, "RACY_NANOSECONDS", 3_600_000_000_000)  # however slow this machine is
    assert str(path) not in {row[0] for row in filefacts.written_down()}
    monkeypatch.setattr(filefacts, "RACY_NANOSECONDS", -3_600_000_000_000)
    assert str(path) in {row[0] for row in filefacts.written_down()}


@pytest.fixture
def still(answered: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A note that vouches for files however young, and a catalog that is read as a process without DuckDB reads it."""
    for module in (standstill, filefacts):
        monkeypatch.setattr(module, "RACY_NANOSECONDS", -3_600_000_000_000)
    recall.note(answered)
    snapshot = answered.last_snapshot_id()
    monkeypatch.setattr(standstill, "newest_in_file", lambda _: snapshot)
    for name, value in environment(answered.settings).items():
        monkeypatch.setenv(name, value)
    [answer] = standstill.answers([]) or [{}]
    assert (answer["analysis"], answer["skipped"]) == ("count", True)
    return answered


def test_when_nothing_moved_the_command_answers_with_hardly_an_import(still: Lake) -> None:
    code = (
        "import sys; from medisync.cli import entry; sys.argv = ['medisync', 'run', '--json']; entry.main(); "
        "print(sorted({'duckdb', 'pydantic', 'typer', 'medisync.settings', 'medisync.lake'} & set(sys.modules)))"
    )
    env = {**os.environ, **environment(still.settings)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    answer, loaded = done.stdout.splitlines()
    assert json.loads(answer)["skipped"] is True
    assert loaded == "[]"


@pytest.mark.usefixtures("still")
class TestWhateverMoved:
    """Each makes it decide properly; undone, the note holds again or not, but never wrongly."""

    def test_asked_for_by_name(self) -> None:
        assert [one["analysis"] for one in standstill.answers(["count", "count"]) or []] == ["count"]
        assert standstill.answers(["another"]) is None

    @pytest.mark.parametrize("name", ["count.ipynb", "helper.py"])
    def test_a_file(self, still: Lake, name: str) -> None:
        path = still.settings.analyses / name
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert standstill.answers([]) is None
        path.write_bytes(content)

    def test_another_notebook(self, still: Lake) -> None:
        path = still.settings.analyses / "second.ipynb"
        shutil.copy(still.settings.analyses / "count.ipynb", path)
        assert standstill.answers([]) is None
        path.unlink()

    @pytest.mark.parametrize(
        ("name", "value"),
        [("MEDISYNC_DISCLOSURE_THRESHOLD", "11"), ("MEDISYNC_UNHEARD_OF", "1"), ("medisync_kernels", "3")],
    )
    def test_a_setting(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        assert standstill.answers([]) is None

    def test_a_setting_that_is_no_longer_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MEDISYNC_NOTEBOOKS")
        assert standstill.answers([]) is None

    def test_a_setting_spelt_out_with_its_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MEDISYNC_DISCLOSURE_THRESHOLD")
        assert standstill.answers([]) is not None

    def test_the_packages(self, still: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(standstill, "_package_folders", lambda: [str(tmp_path)])
        recall.note(still)
        assert standstill.answers([]) is not None
        (tmp_path / "numpy-99.dist-info").mkdir()
        assert standstill.answers([]) is None

    def test_the_lake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(standstill, "newest_in_file", lambda _: 10_000)
        assert standstill.answers([]) is None

    def test_a_result_by_hand(self, still: Lake) -> None:
        waiting = still.settings.run_state / "published"
        waiting.mkdir()
        (waiting / "x.json").write_text("{}")
        assert standstill.answers([]) is None
        shutil.rmtree(waiting)
        assert standstill.answers([]) is not None

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"standstill": 3}', '{"standstill": {"format": 1}}'])
    def test_the_note_itself(self, still: Lake, content: str) -> None:
        path = still.settings.run_state / "recall.json"
        path.write_text(content)
        assert standstill.answers([]) is None
        recall.note(still)

    def test_files_or_our_own_code_of_just_now(self, still: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(standstill, "_LOADED_NANOSECONDS", 0)
        recall.note(still)
        assert standstill.answers([]) is None
        monkeypatch.undo()
        monkeypatch.setattr(standstill, "RACY_NANOSECONDS", 3_600_000_000_000_000)
        recall.note(still)
        assert json.loads((still.settings.run_state / "recall.json").read_text())["standstill"] is None
