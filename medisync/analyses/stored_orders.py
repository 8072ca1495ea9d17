"""The SARIMA orders that the last recalibration stored, so that an arrival need not search for them."""

from __future__ import annotations

import json

from medisync.analyses.contract import SnapshotReader
from medisync.stats.sarima import SarimaOrder, restored_order
from medisync.stats.series import Frequency


def stored_orders(snapshot: SnapshotReader, unique_id: str, frequency: Frequency) -> dict[str, SarimaOrder]:
    """The newest order of one series, by id; empty where none has been stored."""
    newest = snapshot.query(
        "SELECT specification::VARCHAR AS specification FROM analytics.sarima_orders "
        "WHERE unique_id = ? AND frequency = ? ORDER BY calibrated_at DESC, calibration_id DESC LIMIT 1",
        [unique_id, frequency],
    )
    return {} if newest.empty else {unique_id: restored_order(json.loads(newest["specification"].iloc[0]))}
