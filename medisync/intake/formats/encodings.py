"""Which encoding a text is in, and the text as UTF-8. What cannot be told for certain is said to be a guess.

UTF-8 and UTF-16 prove themselves. Text that is not UTF-8 and whose bytes above 127 read as letters of Western European
languages is taken for Windows-1252, of which Latin-1 is a part as far as text goes.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import IO

from medisync.intake.reading import CHUNK_BYTES, open_stream, refused
from medisync.intake.reasons import FileFault

UTF8 = "utf-8"
WINDOWS = "windows-1252"
UNDEFINED_IN_WINDOWS = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
IN_A_WORD = re.compile(rb"[a-z][\x80-\x9b\x9d\x9f\xa1-\xbf\xc0-\xd6\xd8-\xde][a-z]")
"""Capitals and signs of Windows-1252 between small letters: it is another encoding, such as that of old Macintoshes."""

PLAUSIBLE_SHARE = 0.9
"""Of the bytes above 127, so many are letters or usual signs in a text of that encoding."""

USUAL_SIGNS = frozenset("€‚„…‘’“”–—°§ª«»·¡¿®©™´¨  º¹²³½¼¾µ±×÷£¢¥")


def encoding_of(start: bytes) -> str:
    """The encoding of a text that begins with ``start``, as Python calls it; UTF-8 when nothing else is likely."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) >= 4:
        half = len(start) // 2
        if start[1::2].count(0) > 0.7 * half and start[::2].count(0) < 0.1 * half:
            return "utf-16-le"
        if start[::2].count(0) > 0.7 * half and start[1::2].count(0) < 0.1 * half:
            return "utf-16-be"
    return WINDOWS if _looks_like_windows(start) else UTF8


def _looks_like_windows(text: bytes) -> bool:
    runs = HIGH_BYTES.findall(text)
    if runs and len(text) and text.endswith(runs[-1]):
        runs.pop()  # it may be cut
    if not runs or UNDEFINED_IN_WINDOWS.search(b"".join(runs)):
        return False
    damaged = [run for run in runs if not _is_utf8(run)]
    if not damaged or len(damaged) < len(runs):
        return False  # UTF-8, or UTF-8 with some damage: the damaged rows are set aside one by one
    if len(IN_A_WORD.findall(text)) > (1 - PLAUSIBLE_SHARE) * len(damaged):
        return False
    signs = b"".join(damaged).decode("cp1252")
    return sum(sign.isalpha() or sign in USUAL_SIGNS for sign in signs) >= PLAUSIBLE_SHARE * len(signs)


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def write_as_utf8(path: Path, compression: str, encoding: str, target: Path) -> None:
    """Write the text at ``path`` to ``target`` as UTF-8 with one kind of line ends; raises DeliveryRefusedError."""
    # Windows-1252 has five undefined bytes; in UTF-8, damage is left as it is for the check of rows.
    errors = "surrogateescape" if encoding == UTF8 else "strict" if encoding.startswith("utf-16") else "replace"
    decoder = codecs.getincrementaldecoder("cp1252" if encoding == WINDOWS else encoding)(errors)
    lines = _LineEnds()
    try:
        with open_stream(path, compression == "gzip") as source, target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                _write(file, lines.of(decoder.decode(chunk)))
            _write(file, lines.of(decoder.decode(b"", final=True), final=True))
    except UnicodeDecodeError:
        raise refused(
            FileFault.NOT_UTF8, f"It begins as {encoding} text and does not go on as such.", hint="Save it as UTF-8."
        ) from None


def _write(file: IO[bytes], text: str) -> None:
    file.write(text.removeprefix("\ufeff").encode("utf-8", errors="surrogateescape"))


class _LineEnds:
    """Every line end as one line feed, also where CR and LF come in two chunks."""

    def __init__(self) -> None:
        self._has_return = False

    def of(self, text: str, *, final: bool = False) -> str:
        if self._has_return:
            text = "\r" + text
        self._has_return = text.endswith("\r") and not final
        if self._has_return:
            text = text[:-1]
        return text.replace("\r\n", "\n").replace("\r", "\n")
