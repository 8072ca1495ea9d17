"""The overview notebook runs as it is in JupyterLab, too."""

from __future__ import annotations

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

from medisync.dashboards import server
from medisync.settings import Settings, project_root


def test_it_shows_the_page_with_its_style(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOILA_PREHEAT", raising=False)
    for name, value in server.environment(workspace).items():
        monkeypatch.setenv(name, value)
    Path(os.environ["IPYTHONDIR"]).mkdir(parents=True)
    path = project_root() / "notebooks" / "dashboards" / server.OVERVIEW
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbclient.NotebookClient(notebook, timeout=60).execute()
    shown = [output["data"]["text/html"] for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len(shown) == 1
    assert shown[0].startswith("<style>")
    assert "Start here: bring the first data" in shown[0]
