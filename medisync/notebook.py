"""What a notebook uses: open a snapshot, show a result, publish it."""

from __future__ import annotations

from medisync.analyses.contract import Result
from medisync.lake import Snapshot
from medisync.runs.record import RESULT_MIME
from medisync.settings import load_settings


def open_snapshot(snapshot_id: int | None = None) -> Snapshot:
    """The workspace's lake as it was at ``snapshot_id``, read-only; the latest for None.

    Raises NoDataError when there is no data or no such snapshot.
    """
    return Snapshot(load_settings(), snapshot_id)


def show(result: Result) -> None:
    """Display headline, figures and tables, as the report shows them."""
    from IPython.display import HTML, display

    from medisync.reports.page import fragment

    display(HTML(fragment(result)))


def publish(result: Result) -> None:
    """Hand ``result`` back to whoever runs this notebook. Call it once, at the end."""
    from IPython.display import display

    display({RESULT_MIME: result.model_dump(mode="json"), "text/plain": f"Published: {result.headline}"}, raw=True)
