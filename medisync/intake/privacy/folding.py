"""Text in the one form in which identifiers are compared.

Case and accents are gone, words are apart by one space, and whatever cannot stand inside a name (a quote, a bracket, a
comma without a space, a control character) is one break; a line's end is another one. A full stop between digits stays,
so that a piece of a decimal number is not taken for an identity number.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import numpy.typing as npt

SPACE, BREAK, LINE, STOP = 32, 1, 2, 46
_MARKS = re.compile("[\u0300-\u036f]+")
_SIGNS = re.compile("[\u0080-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u2000-\u206f\u20a0-\u2bff\u3000-\u303f]+")
_NOT_DECOMPOSED = dict(zip("øØłŁđĐæÆœŒı", ("o", "o", "l", "l", "d", "d", "ae", "ae", "oe", "oe", "i"), strict=True))
_HAS_NOT_DECOMPOSED = re.compile("[øØłŁđĐæÆœŒı]")

Bytes = npt.NDArray[np.uint8]


def _tables() -> tuple[Bytes, Bytes]:
    """For each byte what it becomes, and what it is: of a word (0), a separator (1), a break (2), a line's end (3)."""
    becomes = np.arange(256, dtype=np.uint8)
    kind = np.full(256, 2, dtype=np.uint8)
    for byte in range(256):
        sign = chr(byte).lower()
        if byte >= 128 or sign.isalnum():
            kind[byte] = 0
            becomes[byte] = byte if byte >= 128 else ord(sign)
    kind[ord("\n")] = kind[ord("\r")] = 3
    for sign in " .-_'`’+/&*~":
        if ord(sign) < 128:
            kind[ord(sign)] = 1
    return becomes, kind


_BECOMES, _KIND = _tables()
_DIGITS = np.isin(np.arange(256), np.frombuffer(b"0123456789", dtype=np.uint8))


_APART = np.array([0, SPACE, BREAK, LINE], dtype=np.uint8)


def fold(text: str) -> bytes:
    """``text`` folded, with a line's end before and behind it."""
    if not text.isascii():
        text = _SIGNS.sub(" ", _MARKS.sub("", unicodedata.normalize("NFKD", text)))
        text = _HAS_NOT_DECOMPOSED.sub(lambda letter: _NOT_DECOMPOSED[letter.group()], text)
        text = text.replace("\ufffd", "\n").casefold()
    raw = np.frombuffer(f"\n{text}\n".encode("utf-8", "replace"), dtype=np.uint8)
    kind, folded = _KIND[raw], _BECOMES[raw]
    after = np.append(raw[1:], np.uint8(0))
    kind[(raw == 44) & (after == SPACE)] = 1  # "Surname, First"
    is_digit = _DIGITS[raw]
    between = (raw == STOP) & np.append(is_digit[1:], False) & np.insert(is_digit[:-1], 0, False)
    kind[between] = 0
    is_apart = kind > 0
    starts = np.flatnonzero(is_apart & ~np.insert(is_apart[:-1], 0, False))
    folded[starts] = _APART[np.maximum.reduceat(kind, starts)]
    keep = ~is_apart
    keep[starts] = True
    return folded[keep].tobytes()


_AS_SPACES = {BREAK: " ", LINE: " "}
_ASCII_WORDS = re.compile(r"[a-z0-9]+(?:(?<=\d)\.(?=\d)[a-z0-9]+)*")


def words(text: str) -> list[str]:
    """The folded words of a value."""
    if text.isascii():  # the same, and quicker for a short text
        return _ASCII_WORDS.findall(text.lower())
    return fold(text).decode("utf-8", "replace").translate(_AS_SPACES).split()
