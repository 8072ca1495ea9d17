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
import stat
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from medisync.backend.choice import backend_of
from medisync.errors import LockBusyError
from medisync.intake.inbox_notices import InboxNotices, Notice
from medisync.intake.reading import refused
from medisync.intake.reasons import FileFault
from medisync.settings import Settings

DEFAULT_SOURCE = "default"
SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
TEMPORARY_ENDINGS = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", ".swp", ".swx", ".lock", "~")
"""What copying programs and editors call a file that is not ready."""

ABANDONED_SECONDS = 60.0
"""A delivery's folder without a file, that nobody works on, is a crash's litter after this time."""

MOST_WATCHED = 2_000
"""Files of one folder that are watched; more are no delivery."""

CLOSED_SHARE = 0.25
"""Of the settle time, for a file whose writer has closed it."""

LONGEST_NAME_BYTES = 255
NOTE_ENDING = ".reason.txt"


def new_delivery_id() -> str:
    """An id that sorts by time, also within a second, such as ``d20240507T101500-1f3a9c07``."""
    now = dt.datetime.now(dt.UTC)
    return f"d{now:%Y%m%dT%H%M%S}-{now.microsecond * 0x10000 // 1_000_000:04x}{secrets.token_hex(2)}"


def arrived_at(path: Path) -> int:
    """When ``path`` came to lie where it is or was last written, in nanoseconds; 0 when it is gone."""
    try:
        return path.lstat().st_ctime_ns
    except OSError:
        return 0


def is_temporary(name: str) -> bool:
    """Whether ``name`` is that of a hidden file, an editor's copy or an unfinished download."""
    return name.startswith((".", "~", "#")) or is_unfinished(name)


def is_unfinished(name: str) -> bool:
    """Whether ``name`` is that of a file somebody still writes, so that the folder it is in is not complete."""
    return name.casefold().endswith(TEMPORARY_ENDINGS)


def waiting(settings: Settings) -> Iterator[tuple[str, Path]]:
    """What lies in the inbox as (source, path): files in it, and everything in its folders, each a source.

    A folder in a source's folder is one delivery of several files.
    """
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
    open for writing by nobody. A folder is complete when all of its files are.

    What ``notices`` say was moved in need not rest, and what they say was closed rests for a part of that time, since
    some programs close a file and open it again."""

    def __init__(self, settle_seconds: float, notices: InboxNotices | None = None) -> None:
        self._settle_seconds = settle_seconds
        self._notices = notices
        self._seen: dict[Path, tuple[Hashable, float]] = {}

    def is_complete(self, path: Path) -> bool:
        """Ask again and again, a little later each time."""
        files = [path]
        try:
            if stat.S_ISDIR(path.lstat().st_mode):
                files = _files_below(path)
            mark = tuple((one, *_mark(one)) for one in files)
        except FileNotFoundError:
            self._seen.pop(path, None)
            return False
        if not files or any(is_unfinished(one.name) for one in files):
            return False
        notice = self._notices.of(path) if self._notices is not None else None
        seen = self._seen.get(path)
        now = time.monotonic()
        if seen is None or seen[0] != mark:
            seen = self._seen[path] = (mark, now)
            if notice is not Notice.MOVED_IN:
                return False
        if now - seen[1] < self._rest_seconds(notice) or any(_is_being_written(one) for one in files):
            return False
        del self._seen[path]
        return True

    def _rest_seconds(self, notice: Notice | None) -> float:
        if notice is Notice.MOVED_IN:
            return 0.0
        return self._settle_seconds * (CLOSED_SHARE if notice is Notice.CLOSED else 1.0)

    def forget_missing(self, present: set[Path]) -> None:
        for path in self._seen.keys() - present:
            del self._seen[path]
        if self._notices is not None:
            self._notices.forget_missing(present)


def _files_below(folder: Path) -> list[Path]:
    """The files in ``folder`` and its folders; of a folder full of them the first ones."""
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders.sort()
        found.extend(Path(root) / name for name in sorted(files))
        if len(found) > MOST_WATCHED:
            break
    return found


def _mark(path: Path) -> tuple[int, int, int]:
    """What changes while ``path`` is written."""
    status = path.lstat()
    return status.st_size, status.st_mtime_ns, status.st_ino


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


def reserve(settings: Settings, source: str) -> str:
    """Make the folder of a new delivery, still without its file; returns the delivery's id."""
    delivery_id = new_delivery_id()
    folder = settings.processing / delivery_id
    folder.mkdir(mode=0o700)
    (folder / "source").write_text(source, encoding="utf-8")
    (folder / "file").mkdir()
    return delivery_id


