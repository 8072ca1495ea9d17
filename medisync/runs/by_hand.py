"""What a kernel knows of its own run when it was started by hand, and leaving its result for the next round.

The kernel's history says which cells ran: only when they are those of the analysis notebook in the workspace's folder,
in its order, is the result that notebook's. Values of its parameters are read from the kernel's own variables.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from typing import TYPE_CHECKING, Any

from medisync.errors import MediSyncError
from medisync.runs import dropped, identity, registry
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.settings import load_settings

if TYPE_CHECKING:
    from medisync.analyses.contract import Result
    from medisync.runs.registry import AnalysisNotebook

RECORDED = "The next round of the workspace records it."


def hand_over(result: Result, snapshot_id: int | None) -> str:
    """Leave ``result`` for the workspace; a sentence that says whether it will be recorded, and why not."""
    try:
        settings = load_settings()
        notebook = next((one for one in registry.analyses(settings) if one.analysis == result.analysis), None)
        shell = _shell()
        if notebook is None:
            return f"Not recorded: the workspace has no analysis {result.analysis}."
        if shell is None or snapshot_id is None:
            return "Not recorded: it was not made by a notebook on a snapshot."
        if not _ran(notebook, list(shell.history_manager.input_hist_raw)):
            return f"Not recorded: what ran here are not the cells of {notebook.path.name}, in its order."
        values = {name: shell.user_ns[name] for name in notebook.defaults if name in shell.user_ns}
        code = identity.code_of(notebook)
        started = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=_seconds_alive())
        facts = {
            "snapshot_id": snapshot_id,
            "parameters": notebook.parameters(json.loads(json.dumps(values, default=list))),
            "notebook_hash": notebook.notebook_hash,
            "code_hash": code.hash,
            "environment": identity.environment_record(),
            "fixed_environment": {name: os.environ.get(name, "") for name in FIXED_ENVIRONMENT},
            "started_at": started.isoformat(),
        }
        dropped.drop(settings, result, facts)
    except (MediSyncError, OSError, TypeError, ValueError) as error:
        return f"Not recorded: {error.message if isinstance(error, MediSyncError) else type(error).__name__}."
    return RECORDED


def _shell() -> Any:
    """The IPython shell of this kernel, None outside of one."""
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _ran(notebook: AnalysisNotebook, history: list[str]) -> bool:
    """Whether the notebook's code cells ran last, in order, each as it is now; papermill's parameters apart."""
    own = [source.strip() for source in notebook.cells if source.strip()]
    ran = [source.strip() for source in history if source.strip() and not source.startswith("# Parameters\n")]
    return ran[-len(own) :] == own if own else False


def _seconds_alive() -> float:
    import psutil

    return time.time() - float(psutil.Process().create_time())
