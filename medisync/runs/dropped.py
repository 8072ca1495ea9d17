"""Results of notebooks that an analyst ran alone, with ``papermill`` or in Lab.

A kernel never writes to the lake. Outside a run of the workspace ``ms.publish`` therefore leaves its result, with all
that a run record needs, in ``data/run/published/``, a folder for the owner alone; the next round takes it in, checks it
like any other, and records it with who asked and ``papermill`` as the trigger. What does not hold (another result than
the notebook's, an unknown snapshot, a version that cannot be told) is put aside with its reason and never served.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync.errors import MediSyncError
from medisync.settings import Settings

if TYPE_CHECKING:
    from medisync.analyses.contract import Result
    from medisync.lake import Lake

IN_A_RUN = "IN_A_MEDISYNC_RUN"
"""Set in kernels of the workspace, whose results are handed back through the notebook's outputs."""

KNOWN_ON = "IN_A_MEDISYNC_RUN_KNOWN_ON"
"""Set in those that look back: the moment whose knowledge an opened snapshot holds."""

LARGEST_BYTES = 50_000_000


@dataclass(frozen=True)
class TakenIn:
    """What became of one dropped result."""

    analysis: str
    run_id: str | None
    refused_because: str | None = None

    def sentence(self) -> str:
        if self.refused_because:
            return f"A result of {self.analysis} published by hand was not recorded: {self.refused_because}"
        return f"Recorded {self.run_id}: {self.analysis}, run by hand."


def folder(settings: Settings) -> Path:
    """Where results wait."""
    return settings.run_state / "published"


def is_any_waiting(settings: Settings) -> bool:
    """Whether a result waits to be taken in."""
    return any(folder(settings).glob("*.json"))


def drop(settings: Settings, result: Result, facts: dict[str, Any]) -> Path:
    """Leave ``result`` for the next round: all of it, or nothing. ``facts``: what the kernel knows of its run."""
    import getpass

    place = folder(settings)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    content = {
        "result": result.model_dump(mode="json"),
        "requested_by": user,
        "published_at": dt.datetime.now(dt.UTC).isoformat(),
        **facts,
    }
    name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
    draft, path = place / f".{name}", place / f"{name}.json"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def take_in(lake: Lake) -> list[TakenIn]:
    """Record every result that waits, oldest first. Never raises for what is in a file."""
    taken = []
    for path in sorted(folder(lake.settings).glob("*.json")):
        analysis = "an analysis"
        try:
            if path.stat().st_size > LARGEST_BYTES:
                raise ValueError("it is too large")
            content = json.loads(path.read_text(encoding="utf-8"))
            analysis = str(content["result"]["analysis"])[:80]
            run_id = _record(lake, content, path.stem)
        except (ValueError, KeyError, TypeError, AttributeError, MediSyncError) as error:
            reason = str(error) if isinstance(error, MediSyncError) else f"it is no result ({type(error).__name__})."
            path.replace(path.with_suffix(".refused"))
            taken.append(TakenIn(analysis, None, reason))
        else:
            path.unlink(missing_ok=True)
            taken.append(TakenIn(analysis, run_id))
    return taken


def _record(lake: Lake, content: dict[str, Any], name: str) -> str:
    """The id of the run now on record; the same file gives the same id, so that it is recorded once."""
    from medisync.analyses.contract import Result
    from medisync.errors import ParameterError
    from medisync.runs import identity, planning, printed_keys, registry, versions
    from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
    from medisync.runs.publishing import check_lake_rows, publish
    from medisync.runs.record import RunRecord, RunStatus

    result = Result.model_validate(content["result"])
    check_lake_rows(result)
    [notebook] = registry.chosen(lake.settings, [result.analysis])
    if content["notebook_hash"] != notebook.notebook_hash:
        raise ParameterError("The notebook is not the one in the workspace's folder, or it was changed since.")
    snapshot_id = int(content["snapshot_id"])
    planning.require_snapshot(lake, snapshot_id)
    parameters = notebook.parameters(dict(content["parameters"]))
    if printed_keys.found_in(lake, [json.dumps(content["result"])]):
        raise ParameterError("It holds the key of a patient, an admission or a practitioner.")
    code = identity.code_of(notebook)
    if content["code_hash"] != code.hash:
        raise ParameterError("The code it ran with was changed since.")
    versions.keep(lake.settings, notebook, code)
    inputs = {
        table: version
        for table, version in planning.table_versions(lake, snapshot_id).items()
        if table in notebook.reads
    }
    finished = dt.datetime.fromisoformat(content["published_at"])
    settings = identity.settings_of(notebook, lake.settings)
    environment = dict(content["environment"])
    fixed = {key: str(value) for key, value in dict(content["fixed_environment"]).items() if key in FIXED_ENVIRONMENT}
    key = identity.run_key(
        analysis=notebook.analysis,
        parameters=parameters,
        notebook_hash=notebook.notebook_hash,
        code=code,
        inputs={table: inputs.get(table, 0) for table in notebook.reads},
        settings=settings,
    )
    # Only with the workspace's own environment may it answer for a run of the workspace, and be served.
    is_ours = fixed == FIXED_ENVIRONMENT
    record = RunRecord(
        run_id=f"r{name[:15]}-{identity.hash_of(name)[:6]}",
        analysis=notebook.analysis,
        title=notebook.title,
        status=RunStatus.COMPLETED,
        parameters=parameters,
        parameters_hash=identity.hash_of(parameters if is_ours else [parameters, "by hand"]),
        snapshot_id=snapshot_id,
        inputs={table: inputs.get(table, 0) for table in notebook.reads},
        run_key=key if is_ours else identity.hash_of([key, "by hand", name]),
        notebook=notebook.path.name,
        notebook_hash=notebook.notebook_hash,
        code_hash=code.hash,
        environment=environment,
        packages=identity.packages_of(code),
        settings=settings,
        fixed_environment=fixed,
        trigger="papermill",
        requested_by=str(content["requested_by"])[:80],
        started_at=dt.datetime.fromisoformat(content["started_at"]),
        finished_at=finished,
        headline=result.headline,
    )
    publish(lake, record, result)
    return record.run_id
