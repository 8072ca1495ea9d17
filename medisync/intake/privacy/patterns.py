"""Finding any of very many short texts in a long one, in one pass.

Every text sought is known by its first six bytes. A table over a hash of six bytes says for each word's beginning
whether anything sought can begin there; only the few places that pass are compared. It is the idea of Rabin and Karp
(1987), with one table for all patterns, over whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from medisync.intake.privacy.folding import BREAK, LINE, SPACE

ANCHOR_BYTES = 6
SHORTEST_BYTES = 5
"""A shorter text says nothing: too many words are like it."""

_MASK = np.uint64((1 << 8 * ANCHOR_BYTES) - 1)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 22
_SHIFT = np.uint64(64 - _TABLE_BITS)
_PAD = b"\x01" * 8
APART = (bytes([SPACE]), bytes([BREAK]), bytes([LINE]))


class Patterns:
    """A set of folded texts to look for."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self._forms = {form for form in forms if len(form) >= SHORTEST_BYTES}
        lengths: dict[int, set[int]] = {}
        for form in self._forms:
            for anchor in _anchors(form):
                lengths.setdefault(anchor, set()).add(len(form))
        self._lengths = {anchor: tuple(found) for anchor, found in lengths.items()}
        self._anchors = np.array(sorted(lengths), dtype=np.uint64)
        self._maybe = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._maybe[_hashed(self._anchors)] = True

    def found(self, folded: bytes) -> set[bytes]:
        """Those that stand in ``folded`` as whole words."""
        if not len(self._anchors) or len(folded) < SHORTEST_BYTES:
            return set()
        text = folded + _PAD
        signs = np.frombuffer(text, dtype=np.uint8)
        windows: npt.NDArray[np.uint64] = np.ndarray((len(folded),), dtype="<u8", buffer=text, strides=(1,))
        before = signs[: len(folded) - 1]
        places = np.flatnonzero((before == SPACE) | (before == BREAK) | (before == LINE)) + 1
        anchors = windows[places] & _MASK
        passed = self._maybe[_hashed(anchors)]
        places, anchors = places[passed], anchors[passed]
        nearest = np.minimum(np.searchsorted(self._anchors, anchors), len(self._anchors) - 1)
        is_one = self._anchors[nearest] == anchors
        found: set[bytes] = set()
        for place, anchor in zip(places[is_one].tolist(), anchors[is_one].tolist(), strict=True):
            for length in self._lengths[anchor]:
                end = place + length
                if text[end : end + 1] in APART and (form := text[place:end]) in self._forms:
                    found.add(form)
        return found


def _anchors(form: bytes) -> list[int]:
    """The first six bytes as a number; of a text of five bytes, the sixth is the space or break behind it."""
    starts = [form] if len(form) >= ANCHOR_BYTES else [form + apart for apart in APART]
    return [int.from_bytes(start[:ANCHOR_BYTES], "little") for start in starts]


def _hashed(anchors: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return (anchors * _MIX) >> _SHIFT
