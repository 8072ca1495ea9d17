"""Which snapshot is the newest, asked ten times a second at almost no cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import closing

from medisync.lake import Lake

SETTLE_SECONDS = 2.0
CERTAIN_SECONDS = 5.0


class Newest:
    """The newest snapshot of one lake.

    The catalog's files tell by their sizes and times that something is committed, and they tell it a moment before it
    can be read: SQLite writes its journal, waits for the disk, and only then lets others see. Whoever asks in between
    gets the number before, with the files already as they will stay. So the lake itself is asked for SETTLE_SECONDS
    after every change of its files, and every CERTAIN_SECONDS in any case. ``clock`` is one that nobody can set.
    """

    def __init__(self, lake: Lake, clock: Callable[[], float] = time.monotonic) -> None:
        self._lake = lake
        self._clock = clock
        self._turn = threading.Lock()
        self._marks: Hashable = None
        self._changed_at = self._asked_at = float("-inf")
        self._number = 0

    def __call__(self) -> int:
        """The number; 0 before the lake exists. Raises what the lake raises."""
        if not self._lake.exists:
            return 0
        with self._turn:
            marks, now = self._marks_now(), self._clock()
            if marks != self._marks:
                self._marks, self._changed_at = marks, now
            elif now - self._changed_at > SETTLE_SECONDS and now - self._asked_at < CERTAIN_SECONDS:
                return self._number
            with closing(self._lake.connection().cursor()) as cursor:
                row = cursor.execute("SELECT id FROM lake.current_snapshot()").fetchone()
            self._number, self._asked_at = int(row[0]) if row else 0, now
            return self._number

    def _marks_now(self) -> Hashable:
        marks: list[tuple[int, int, int] | None] = []
        for path in (self._lake.catalog, self._lake.catalog.with_name(f"{self._lake.catalog.name}-wal")):
            try:
                status = path.stat()
            except FileNotFoundError:
                marks.append(None)
            else:
                marks.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(marks)
