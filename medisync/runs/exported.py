"""An exported run, executed again wherever it was carried to: called by the ``run.py`` of its folder."""

from __future__ import annotations

import json
from pathlib import Path

from medisync.analyses.contract import Result
from medisync.lake import Lake
from medisync.runs import registry
from medisync.runs.execution import NotebookFailedError, execute
from medisync.runs.numbers import moved
from medisync.runs.record import RunRecord
from medisync.settings import load_settings

NOT_IDENTICAL, FAILED = 64, 11


def rerun(exported: Path, scratch: Path) -> int:
    """Put the rows into a lake of their own, execute, compare, and say it; the exit code."""
    record = RunRecord.model_validate_json((exported / "record.json").read_text(encoding="utf-8"))
    before = Result.model_validate_json((exported / "result.json").read_text(encoding="utf-8"))
    settings = load_settings()
    lake = Lake(settings)
    with lake.transaction("exported rows") as transaction:
        for file in sorted((exported / "data").glob("*.parquet")):
            path = str(file).replace("'", "''")
            transaction.execute(f"DELETE FROM lake.{file.stem}")
            transaction.execute(f"INSERT INTO lake.{file.stem} BY NAME SELECT * FROM read_parquet('{path}')")
    notebook = registry.read_notebook(exported / "notebook" / record.notebook)
    if notebook is None:
        print("The notebook is no analysis.")  # noqa: T201 - it is a script's answer
        return FAILED
    try:
        made = execute(
            notebook,
            json.loads((exported / "parameters.json").read_text(encoding="utf-8")),
            lake.last_snapshot_id() or 0,
            scratch / "executed.ipynb",
            budget_seconds=10 * settings.notebook_seconds,
            environment=record.fixed_environment,
        )
    except NotebookFailedError as error:
        print(error.message)  # noqa: T201
        return FAILED
    finally:
        lake.close()
    own = tuple(one for one in before.warnings if one not in record.notices)
    places = moved(before.model_copy(update={"warnings": own}), made.result)
    different = sum(one.different for one in places)
    compared = sum(one.compared for one in places)
    print(  # noqa: T201
        f"All {compared:,} values are identical." if not different else f"{different:,} of {compared:,} values differ."
    )
    for place in places:
        if place.different:
            print(f"  {place.place}: {place.different} of {place.compared}, at most {place.largest_relative}")  # noqa: T201
    return NOT_IDENTICAL if different else 0
