"""Small analysis notebooks, one behaviour each."""

from __future__ import annotations

import json
from pathlib import Path

OPEN = """import medisync as ms
from medisync.analyses.contract import Finding, Result
snapshot = ms.open_snapshot(snapshot_id)"""
COUNT = 'n = int(snapshot.query("SELECT count(*) AS n FROM clinical.admissions")["n"][0])'


def publish(analysis: str, extra: str = "") -> str:
    """A cell that publishes the number of admissions as the result of ``analysis``."""
    return (
        f"{COUNT}\nms.publish(Result(analysis={analysis!r}, title='Count', headline=f'{{n}} admissions.', "
        f"finding=Finding.DESCRIPTION, metrics={{'n': n}}{extra}))"
    )


def write_notebook(
    folder: Path,
    analysis: str,
    *cells: str,
    parameters: str = "",
    prose: str = "# A small notebook",
    reads: tuple[str, ...] = ("admissions",),
    kernel: str = "python3",
) -> Path:
    """``<folder>/<analysis>.ipynb`` with a parameters cell and ``cells``; by default it counts admissions."""
    sources = cells or (OPEN, publish(analysis))
    document = {
        "cells": [
            {"cell_type": "markdown", "id": "prose", "metadata": {}, "source": prose},
            _code("parameters", f"snapshot_id = None\n{parameters}", ["parameters"]),
            *(_code(f"cell-{number}", source, []) for number, source in enumerate(sources)),
        ],
        "metadata": {
            "kernelspec": {"name": kernel, "display_name": kernel, "language": "python"},
            "language_info": {"name": "python"},
            "medisync": {"analysis": analysis, "title": f"Small {analysis}", "reads": list(reads)},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{analysis}.ipynb"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


def _code(identity: str, source: str, tags: list[str]) -> dict[str, object]:
    return {
        "cell_type": "code",
        "id": identity,
        "metadata": {"tags": tags},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }
