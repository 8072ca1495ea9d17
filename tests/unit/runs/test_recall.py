"""Nothing changed is told without opening the lake, and only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medisync import intake
from medisync.lake import Lake
from medisync.runs import filefacts, recall, story
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
