"""What a notebook uses: open a snapshot, show a result, publish it."""

from __future__ import annotations

import datetime as dt
import os

from medisync.analyses.contract import Finding, Result, Table
from medisync.lake import Snapshot
from medisync.runs.dropped import IN_A_RUN, KNOWN_ON
from medisync.runs.record import RESULT_MIME
from medisync.settings import load_settings

__all__ = ["Finding", "Result", "Table", "open_snapshot", "publish", "show"]

_opened: list[int] = []
"""The snapshots this process opened; what it publishes was made of the last one."""


def open_snapshot(snapshot_id: int | None = None, *, as_known_on: dt.datetime | None = None) -> Snapshot:
    """The workspace's lake as it was at ``snapshot_id``, read-only; the latest for None.

    With ``as_known_on`` (UTC) its clinical tables hold what was known then, without later additions and corrections.

    Raises NoDataError when there is no data or no such snapshot.
    """
    if as_known_on is None and os.environ.get(KNOWN_ON):  # a backfill whose own snapshot has expired
        as_known_on = dt.datetime.fromisoformat(os.environ[KNOWN_ON])
    snapshot = Snapshot(load_settings(), snapshot_id, as_known_on=as_known_on)
    _opened.append(snapshot.snapshot_id)
    return snapshot


def show(result: Result) -> None:
    """Display headline, figures and tables, as the report shows them."""
    from IPython.display import HTML, display

    from medisync.reports.page import fragment

    display(HTML(fragment(result)))


def publish(result: Result) -> None:
    """Hand ``result`` back to whoever runs this notebook. Call it once, at the end.

    In a run of the workspace the result goes back through the notebook's outputs. Run by hand, with ``papermill`` or in
    Lab, it is left for the next round to record, when what ran is an analysis notebook as it lies in the workspace.
    """
    from IPython.display import display

    said = f"Published: {result.headline}"
    if not os.environ.get(IN_A_RUN):
        from medisync.runs.by_hand import hand_over

        said = f"{said}\n{hand_over(result, _opened[-1] if _opened else None)}"
    display({RESULT_MIME: result.model_dump(mode="json"), "text/plain": said}, raw=True)
