"""Lines above a table's header: a report's title, when it was made, what it is about."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from medisync.intake.reading import DELIMITERS

MOST_LINES = 20
MOST_TITLE_CELLS, FEWEST_HEADER_CELLS = 3, 4
HEADER_SHARE = 0.75
"""A header has at least so many of the cells that the fullest line has."""


def lines_above(lines: Sequence[bytes], delimiter: str | None) -> int:
    """How many of ``lines``, the first of which is not blank, stand above the header.

    They do when the first has hardly a cell that is filled, and one soon below it has many.
    """
    texts = [line.decode("utf-8", errors="replace").replace("\0", "") for line in lines[:MOST_LINES]]
    sign = delimiter or max(DELIMITERS, key=lambda one: max((rank(text, one) for text in texts), default=(0, 0)))
    filled = [sum(bool(cell.strip()) for cell in _cells(text, sign)) for text in texts]
    if not filled or filled[0] > MOST_TITLE_CELLS or max(filled) < max(FEWEST_HEADER_CELLS, 2 * filled[0]):
        return 0
    return next(number for number, cells in enumerate(filled) if cells >= HEADER_SHARE * max(filled))


def rank(line: str, delimiter: str) -> tuple[int, int]:
    """The more, the likelier ``delimiter`` is the one of ``line``."""
    return len(_cells(line, delimiter)), line.count(delimiter)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
