"""Which snapshot is the newest, asked ten times a second at almost no cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path

from medisync.backend.backend import NewestSnapshot

SETTLE_SECONDS = 2.0
CERTAIN_SECONDS = 5.0


class Newest(NewestSnapshot):
    """The newest snapshot of the lake whose catalog is the SQLite file ``catalog``; ``ask`` asks the lake itself.

    The sizes and times of catalog and journal tell that something is committed, and they tell it a moment before it
    can be read: SQLite writes its journal, waits for the disk, and only then lets others see. Whoever asks in between
    gets the number before, with the files already as they will stay. So the lake itself is asked for SETTLE_SECONDS
    after every change of its files, and every CERTAIN_SECONDS in any case. ``clock`` is one that nobody can set.

    The files are not opened here: a second SQLite library in the process would, on closing them, drop the locks that
    DuckDB's own holds (https://www.sqlite.org/howtocorrupt.html, section 2.2.1).
    """

    def __init__(self, catalog: Path, ask: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._files = (catalog, catalog.with_name(f"{catalog.name}-wal"))
        self._ask = ask
        self._clock = clock
        self._turn = threading.Lock()
        self._marks: Hashable = None
        self._changed_at = self._asked_at = float("-inf")
        self._number = 0

    def __call__(self) -> int:
        """The number. Raises what ``ask`` raises."""
        with self._turn:
            marks, now = self._marks_now(), self._clock()  # first, so that a commit in between is looked at again
            if marks != self._marks:
                self._marks, self._changed_at = marks, now
            elif now - self._changed_at > SETTLE_SECONDS and now - self._asked_at < CERTAIN_SECONDS:
                return self._number
            try:
                self._number, self._asked_at = self._ask(), now
            except BaseException:
                self._marks = None
                raise
            return self._number

    def _marks_now(self) -> Hashable:
        marks: list[tuple[int, int, int] | None] = []
        for path in self._files:
            try:
                status = path.stat()
            except FileNotFoundError:
                marks.append(None)
            else:
                marks.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(marks)
