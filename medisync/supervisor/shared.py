"""That the folders every machine must see are the same folders on every machine.

The server leaves a mark in them that nobody can make who does not have the workspace's secret; a worker looks for it
and never makes one. So a mount that is missing is noticed before a report goes into an empty folder below it.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from medisync.access import prefect_auth
from medisync.settings import Settings

MARK = ".workspace"


def folders(settings: Settings) -> list[Path]:
    """The folders in question; none where everything is on one machine."""
    return [settings.shared_folder, settings.reports] if settings.shared else []


def mark(settings: Settings) -> None:
    """Leave the mark of this workspace."""
    for folder in folders(settings):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / MARK).write_text(_told(settings), encoding="utf-8")


def missing(settings: Settings) -> list[Path]:
    """The folders that do not have the mark."""
    return [folder for folder in folders(settings) if _read(folder / MARK) != _told(settings)]


def _told(settings: Settings) -> str:
    return hmac.new(prefect_auth.auth_string(settings).encode(), b"shared folder", hashlib.sha256).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
