"""Which runs are going on now. The lake knows runs that ended; this is the note on the door meanwhile.

One small file a run in ``data/run/runs/``, made when the run begins and removed when it ends. A file whose process is
gone says nothing and is swept away.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from medisync.settings import Settings


class RunInProgress(BaseModel):
    """A run that began and has not ended. ``started_at`` is UTC."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    analysis: str
    title: str
    run_key: str
    trigger: str
    flow_run_id: str | None
    started_at: dt.datetime
    pid: int
    process_started: float


@contextlib.contextmanager
def in_progress(
    settings: Settings,
    *,
    run_id: str,
    analysis: str,
    title: str,
    run_key: str,
    trigger: str,
    flow_run_id: str | None,
    started_at: dt.datetime,
) -> Iterator[None]:
    """Note the run for as long as the block lasts. A note that cannot be written hinders no run."""
    note = RunInProgress(
        run_id=run_id,
        analysis=analysis,
        title=title,
        run_key=run_key,
        trigger=trigger,
        flow_run_id=flow_run_id,
        started_at=started_at,
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
    )
    path = settings.run_state / "runs" / f"{run_id}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(note.model_dump_json(), encoding="utf-8")
        draft.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def runs_in_progress(settings: Settings) -> list[RunInProgress]:
    """The runs of this machine that are going on, oldest first."""
    found = []
    for path in sorted((settings.run_state / "runs").glob("r*.json")):
        try:
            note = RunInProgress.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError):  # it ended just now
            continue
        if _lives(note):
            found.append(note)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return found


def _lives(note: RunInProgress) -> bool:
    try:
        return abs(psutil.Process(note.pid).create_time() - note.process_started) < 1.0
    except psutil.Error:
        return False
