"""Upkeep: keep the lake's files few and the folders small, and never touch what a kept run needs."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medisync.lake import Lake
from medisync.lake.lock import write_lock

CLEANUP_AFTER = "1 day"
"""Files no snapshot refers to are deleted only when older: an open transaction's files look just like them."""


@dataclass(frozen=True)
class CleanUpReport:
    """What clean-up did, or would do."""

    dry_run: bool
    reports_removed: int
    logs_removed: int
    snapshots_expired: int
    files_before: int
    files_after: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        verb = "Would remove" if self.dry_run else "Removed"
        return (
            f"{verb} {self.reports_removed} run folders, {self.logs_removed} logs and {self.snapshots_expired} "
            f"snapshots no kept run is pinned to; the lake has {self.files_after} data files (before: "
            f"{self.files_before})."
        )


def clean_up(lake: Lake, *, dry_run: bool = False) -> CleanUpReport:
    """Remove old run folders and logs, expire snapshots, flush, merge and clean the lake's files."""
    settings = lake.settings
    oldest = dt.datetime.now(dt.UTC) - dt.timedelta(days=settings.keep_runs_days)
    old_runs = _older([*(settings.reports / "runs").glob("*")], oldest)
    served = {
        row["run_id"]
        for row in lake.query(
            "SELECT max(run_id) AS run_id FROM analytics.runs WHERE status = 'completed' "
            "GROUP BY analysis, parameters_hash"
        )
    }
    old_runs = [folder for folder in old_runs if folder.name not in served]
    old_logs = _older([*settings.logs.glob("*.log.*")], oldest)
    removed = {folder.name for folder in old_runs}
    expired = _unpinned_snapshots(lake, oldest, removed)
    before = _data_files(lake)
    if not dry_run:
        for folder in old_runs:
            shutil.rmtree(folder, ignore_errors=True)
        for log in old_logs:
            log.unlink(missing_ok=True)
        _tidy_lake(lake, expired)
    return CleanUpReport(dry_run, len(old_runs), len(old_logs), len(expired), before, _data_files(lake))


def _older(paths: list[Path], oldest: dt.datetime) -> list[Path]:
    return [path for path in paths if path.lstat().st_mtime < oldest.timestamp()]


def _unpinned_snapshots(lake: Lake, oldest: dt.datetime, removed_runs: set[str]) -> list[int]:
    """Snapshots from before ``oldest`` that are neither the newest nor read by a kept run."""
    rows = lake.query(
        "SELECT snapshot_id FROM lake.snapshots() WHERE snapshot_time < ?::TIMESTAMPTZ "
        "AND snapshot_id <> (SELECT max(snapshot_id) FROM lake.snapshots()) "
        "AND snapshot_id NOT IN (SELECT snapshot_id FROM analytics.runs WHERE NOT list_contains(?::VARCHAR[], run_id)) "
        "ORDER BY snapshot_id",
        [oldest, sorted(removed_runs)],
    )
    return [int(row["snapshot_id"]) for row in rows]


def _tidy_lake(lake: Lake, expired: list[int]) -> None:
    cursor = lake.cursor()
    with write_lock(lake.lock_file, seconds=lake.settings.lock_seconds):
        cursor.execute("CALL ducklake_flush_inlined_data('lake')")
        if expired:
            cursor.execute("CALL ducklake_expire_snapshots('lake', versions => ?)", [expired])
        cursor.execute("CALL ducklake_merge_adjacent_files('lake')")
        cursor.execute(f"CALL ducklake_cleanup_old_files('lake', older_than => now() - INTERVAL '{CLEANUP_AFTER}')")
    cursor.close()


def _data_files(lake: Lake) -> int:
    return sum(1 for _ in lake.files.rglob("*.parquet"))
