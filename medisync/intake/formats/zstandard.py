"""Files compressed with Zstandard (.zst), unpacked line by line by DuckDB, which can read them and Python cannot.

DuckDB takes a file that was cut short for a short one. So the frames are walked through first (RFC 8878, section 3.1):
each block's header tells its size, and 128 KB is the most that a block may become.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from medisync.intake.delimited import text, without_patterns
from medisync.intake.formats.tables import Room
from medisync.intake.parts import HARMLESS_BYTES, LARGEST_RATIO, LARGEST_UNPACKED_BYTES, Part
from medisync.intake.reading import refused
from medisync.intake.reasons import FileFault

if TYPE_CHECKING:
    import duckdb

MAGIC = b"\x28\xb5\x2f\xfd"
LARGEST_BLOCK_BYTES = 128 * 1024
LARGEST_LINE_BYTES = 16 * 1024**2
DICTIONARY_BYTES = (0, 1, 2, 4)
CONTENT_SIZE_BYTES = (0, 2, 4, 8)


def unpacked(part: Part, cursor: duckdb.DuckDBPyConnection, room: Room) -> Part:
    """``part`` as plain text in ``room``; raises DeliveryRefusedError when it is damaged, swells too much or is no
    UTF-8 text."""
    import duckdb

    with part.path.open("rb") as file:
        blocks, size = _blocks(file), part.path.stat().st_size
    most_bytes = blocks * LARGEST_BLOCK_BYTES
    if most_bytes > LARGEST_UNPACKED_BYTES or most_bytes > max(HARMLESS_BYTES, LARGEST_RATIO * size):
        raise refused(FileFault.UNSAFE_ARCHIVE, "It unpacks to far more than a table of its size would.")
    target = room.file(".unpacked")
    lines = f"header = false, delim = {text(chr(1))}, quote = '', escape = ''"  # no text holds it: a line is one value
    try:
        cursor.execute(
            f"COPY (FROM read_csv({text(without_patterns(part.path))}, compression = 'zstd', auto_detect = false, "
            f"columns = {{'line': 'VARCHAR'}}, max_line_size = {LARGEST_LINE_BYTES}, {lines})) "
            f"TO {text(str(target))} (FORMAT csv, {lines.replace(' =', '')})"
        )
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        raise refused(
            FileFault.DAMAGED,
            "Its compressed data are damaged, or no lines of UTF-8 text.",
            hint="Deliver it uncompressed or as .gz.",
        ) from None
    return replace(part, path=target)


def _blocks(file: IO[bytes]) -> int:
    """Blocks of all frames; raises DeliveryRefusedError unless the file ends where its last frame does."""
    end = os.fstat(file.fileno()).st_size
    blocks = 0
    while file.tell() < end:
        magic = _number(file, 4)
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
            file.seek(_number(file, 4), os.SEEK_CUR)
            continue
        if magic != int.from_bytes(MAGIC, "little"):
            raise _damaged()
        described = _number(file, 1)
        is_single = bool(described & 0x20)
        content_size = CONTENT_SIZE_BYTES[described >> 6] or int(is_single)
        file.seek((0 if is_single else 1) + DICTIONARY_BYTES[described & 3] + content_size, os.SEEK_CUR)
        is_last = False
        while not is_last:
            header = _number(file, 3)
            is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            file.seek(1 if kind == 1 else size, os.SEEK_CUR)
            blocks += 1
        file.seek(4 if described & 0x04 else 0, os.SEEK_CUR)  # a checksum
    if file.tell() != end:
        raise _damaged()
    return blocks


def _number(file: IO[bytes], size: int) -> int:
    found = file.read(size)
    if len(found) < size:
        raise _damaged()
    return int.from_bytes(found, "little")


def _damaged() -> Exception:
    return refused(FileFault.DAMAGED, "Its compressed data are damaged or cut short.")
