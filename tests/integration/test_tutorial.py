"""``docs/tutorial.md``: every command and every cell, in order, in a workspace of its own."""

from __future__ import annotations

import csv
import datetime as dt
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medisync.lake import Lake
from medisync.runs import registry
from medisync.runs.record import RunRecord
from medisync.settings import environment, project_root
from tests.conftest import make_workspace

BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_it_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_workspace(tmp_path, monkeypatch, notebooks=tmp_path / "notebooks", retries=0)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    notebook = settings.analyses / "long_stays.ipynb"
    said = ""
    blocks = BLOCK.findall((project_root() / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    assert {language for language, _, _ in blocks} == {"bash", "python"}, "a block of another kind would not be run"
    for language, cell, text in blocks:
        if language == "python":
            save(notebook, cell, text.rstrip("\n"))
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env={**os.environ, **environment(settings), "PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        said += done.stdout

    with (tmp_path / "demo.csv").open(encoding="utf-8", newline="") as file:
        days = [length_of_stay(row) for row in csv.DictReader(file)]
    counted = [
        f"{sum(one > least for one in days if one is not None):,} of {sum(one is not None for one in days):,} stays "
        f"were longer than {least} days."
        for least in (21, 14)
    ]
    assert all(headline in said for headline in counted), said
    lake = Lake(settings)
    rows = lake.query("SELECT record FROM analytics.runs WHERE status = 'completed' ORDER BY finished_at")
    lake.close()
    runs = [RunRecord.model_validate_json(row["record"]) for row in rows]
    assert [run.headline for run in runs] == counted
    assert {run.notebook_hash for run in runs} == {one.notebook_hash for one in registry.analyses(settings)}
    packs = sorted(one.name[-9:] == "-released" for one in (settings.reports / "packs").glob("*/*"))
    assert packs == [False, True]


def save(notebook: Path, cell: str, source: str) -> None:
    """As saving in JupyterLab does."""
    document = json.loads(notebook.read_text(encoding="utf-8"))
    (found,) = (one for one in document["cells"] if one["id"] == cell)
    found["source"] = source
    notebook.write_text(json.dumps(document, indent=1), encoding="utf-8")


def length_of_stay(row: dict[str, str]) -> int | None:
    """Days, by the file itself; None while the patient is in hospital."""
    if not row["Discharge Date"]:
        return None
    return (dt.date.fromisoformat(row["Discharge Date"]) - dt.date.fromisoformat(row["Date of Admission"])).days
