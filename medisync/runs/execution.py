"""One notebook in one fresh kernel, and what it handed back."""

from __future__ import annotations

import datetime as dt
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medisync.analyses.contract import Result
from medisync.errors import MediSyncError
from medisync.runs.dropped import IN_A_RUN, KNOWN_ON
from medisync.runs.publishing import check_lake_rows
from medisync.runs.record import RESULT_MIME
from medisync.runs.registry import PINNED, AnalysisNotebook

OUT_OF_MEMORY = frozenset({"MemoryError", "_ArrayMemoryError", "ArrayMemoryError", "OutOfMemoryException"})
"""What Python, numpy and DuckDB raise when they get no more."""


class NotebookFailedError(MediSyncError):
    """The notebook raised, ran out of time, lost its kernel, or did not publish exactly one result."""

    code = "notebook-failed"

    def __init__(self, message: str, *, code: str, is_passing: bool) -> None:
        super().__init__(message)
        self.code = code
        self.is_passing = is_passing
        """Whether another try may well succeed."""


@dataclass(frozen=True)
class Execution:
    """An executed notebook (also of a failed run, up to the cell that failed) and its result."""

    notebook: Path
    result: Result


def execute(
    notebook: AnalysisNotebook,
    parameters: dict[str, Any],
    snapshot_id: int,
    output: Path,
    *,
    source: Path | None = None,
    budget_seconds: int,
    budget_mb: int = 0,
    fork_socket: Path | None = None,
    environment: dict[str, str] | None = None,
    known_on: dt.datetime | None = None,
) -> Execution:
    """Run ``notebook`` on the pinned snapshot; the executed copy is written to ``output``.

    ``source`` is the file that runs, by default the notebook's own; it works in the notebook's folder either way. The
    kernel is forked by the server at ``fork_socket`` when one listens there, and gets ``environment`` on top of the
    fixed one. ``budget_mb`` 0 is no limit of memory. With ``known_on`` the notebook sees what of the snapshot was known
    then.

    Raises NotebookFailedError.
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from medisync.runs.engine import saved_at_the_end
    from medisync.runs.kernels import IpcKernelManager, closed_event_loop, private_transport

    for noisy in ("papermill", "papermill.translators", "papermill.utils"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    output.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + budget_seconds
    variables = {**(environment or {}), IN_A_RUN: "1", KNOWN_ON: known_on.isoformat() if known_on else ""}
    try:
        with private_transport(fork_socket, variables, 1_000_000 * budget_mb) as config, closed_event_loop():
            executed = papermill.execute_notebook(
                (source or notebook.path).absolute(),
                output.absolute(),
                parameters={PINNED: snapshot_id, **parameters},
                engine_name=saved_at_the_end(),
                request_save_on_cell_execute=False,
                saved_to=str(output.absolute()),
                progress_bar=False,
                start_timeout=120,
                timeout_func=lambda _cell: max(1.0, deadline - time.monotonic()),  # the budget is the notebook's
                kernel_manager_class=IpcKernelManager,
                config=config,
                resources={"metadata": {"path": str(notebook.path.parent.absolute())}},
            )
    except PapermillExecutionError as error:
        if error.ename in OUT_OF_MEMORY:
            raise NotebookFailedError(
                f"Cell {error.cell_index + 1} of {notebook.path.name} asked for more memory than there is for a "
                f"notebook ({budget_mb:,} MB).",
                code="notebook-too-big",
                is_passing=False,
            ) from None
        raise NotebookFailedError(
            f"Cell {error.cell_index + 1} of {notebook.path.name} raised {error.ename}: {error.evalue}",
            code="notebook-raised",
            is_passing=True,
        ) from None
    except CellTimeoutError:
        raise NotebookFailedError(
            f"{notebook.path.name} used more than its budget of {budget_seconds} seconds.",
            code="notebook-too-slow",
            is_passing=False,
        ) from None
    except NoSuchKernel:
        raise NotebookFailedError(
            f"{notebook.path.name} wants a kernel that is not installed; python3 is.",
            code="bad-notebook",
            is_passing=False,
        ) from None
    except DeadKernelError:
        raise NotebookFailedError(
            f"The kernel of {notebook.path.name} died.", code="kernel-died", is_passing=True
        ) from None
    except (nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise NotebookFailedError(
            f"{notebook.path.name} is no valid notebook ({type(error).__name__}).",
            code="bad-notebook",
            is_passing=False,
        ) from None
    return Execution(output, _published(executed, notebook))


def _published(executed: Any, notebook: AnalysisNotebook) -> Result:
    """The one result among the outputs of an executed notebook."""
    documents = [
        output["data"][RESULT_MIME]
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if RESULT_MIME in output.get("data", {})
    ]
    if len(documents) != 1:
        how_often = "never" if not documents else f"{len(documents)} times"
        raise NotebookFailedError(
            f"{notebook.path.name} published its result {how_often}; ms.publish(result) must be called once.",
            code="not-published-once",
            is_passing=False,
        )
    try:
        result = Result.model_validate(documents[0])
        check_lake_rows(result)
    except ValueError as error:
        raise NotebookFailedError(
            f"{notebook.path.name} published something that is no result ({type(error).__name__}).",
            code="bad-result",
            is_passing=False,
        ) from None
    if result.analysis != notebook.analysis:
        raise NotebookFailedError(
            f"{notebook.path.name} is the notebook of {notebook.analysis} but published {result.analysis}.",
            code="bad-result",
            is_passing=False,
        )
    return result
