"""Files that arrive: which count, when they are complete, and how exactly one process claims each.

A claim is a rename out of the inbox: of two watchers one gets the file, the other finds it gone. A claimed file lies
in ``data/processing/<delivery id>/`` until it is archived or refused, so a crash at any point leaves it in one of
these places and the next start goes on from there.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medisync.intake.reading import refused
from medisync.intake.reasons import FileFault
from medisync.settings import Settings

DEFAULT_SOURCE = "default"
SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
TEMPORARY_ENDINGS = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", ".swp", ".swx", ".lock", "~")
"""What copying programs and editors call a file that is not ready."""


def new_delivery_id() -> str:
    """An id that sorts by time, such as ``d20240507T101500-1f3a9c``."""
    return f"d{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def is_temporary(name: str) -> bool:
    """Whether ``name`` is that of a hidden file, an editor's copy or an unfinished download."""
    return name.startswith((".", "~", "#")) or name.casefold().endswith(TEMPORARY_ENDINGS)


def waiting(settings: Settings) -> Iterator[tuple[str, Path]]:
    """What lies in the inbox as (source, path): files in it, and everything in its folders, each a source."""
    for entry in _entries(settings.inbox):
        if is_temporary(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            for inner in _entries(Path(entry.path)):
                if not is_temporary(inner.name):
                    yield source_name(entry.name), Path(inner.path)
        else:
            yield DEFAULT_SOURCE, Path(entry.path)


def source_name(folder: str) -> str:
    """A folder's name as a source: lower case letters, digits, ``-`` and ``_``."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.casefold()).strip("-_")[:63]
    return name if SOURCE_NAME.fullmatch(name) else DEFAULT_SOURCE


class Completeness:
    """Tells complete files from half-copied ones: unchanged for ``settle_seconds`` and, where the system can tell,
    open for writing by nobody."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._seen: dict[Path, tuple[tuple[int, int, int], float]] = {}

    def is_complete(self, path: Path) -> bool:
        """Ask again and again, a little later each time."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            self._seen.pop(path, None)
            return False
        mark = (status.st_size, status.st_mtime_ns, status.st_ino)
        seen = self._seen.get(path)
        now = time.monotonic()
        if seen is None or seen[0] != mark:
            self._seen[path] = (mark, now)
            return False
        if now - seen[1] < self._settle_seconds or _is_being_written(path):
            return False
        del self._seen[path]
        return True

    def forget_missing(self, present: set[Path]) -> None:
        for path in self._seen.keys() - present:
            del self._seen[path]


def _is_being_written(path: Path) -> bool:
    """Whether some process of this machine has ``path`` open for writing; False where the system does not tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # refused while a writer has it open
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # not ours, or a file system without leases
        return False
    finally:
        os.close(descriptor)
    return False


def claim(settings: Settings, path: Path, source: str) -> str | None:
    """Take ``path`` out of the inbox; None when another watcher was quicker. The claim survives a crash."""
    delivery_id = new_delivery_id()
    folder = settings.processing / delivery_id
    folder.mkdir(mode=0o700)
    (folder / "source").write_text(source, encoding="utf-8")
    (folder / "file").mkdir()
    try:
        path.rename(folder / "file" / path.name)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        if path.exists():
            raise
        return None
    return delivery_id


def copy_in(settings: Settings, path: Path, source: str) -> str:
    """Claim a copy of ``path``, which stays where it is. Raises DeliveryRefusedError when it cannot be read."""
    settings.make_folders()
    delivery_id = new_delivery_id()
    folder = settings.processing / delivery_id
    folder.mkdir(mode=0o700)
    try:
        if path.is_dir():
            raise refused(FileFault.NOT_A_FILE, "It is a directory.", hint="Name one file.")
        (folder / "source").write_text(source, encoding="utf-8")
        (folder / "file").mkdir()
        shutil.copyfile(path, folder / "file" / path.name)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
        raise refused(FileFault.DISAPPEARED, "There is no such file.") from None
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({error.strerror}).") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return delivery_id


def claimed_file(settings: Settings, delivery_id: str) -> tuple[str, Path] | None:
    """(source, path) of a claimed file; None when it was archived or refused already."""
    folder = settings.processing / delivery_id
    with suppress(OSError, StopIteration):
        return (folder / "source").read_text(encoding="utf-8"), next((folder / "file").iterdir())
    return None


def claimed(settings: Settings) -> list[str]:
    """Ids of the deliveries that lie in processing, oldest first."""
    return sorted(entry.name for entry in _entries(settings.processing) if entry.is_dir(follow_symlinks=False))


@contextmanager
def sole_worker(settings: Settings, delivery_id: str) -> Iterator[bool]:
    """Yields whether this process alone works on the delivery; the mark vanishes with the process."""
    folder = settings.processing / delivery_id
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # it is finished already; whoever comes finds its record
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def put_away(settings: Settings, delivery_id: str, *, refused_because: str | None = None) -> None:
    """Move a claimed file to the archive, or to ``refused/`` with the reason as text beside it. Safe to repeat."""
    found = claimed_file(settings, delivery_id)
    if found is not None:
        source, path = found
        if refused_because is None:
            target = settings.archive / source / f"{delivery_id}-{path.name}"
        else:
            target = settings.refused / f"{delivery_id}-{path.name}"
            note = target.with_name(target.name + ".reason.txt")
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(f"{path.name} {refused_because}\n", encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    shutil.rmtree(settings.processing / delivery_id, ignore_errors=True)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
