"""papermill's engine, saving the notebook when it has ended, however it ends, instead of twice a cell."""

from __future__ import annotations

from typing import Any

from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

NAME = "medisync"


class SavedAtTheEnd(NBClientEngine):  # type: ignore[misc]
    """The stock engine writes and checks the whole notebook before and after each cell: seven notebooks of five cells
    with their drawings cost half a second so. What watches a run here is not the file.

    To be used with ``request_save_on_cell_execute=False``: papermill itself then saves a notebook that came to its last
    cell or to one that raised, and nobody else does.
    """

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, saved_to: str, **options: Any
    ) -> Any:
        """Run the cells. After a time-out or the kernel's death, of which papermill saves nothing, the manager saves
        what there is to ``saved_to`` when it completes the notebook."""
        try:
            return super().execute_managed_notebook(nb_man, kernel_name, **options)
        except BaseException:
            nb_man.output_path = saved_to
            raise


def saved_at_the_end() -> str:
    """The engine's name, which papermill knows from now on."""
    papermill_engines.register(NAME, SavedAtTheEnd)
    return NAME
