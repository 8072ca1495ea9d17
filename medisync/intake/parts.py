"""Parts: the files a delivery consists of. A delivery is one file, a folder, or a .zip of files.

An archive is unpacked into the delivery's own folder under numbers, never under the names it gives, and only as far as
it is harmless: nothing that climbs out, links, nests, hides behind a password or swells beyond all measure.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from medisync.errors import DeliveryRefusedError
from medisync.intake import labels
from medisync.intake.arrival import is_temporary
from medisync.intake.delimited import COMPRESSED_TO
from medisync.intake.reading import CHUNK_BYTES, content_hash, refused
from medisync.intake.reasons import FileFault

MOST_PARTS = 2_000
LARGEST_UNPACKED_BYTES = 20 * 1024**3
"""Of all files of an archive together."""

LARGEST_RATIO = 250
"""Tables shrink to a tenth, seldom to a hundredth; an archive that swells more than this is made to do harm."""

HARMLESS_BYTES = 32 * 1024**2
"""Archives that unpack to less are not measured by their ratio."""

ALL_CORES_BYTES = 32 * 1024**2
"""Of less one thread makes an end as soon as two, in two thirds of their CPU time."""

COMPRESSED = frozenset({".gz", ".zst", ".zip", ".parquet", ".xlsx", ".xlsb", ".ods"})

ZIP_MAGIC = b"PK\x03\x04"
EMPTY_ZIP_MAGIC = b"PK\x05\x06"
ARCHIVE_MAGICS = (ZIP_MAGIC, EMPTY_ZIP_MAGIC, b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\xfd7zXZ\x00", b"BZh")
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
OFFICE_MEMBERS = frozenset({"[Content_Types].xml", "mimetype"})
"""What the .zip that is a workbook (.xlsx, .xlsb, .ods) holds."""

ENCRYPTED_FLAG = 0x1
LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
"""What file managers leave in folders and archives."""


@dataclass(frozen=True)
class Part:
    """One file of a delivery. ``label`` may be shown: it is the name only when that is harmless, and unique."""

    name: str
    label: str
    path: Path


def parts_of(delivered: Path, room: Path) -> list[Part]:
    """The files of ``delivered`` in order of their names; an archive is unpacked into the new folder ``room``.

    Raises DeliveryRefusedError for what is no file, folder or harmless archive.
    """
    try:
        mode = delivered.lstat().st_mode
        if stat.S_ISDIR(mode):
            return _labelled(_files_of(delivered))
        if stat.S_ISREG(mode) and is_archive(delivered):
            return _labelled(_unpack(delivered, room))
    except FileNotFoundError:
        raise refused(FileFault.DISAPPEARED, "It disappeared before it was read.") from None
    except OSError as error:
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({error.strerror}).") from None
    return [Part(delivered.name, "", delivered)]


def hash_of(delivered: Path, parts: list[Part]) -> str:
    """SHA-256 of a file's bytes; of a set, of its files' names and bytes, so a folder equals its .zip."""
    if len(parts) == 1 and parts[0].path == delivered:
        return content_hash(delivered)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.name}\0{content_hash(part.path)}\n".encode())
    return digest.hexdigest()


@contextmanager
def hashing(delivered: Path, parts: list[Part]) -> Iterator[Callable[[], str]]:
    """Compute ``hash_of`` in a thread beside what the block does; what is given waits for it, and raises what it
    raises. Reading a large file takes DuckDB's threads longer than its hash takes one."""
    with ThreadPoolExecutor(1, thread_name_prefix="content-hash") as beside:
        yield beside.submit(hash_of, delivered, parts).result


def size_of(parts: list[Part]) -> int:
    """Bytes of all parts; those that are gone are found out when they are read."""
    with suppress(OSError):
        return sum(part.path.stat().st_size for part in parts)
    return 0


def is_worth_all_cores(delivered: Path) -> bool:
    """Whether a claimed file or folder holds so much that reading it with every core is quicker than with one."""
    with suppress(OSError):  # what is gone is found out when it is read
        files = delivered.rglob("*") if delivered.is_dir() else (delivered,)
        return sum(one.stat().st_size * _grows(one) for one in files) >= ALL_CORES_BYTES
    return False


def _grows(path: Path) -> int:
    return COMPRESSED_TO if path.suffix.casefold() in COMPRESSED else 1


def is_archive(path: Path) -> bool:
    """Whether ``path`` is a .zip that is no workbook. Raises OSError."""
    with path.open("rb") as file:
        if file.read(4) not in (ZIP_MAGIC, EMPTY_ZIP_MAGIC):
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return not OFFICE_MEMBERS & set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return path.suffix.casefold() not in {".xlsx", ".xlsm", ".xlsb", ".ods"}


