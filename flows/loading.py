"""Loading what waits, which may begin before the flow does.

A forked flow run begins to load with its process, while Prefect's engine still asks its server about the run: that
takes half a second, in which a core would rest. Loading is idempotent by delivery id and asks Prefect nothing, so a
flow run that comes to nothing after all has done no harm.

This is a module of its own because Prefect reads the flow's file under another name than the one it is imported by.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from flows.rounds import lake
from medisync.intake import DeliveryReport, turns
from medisync.ledger import Claims, open_ledger

_begun: dict[str, Loading] = {}
"""What began before the flow: by delivery id, until the flow asks for it."""


class Loading:
    """What waits is loaded in a thread; iterating gives a report of each delivery as it is loaded, and raises what kept
    it from going on."""

    def __init__(self, delivery_id: str) -> None:
        self._told: queue.SimpleQueue[DeliveryReport | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._load, args=(delivery_id,), name="loading", daemon=True).start()

    def _load(self, delivery_id: str) -> None:
        end: Exception | None = None
        try:
            for report in _taken(delivery_id):
                self._told.put(report)
        except Exception as error:
            end = error
        self._told.put(end)

    def __iter__(self) -> Iterator[DeliveryReport]:
        while isinstance(told := self._told.get(), DeliveryReport):
            yield told
        if told is not None:
            raise told


def begin(delivery_id: str) -> None:
    """Begin to load, before the flow run of ``delivery_id`` is under way in this process."""
    _begun[delivery_id] = Loading(delivery_id)


def reports(delivery_id: str) -> Iterator[DeliveryReport]:
    """A report of each delivery as it is loaded, by what began before or now; raises what keeps it from going on."""
    return iter(_begun.pop(delivery_id, None) or _taken(delivery_id))


def _taken(delivery_id: str) -> Iterator[DeliveryReport]:
    return turns.take(lake(), Claims(open_ledger(lake().settings)), delivery_id)
