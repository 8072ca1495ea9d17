"""How much of the disk a workspace takes, and whether enough is left."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync.settings import Settings


@dataclass(frozen=True)
class DiskUse:
    """Bytes by part of the workspace, and what is free where the data lie."""

    parts: dict[str, int]
    free: int
    least_free: int

    @property
    def is_enough(self) -> bool:
        return self.free >= self.least_free

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_enough": self.is_enough}

    def sentence(self) -> str:
        """For people: the largest parts first, and a warning in words."""
        largest = sorted(((size, name) for name, size in self.parts.items() if size), reverse=True)
        parts = ", ".join(f"{name} {size / 1e6:,.0f} MB" for size, name in largest) or "nothing yet"
        warning = "" if self.is_enough else f"; less than the {self.least_free / 1e9:g} GB that should be"
        return f"{parts}; {self.free / 1e9:,.1f} GB free{warning}"


def disk_use(settings: Settings) -> DiskUse:
    """Look at every file of the workspace; what vanishes meanwhile is not counted."""
    is_inside = settings.lake_folder.is_relative_to(settings.lake)
    parts = {
        "lake": settings.lake,
        **({} if settings.has_object_storage or is_inside else {"lake files": settings.lake_folder}),
        "archive": settings.archive,
        "refused": settings.refused,
        "quarantine": settings.quarantine,
        "reports": settings.reports,
        "logs": settings.logs,
        "Prefect": settings.prefect_home,
        "notebook versions": settings.versions,
    }
    place = next(one for one in (settings.data, *settings.data.parents) if one.exists())
    sizes = {name: size_of(folder) for name, folder in parts.items()}
    return DiskUse(sizes, shutil.disk_usage(place).free, int(settings.disk_least_free_gb * 1e9))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed, and a file of several names, as the
    lake's tables may share one, counts once."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size
    except OSError:
        return 0
    total, shared = 0, set()
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if (found.st_dev, found.st_ino) not in shared:
                total += found.st_size
            if found.st_nlink > 1:
                shared.add((found.st_dev, found.st_ino))
    return total