def _files_of(folder: Path) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not _is_litter(one))
        for name in (*folders, *files):
            path = Path(root) / name
            if path.is_symlink():
                raise refused(
                    FileFault.NOT_A_FILE, "It holds a link.", hint="Put the files themselves into the folder."
                )
        for name in files:
            if _is_litter(name):
                continue
            path = Path(root) / name
            if not stat.S_ISREG(path.lstat().st_mode):
                raise refused(FileFault.NOT_A_FILE, "It holds a pipe, device or socket.")
            found.append((path.relative_to(folder).as_posix(), path))
            _check_number(len(found))
    _refuse_archives(found)
    return found


def _unpack(path: Path, room: Path) -> list[tuple[str, Path]]:
    room.mkdir(mode=0o700, exist_ok=True)
    allowed = _Allowance(path.stat().st_size)
    found: list[tuple[str, Path]] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in _members(archive):
                target = room / f"{len(found) + 1:05d}"
                with archive.open(member) as packed, target.open("wb") as file:
                    _copy(packed, file, allowed)
                found.append((member.filename, target))
    except DeliveryRefusedError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, NotImplementedError, RuntimeError):
        raise refused(FileFault.DAMAGED, "The archive is damaged, cut short or packed in an unusual way.") from None
    _refuse_archives(found)
    return found


def _members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The files of ``archive`` that count; raises DeliveryRefusedError when one of them is not harmless."""
    names = set()
    for number, member in enumerate(archive.infolist(), start=1):
        _check_number(number)
        name = PurePosixPath(member.filename)
        if (
            "\0" in member.orig_filename
            or "\\" in member.orig_filename
            or name.is_absolute()
            or ".." in name.parts
            or (name.parts and ":" in name.parts[0])
        ):
            raise refused(FileFault.UNSAFE_ARCHIVE, "The archive holds a name that leads out of it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise refused(FileFault.UNSAFE_ARCHIVE, "The archive holds a link.", hint="Pack the files themselves.")
        if member.flag_bits & ENCRYPTED_FLAG:
            raise refused(FileFault.ENCRYPTED, "The archive is locked with a password.", hint="Pack it without one.")
        if member.is_dir() or any(_is_litter(one) for one in name.parts):
            continue
        if member.filename in names:
            raise refused(FileFault.UNSAFE_ARCHIVE, "The archive holds two files of one name.")
        names.add(member.filename)
        yield member


class _Allowance:
    """How much an archive may still unpack to; what its headers promise is not believed."""

    def __init__(self, packed_bytes: int) -> None:
        self._limit = min(LARGEST_UNPACKED_BYTES, max(HARMLESS_BYTES, packed_bytes * LARGEST_RATIO))
        self._used = 0

    def take(self, number: int) -> None:
        self._used += number
        if self._used > self._limit:
            raise refused(
                FileFault.TOO_LARGE,
                f"The archive unpacks to more than {self._limit // 1024**2:,} MB, which its size does not explain.",
                hint="Deliver the files unpacked, or in several archives.",
            )


def _copy(packed: IO[bytes], file: IO[bytes], allowed: _Allowance) -> None:
    while chunk := packed.read(CHUNK_BYTES):
        allowed.take(len(chunk))
        file.write(chunk)


def _refuse_archives(files: list[tuple[str, Path]]) -> None:
    for _, path in files:
        with path.open("rb") as file:
            start = file.read(TAR_MAGIC_AT + len(TAR_MAGIC))
        is_packed = start.startswith(ARCHIVE_MAGICS) and not (start.startswith(ZIP_MAGIC) and not is_archive(path))
        if is_packed or start[TAR_MAGIC_AT:] == TAR_MAGIC:
            raise refused(
                FileFault.UNSAFE_ARCHIVE, "It holds an archive of its own.", hint="Put the inner files in directly."
            )


def _check_number(number: int) -> None:
    if number > MOST_PARTS:
        raise refused(FileFault.TOO_LARGE, f"It holds more than {MOST_PARTS:,} files.", hint="Deliver it in several.")


def _is_litter(name: str) -> bool:
    return name in LITTER or is_temporary(name)


def _labelled(files: list[tuple[str, Path]]) -> list[Part]:
    if not files:
        raise refused(FileFault.EMPTY_FILE, "It holds no file.")
    often = Counter(PurePosixPath(name).name for name, _ in files)
    parts = []
    for number, (name, path) in enumerate(sorted(files), start=1):
        label = labels.label(PurePosixPath(name).name, None)
        is_unique = often[PurePosixPath(name).name] == 1
        if label != PurePosixPath(name).name or not is_unique:
            label = f"file {number} {label}"
        parts.append(Part(name, label, path))
    return parts
