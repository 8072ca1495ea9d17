"""What became of one delivery."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class DeliveryStatus(StrEnum):
    LOADED = "loaded"
    REPEAT = "repeat"  # the same content was loaded before; nothing was done
    REFUSED = "refused"  # nothing was loaded; the file lies in data/refused/ with the reason beside it


@dataclass(frozen=True)
class DeliveryReport:
    """One delivery's outcome. Counts are rows of the file or admissions of the lake; no patient's value is in it."""

    delivery_id: str
    source: str
    status: DeliveryStatus
    file_label: str
    content_hash: str | None = None
    layout: str | None = None
    mode: str | None = None
    reason: str | None = None
    message: str | None = None
    rows_read: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    duplicates_exact: int = 0
    duplicates_conflicting: int = 0
    quarantined: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    notices: dict[str, int] = field(default_factory=dict)
    changed_tables: tuple[str, ...] = ()
    admitted_from: dt.date | None = None
    admitted_until: dt.date | None = None
    received_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    snapshot: int | None = None
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        return bool(self.changed_tables)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; dates and times are ISO text."""
        return {
            name: value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value
            for name, value in asdict(self).items()
        }

    def sentence(self, name: str | None = None) -> str:
        """The outcome in one sentence that calls the file ``name``, by default its label."""
        return f"{name or self.file_label} {self.outcome()}"

    def outcome(self) -> str:
        """What follows the file's name in the sentence."""
        if self.status is DeliveryStatus.REFUSED:
            return f"was refused: {self.message} [{self.reason}]"
        if self.status is DeliveryStatus.REPEAT:
            return f"was loaded before as {self.reason}: nothing to do."
        counts = (
            f"{self.created:,} created, {self.updated:,} updated, {self.deleted:,} deleted, "
            f"{self.unchanged:,} unchanged"
        )
        return (
            f"was loaded: {self.rows_read:,} rows read, {counts}; {self.duplicates_exact:,} exact and "
            f"{self.duplicates_conflicting:,} conflicting duplicates, {self.quarantined:,} rows quarantined."
        )

    def foretold(self) -> str:
        """What would follow the file's name in the sentence, of a delivery that was only looked at."""
        if self.status is DeliveryStatus.REFUSED:
            return f"would be refused: {self.message} [{self.reason}]"
        return (
            f"is {self.layout} and would be loaded as {self.mode}: {self.rows_read:,} rows, "
            f"{self.created:,} to create, {self.updated:,} to update, {self.deleted:,} to delete, "
            f"{self.unchanged:,} unchanged; {self.quarantined:,} rows would be quarantined."
        )
