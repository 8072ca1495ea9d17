"""What the last decision rested on, kept so that "nothing changed" is told without opening the lake.

Opening a DuckLake takes a second; reading the newest snapshot's id from its catalog, a thousandth. So a round leaves
behind, in ``data/run/recall.json``, the snapshot it saw, the versions of the input tables there, the runs that answer
for the default parameters, and the facts of the source files it looked at. While the catalog's newest snapshot is that
one, and no file moved, those runs are still the answer. Whatever does not fit, or cannot be read, means: look properly.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import __version__
from medisync.backend.choice import backend_of
from medisync.errors import UserError
from medisync.runs import filefacts, identity, registry, standstill
from medisync.settings import Settings

if TYPE_CHECKING:
    from medisync.lake import Lake

FORMAT = 1


def unchanged(settings: Settings, names: list[str] | None = None) -> list[dict[str, Any]] | None:
    """The answers of the analyses ``names`` (all for none) with default parameters when nothing at all has changed:
    what ``Outcome.as_json`` gives. None when that cannot be told without opening the lake.

    Raises UnknownAnalysisError.
    """
    kept = _read(_path(settings))
    if kept is None or kept["snapshot"] != backend_of(settings).peek_newest():
        return None
    filefacts.take_up(kept["files"])
    answers = []
    for notebook in registry.chosen(settings, names or []):
        code = identity.code_of(notebook)
        parameters = kept["defaults"].get(f"{notebook.notebook_hash} {code.hash}")
        if parameters is None:
            return None
        inputs = {table: int(kept["versions"].get(table, 0)) for table in notebook.reads}
        key = identity.run_key(
            analysis=notebook.analysis,
            parameters=parameters,
            notebook_hash=notebook.notebook_hash,
            code=code,
            inputs=inputs,
            settings=identity.settings_of(notebook, settings),
        )
        answer = kept["answers"].get(key)
        if answer is None:
            return None
        answers.append(answer)
    return answers or None


def take_up_files(settings: Settings) -> None:
    """Know what the last round knew of the source files, so that this process need not read and parse them."""
    kept = _read(_path(settings))
    if kept is not None:
        with suppress(ValueError, TypeError):  # a damaged note is no note
            filefacts.take_up(kept["files"])


def note(lake: Lake) -> None:
    """Keep what a decision of now would rest on; a fault here costs the next decision a second and nothing else."""
    settings = lake.settings
    try:
        marks = standstill.marks_of(standstill.deciding(settings))  # before anything is read
    except OSError:
        return
    with closing(lake.cursor()) as cursor:
        cursor.execute("BEGIN")  # one moment for all three questions
        try:
            snapshot = cursor.execute("SELECT id FROM lake.current_snapshot()").fetchall()[0][0]
            versions = dict(cursor.execute("SELECT table_name, version FROM clinical.table_versions").fetchall())
            defaults, keys, code = _defaults(settings, versions)
            rows = cursor.execute(
                "SELECT run_key, record FROM analytics.runs WHERE status = 'completed' AND run_key IN "
                "(SELECT unnest(?::VARCHAR[])) QUALIFY row_number() OVER (PARTITION BY run_key ORDER BY finished_at "
                "DESC) = 1",
                [[key for key in keys.values() if key is not None]],
            ).fetchall()
        finally:
            cursor.execute("ROLLBACK")
    files = filefacts.written_down()
    code_marks = {row[0]: row[2] for row in files if row[0] in code}
    kept = {
        "format": [FORMAT, __version__],
        "snapshot": snapshot,
        "versions": versions,
        "defaults": defaults,
        "answers": {key: _answer(record) for key, record in rows},
        "files": files,
        "standstill": standstill.note(settings, marks, code_marks, keys) if len(code_marks) == len(code) else None,
    }
    path = _path(settings)
    draft = path.with_name(f".{secrets.token_hex(4)}.recall")
    with suppress(OSError):
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(kept, file)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _defaults(settings: Settings, versions: dict[str, int]) -> tuple[dict[str, Any], dict[str, str | None], set[str]]:
    """Default parameters by notebook and code, the run key of each analysis with them, and the files of their code."""
    defaults: dict[str, Any] = {}
    keys: dict[str, str | None] = {}
    files: set[str] = set()
    for notebook in registry.analyses(settings):
        keys[notebook.analysis] = None
        try:
            parameters = notebook.parameters({})
        except UserError:
            continue
        code = identity.code_of(notebook)
        files |= {str(path) for path in code.files.values()}
        defaults[f"{notebook.notebook_hash} {code.hash}"] = parameters
        keys[notebook.analysis] = identity.run_key(
            analysis=notebook.analysis,
            parameters=parameters,
            notebook_hash=notebook.notebook_hash,
            code=code,
            inputs={table: versions.get(table, 0) for table in notebook.reads},
            settings=identity.settings_of(notebook, settings),
        )
    return defaults, keys, files


def _answer(record: str) -> dict[str, Any]:
    from medisync.runs.record import Outcome, RunRecord

    return Outcome(record=RunRecord.model_validate_json(record), skipped=True).as_json()


def _path(settings: Settings) -> Path:
    return settings.run_state / "recall.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        is_whole = kept["format"] == [FORMAT, __version__] and all(
            isinstance(kept[name], kind)
            for name, kind in (("snapshot", int), ("versions", dict), ("defaults", dict), ("answers", dict))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if is_whole and isinstance(kept.get("files"), list) else None
