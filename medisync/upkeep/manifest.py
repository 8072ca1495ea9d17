"""What a backup holds: every file with its size and SHA-256, written last, so that an interrupted one has none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medisync.errors import UserError

FORMAT = 1
NAME = "manifest.json"
SEAL = "manifest.sha256"
CHUNK = 1 << 20


class BackupDamagedError(UserError):
    """The backup is incomplete, or holds something else than was written."""

    code = "backup-damaged"
    exit_code = 86


@dataclass(frozen=True)
class Entry:
    """One file; ``sha256`` of its bytes."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One backup. ``snapshot`` is the lake's newest at that moment; ``parts`` says what was included."""

    made_at: str
    medisync_version: str
    snapshot: int
    parts: tuple[str, ...]
    files: dict[str, Entry] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
        (folder / SEAL).write_text(hashlib.sha256(text.encode()).hexdigest() + "\n", encoding="utf-8")
        draft = folder / f".{NAME}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / NAME)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup; raises BackupDamagedError."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
        seal = (folder / SEAL).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise BackupDamagedError(
            f"{folder} is no complete backup: it has no manifest.", hint="A backup that was interrupted has none."
        ) from None
    if hashlib.sha256(text.encode()).hexdigest() != seal:
        raise BackupDamagedError(f"The manifest of {folder} is not the one that was written.")
    values = json.loads(text)
    if values["format"] != FORMAT:
        raise BackupDamagedError(
            f"The backup has format {values['format']}; this MediSync knows {FORMAT}.", hint="Install a newer MediSync."
        )
    values["files"] = {name: Entry(**entry) for name, entry in values["files"].items()}
    return Manifest(**{**values, "parts": tuple(values["parts"])})


def check(folder: Path, manifest: Manifest) -> None:
    """Read every file again; raises BackupDamagedError naming the first that is missing or different."""
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise BackupDamagedError(f"{name} is missing from the backup.")
        if path.stat().st_size != entry.size or sha256_of(path) != entry.sha256:
            raise BackupDamagedError(f"{name} is not what was backed up.")


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
