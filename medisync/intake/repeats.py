"""Files that were loaded before: the watcher records them itself, without a flow run that would do nothing."""

from __future__ import annotations

import logging

from medisync.errors import MediSyncError
from medisync.intake import arrival
from medisync.intake.report import DeliveryReport, DeliveryStatus
from medisync.settings import Settings

log = logging.getLogger("medisync.watcher")

LARGEST_BYTES = 100_000_000
"""The watcher reads files up to this size; a larger one would keep the others waiting."""

LOCK_SECONDS = 0.5
"""How long the watcher waits for the lake's write lock."""


class Repeats:
    """Knows the content of every file that was loaded."""

    def __init__(self, settings: Settings) -> None:
        from medisync.lake import Lake

        self._lake = Lake(settings.model_copy(update={"lock_seconds": min(settings.lock_seconds, LOCK_SECONDS)}))
        self._loaded: set[tuple[str, str]] = set()
        self._snapshot_id: int | None = None

    def answer(self, delivery_id: str) -> DeliveryReport | None:
        """Record the claimed delivery as a repeat, when it is one; None leaves it to the flow, whatever the reason."""
        import duckdb

        try:
            if not self._is_known(delivery_id):
                return None
            from medisync.intake.delivery import deliver

            return deliver(self._lake, delivery_id)
        except (MediSyncError, OSError, duckdb.Error) as error:
            log.info("Delivery %s is left to the flow (%s)", delivery_id, type(error).__name__)
            return None

    def close(self) -> None:
        self._lake.close()

    def _is_known(self, delivery_id: str) -> bool:
        found = arrival.claimed_file(self._lake.settings, delivery_id)
        if found is None or not self._lake.exists:
            return False
        source, path = found
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            return False
        from medisync.intake.reading import content_hash

        self._refresh()
        return (content_hash(path), source) in self._loaded

    def _refresh(self) -> None:
        newest = self._lake.last_snapshot_id()
        if newest == self._snapshot_id:
            return
        rows = self._lake.query(
            "SELECT DISTINCT content_hash, source FROM clinical.deliveries WHERE status = ?", [DeliveryStatus.LOADED]
        )
        self._loaded = {(row["content_hash"], row["source"]) for row in rows}
        self._snapshot_id = newest
