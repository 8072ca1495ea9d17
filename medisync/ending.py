"""How a service of the workspace is told to end."""

from __future__ import annotations

import signal
from types import FrameType


class ToldToEnd:
    """Becomes true with SIGTERM or SIGINT, in the process whose main thread makes it.

    A plain flag on purpose: a ``threading.Event`` that a signal handler sets takes the lock its own thread may hold
    just then, in ``wait`` or in the handler of a signal before, and the process never ends.
    """

    def __init__(self) -> None:
        self._is_told = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __bool__(self) -> bool:
        return self._is_told

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._is_told = True
