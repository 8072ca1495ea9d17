"""Readmissions, an analysis that is a notebook and nothing else: the attacker learns no small count from it, either."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

import medisync as ms
from medisync.analyses.contract import Result
from medisync.demo import write_demo_data
from medisync.disclosure.policy import Policy
from medisync.disclosure.release import release
from tests.property.disclosure.test_analyses import small_lake
from tests.support.disclosure_attack import attack
from tests.support.memory_lake import MemoryLake

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "analyses" / "readmissions.ipynb"


def readmissions_of(lake: MemoryLake, monkeypatch: pytest.MonkeyPatch) -> Result:
    """What the notebook's cells publish, run here instead of in a kernel."""
    published: list[Result] = []
    monkeypatch.setattr(ms, "open_snapshot", lambda _=None: SimpleNamespace(query=lake.query))
    monkeypatch.setattr(ms, "show", lambda _: None)
    monkeypatch.setattr(ms, "publish", published.append)
    names: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, NOTEBOOK.name, "exec"), names)
    assert len(published) == 1
    return published[0]


def test_no_small_count_of_readmissions_can_be_worked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hospital so small that most counts are: what is withheld keeps the doubt the threshold asks for."""
    write_demo_data(tmp_path / "demo.csv", rows=2000, years=2, sites=6, seed=3)
    result = readmissions_of(small_lake(tmp_path / "demo.csv"), monkeypatch)
    document = release(result, Policy(), [])
    assert document.note.counts_small > 0
    found = attack([(result, document)], only_small=10)
    assert found
    for one in found:
        assert one.width >= 5, one
