"""What a delivered file is: its bytes' hash, and for delimited text its compression, delimiter and header."""

from __future__ import annotations

import csv
import gzip
import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from medisync.errors import DeliveryRefusedError
from medisync.intake.reasons import FileFault

csv.field_size_limit(1 << 30)  # the standard library's limit of 131,072 characters holds for the whole process
HEADER_BYTES = 1 << 20
"""A header of so many bytes is no header."""

DELIMITERS = (",", ";", "\t", "|")
CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class DelimitedFile:
    """What was found out about a delimited text file before reading it."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    compression: str  # as DuckDB calls it
    lines_before_rows: int = 1  # the header and blank lines above it


def refused(
    reason: FileFault, message: str, *, column: str | None = None, hint: str | None = None
) -> DeliveryRefusedError:
    return DeliveryRefusedError(message, reason=reason.value, column=column, hint=hint)


def content_hash(path: Path) -> str:
    """SHA-256 of a regular file's bytes; raises DeliveryRefusedError for anything that cannot be read."""
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise refused(FileFault.NOT_A_FILE, "It is not a regular file.", hint="Deliver one file, or a .gz of one.")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        raise refused(FileFault.DISAPPEARED, "It disappeared before it was read.") from None
    except OSError as error:
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({error.strerror}).") from None
    return digest.hexdigest()


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed with gzip; raises OSError."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def open_stream(path: Path, is_compressed: bool) -> IO[bytes]:
    """The file's text as bytes, decompressed."""
    return cast(IO[bytes], gzip.open(path) if is_compressed else path.open("rb"))


def identifier(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