def claim(settings: Settings, path: Path, source: str) -> str | None:
    """Take ``path`` out of the inbox; None when another watcher was quicker. The claim survives a crash."""
    delivery_id = reserve(settings, source)
    folder = settings.processing / delivery_id
    try:
        path.rename(folder / "file" / _readable_name(path.name))
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.lexists(path):
            raise
        return None
    return delivery_id


def copy_in(settings: Settings, delivery_id: str, path: Path) -> None:
    """Copy the file or folder ``path``, which stays where it is, into the delivery's folder: all of it, or nothing.

    Raises DeliveryRefusedError when it cannot be read; the folder is gone then.
    """
    folder = settings.processing / delivery_id
    draft = folder / "draft"  # until it is complete nobody takes it for the delivered file
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            shutil.copytree(path, draft, symlinks=True, ignore=_refuse_special)
        elif stat.S_ISREG(mode):
            shutil.copyfile(path, draft)
            draft.chmod(0o600)
        else:
            raise refused(
                FileFault.NOT_A_FILE, "It is a device, pipe or socket.", hint="Name a file, a folder or a .zip."
            )
        draft.rename(folder / "file" / _readable_name(path.name))
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
        raise refused(FileFault.DISAPPEARED, "There is no such file.") from None
    except OSError as error:  # shutil.Error, with the reasons of many files, has no reason of its own
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.strerror or "one of its files"
        raise refused(FileFault.UNREADABLE, f"It cannot be read ({reason}).") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_special(folder: str, names: list[str]) -> list[str]:
    """For ``copytree``, which would wait for a pipe for ever; links are copied as links, and refused later."""
    for name in names:
        mode = (Path(folder) / name).lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise refused(FileFault.NOT_A_FILE, "It holds a device, pipe or socket.")
    return []


def remove_abandoned(settings: Settings, delivery_id: str) -> bool:
    """Remove the folder of a delivery that never got its file, since whoever made it died."""
    folder = settings.processing / delivery_id
    try:
        is_old = time.time() - folder.stat().st_mtime > ABANDONED_SECONDS
    except FileNotFoundError:
        return False
    if not is_old:
        return False
    with sole_worker(settings, delivery_id) as is_sole:
        if is_sole and claimed_file(settings, delivery_id) is None:
            shutil.rmtree(folder, ignore_errors=True)
            return True
    return False


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
def sole_worker(settings: Settings, delivery_id: str, *, patience_seconds: float = 0.0) -> Iterator[bool]:
    """Yields whether this process alone works on the delivery; the mark vanishes with the process.

    Who only asks holds the mark for a moment, so who means to work waits ``patience_seconds`` for it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(
                backend_of(settings).lock(_mark_of_work(settings, delivery_id), seconds=patience_seconds)
            )
        except FileNotFoundError:
            pass  # it is finished already; whoever comes finds its record
        except LockBusyError:
            yield False
            return
        yield True


@contextmanager
def sole_workers(settings: Settings, delivery_ids: Sequence[str]) -> Iterator[list[str]]:
    """Yields those of the deliveries that this process alone works on, in their order, nobody else being at them."""
    marks = {_mark_of_work(settings, delivery_id): delivery_id for delivery_id in delivery_ids}
    with backend_of(settings).locks(list(marks)) as held:
        yield [delivery_id for mark, delivery_id in marks.items() if mark in held]


def _mark_of_work(settings: Settings, delivery_id: str) -> str:
    return f"{settings.processing.name}/{delivery_id}"


def put_away(settings: Settings, delivery_id: str, *, refused_because: str | None = None) -> None:
    """Move a claimed file to the archive, or to ``refused/`` with the reason as text beside it. Safe to repeat."""
    found = claimed_file(settings, delivery_id)
    if found is not None:
        source, path = found
        folder = settings.archive / source if refused_because is None else settings.refused
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = folder / _kept_name(delivery_id, path.name)
        if refused_because is not None:
            note = target.with_name(target.name + NOTE_ENDING)
            note.write_text(f"{path.name} {refused_because}\n", encoding="utf-8")
            note.chmod(0o600)
        if stat.S_ISREG(path.lstat().st_mode):
            with suppress(PermissionError):  # another user's file; its folder is for the owner alone
                path.chmod(0o600)
        shutil.move(path, target)  # the archive may be another disk
    shutil.rmtree(settings.processing / delivery_id, ignore_errors=True)


def _readable_name(name: str) -> str:
    """``name`` with a question mark for each byte that is no UTF-8 text: DuckDB opens no such file."""
    return name.encode("utf-8", errors="replace").decode()


def _kept_name(delivery_id: str, name: str) -> str:
    """The name of a file that is put away; of one too long for the file system the end is kept."""
    room = LONGEST_NAME_BYTES - len(delivery_id) - len("-") - len(NOTE_ENDING)
    return f"{delivery_id}-{name.encode()[-room:].decode(errors='ignore')}"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
