"""papermill's engine, saving the notebook when it has ended, however it ends, instead of twice a cell."""

from __future__ import annotations

from typing import Any

from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

NAME = "medisync"


class SavedAtTheEnd(NBClientEngine):  # type: ignore[misc]
    """The stock engine writes and checks the whole notebook before and after each cell: seven notebooks of five cells
    with their drawings cost half a second so. What watches a run here is not the file."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, **options: Any) -> Any:
        """Run the cells; the manager saves when it completes the notebook, also after a failure or a time-out."""
        output_path, nb_man.output_path = nb_man.output_path, None
        try:
            return super().execute_managed_notebook(nb_man, kernel_name, **options)
        finally:
            nb_man.output_path = output_path


def saved_at_the_end() -> str:
    """The engine's name, which papermill knows from now on."""
    papermill_engines.register(NAME, SavedAtTheEnd)
    return NAME
