"""Upkeep: keep the lake's files few and the folders small, and never touch what a kept run needs.

A run is kept while its folder is young or its result is served; of all others the folder goes, and the snapshots only
they were pinned to, and the notebook versions only they ran. Records and results are never removed.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync.lake import Lake
from medisync.runs import versions
from medisync.runs.record import RunStatus
from medisync.runs.releasing import release_missing
from medisync.runs.rounds import one_round
from medisync.settings import Settings
from medisync.upkeep.disk import disk_use, size_of
from medisync.upkeep.leftovers import leftovers
from medisync.upkeep.prefect_history import remove_old_flow_runs

if TYPE_CHECKING:
    import duckdb

CLEANUP_AFTER = "1 day"
"""Files no snapshot refers to are deleted only when older: an open transaction's files look just like them."""


@dataclass(frozen=True)
class CleanUpReport:
    """What clean-up did, or would do. ``flow_runs_removed`` is None while Prefect is away; bytes are those of files
    removed, not counting the lake's, whose sizes before and after are told."""

    dry_run: bool
    reports_removed: int
    logs_removed: int
    raw_files_removed: int
    versions_removed: int
    leftovers_removed: int
    flow_runs_removed: int | None
    snapshots_expired: int
    released_made_up: int
    files_before: int
    files_after: int
    bytes_freed: int
    disk: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        verb = "Would remove" if self.dry_run else "Removed"
        flow_runs = "" if self.flow_runs_removed is None else f", {self.flow_runs_removed} flow runs"
        return (
            f"{verb} {self.reports_removed} run folders, {self.logs_removed} logs, {self.raw_files_removed} raw files, "
            f"{self.versions_removed} files of notebook versions, {self.leftovers_removed} leftovers{flow_runs} and "
            f"{self.snapshots_expired} snapshots no kept run is pinned to, {self.bytes_freed / 1e6:,.1f} MB; the lake "
            f"has {self.files_after} data files (before: {self.files_before})."
        )


def clean_up(lake: Lake, *, dry_run: bool = False) -> CleanUpReport:
    """Remove old run folders, logs, raw files, notebook versions, leftovers and flow runs, expire snapshots, flush,
    merge and clean the lake's files; make released documents that are missing. Waits for the round in progress: its
    runs are not on record yet. With ``dry_run`` nothing is changed."""
    settings = lake.settings
    now = dt.datetime.now(dt.UTC)
    oldest = now - dt.timedelta(days=settings.keep_runs_days)
    with one_round(settings):
        old_logs = _older([*settings.logs.glob("*.log.*")], oldest)
        old_files = _old_raw_files(settings, now)
        litter = leftovers(settings)
        with _known(lake) as known:
            old_runs = _old_runs(settings, known, oldest)
            expired = _unpinned_snapshots(known, oldest, [folder.name for folder in old_runs])
            old_versions = _old_versions(settings, known, oldest, expired)
        before = len(lake.data_files())
        going = (*old_runs, *old_logs, *old_files, *old_versions, *litter)
        freed = sum(size_of(path) for path in going)
        made_up: list[str] = []
        if not dry_run:
            for path in going:
                _remove(path)
            made_up = release_missing(lake)
            _tidy_lake(lake.on_all_cores(), expired)
        after = len(lake.data_files())
    flow_runs = remove_old_flow_runs(settings, now - dt.timedelta(days=settings.keep_flow_runs_days), dry_run=dry_run)
    return CleanUpReport(
        dry_run=dry_run,
        reports_removed=len(old_runs),
        logs_removed=len(old_logs),
        raw_files_removed=len(old_files),
        versions_removed=len(old_versions),
        leftovers_removed=len(litter),
        flow_runs_removed=flow_runs,
        snapshots_expired=len(expired),
        released_made_up=len(made_up),
        files_before=before,
        files_after=after,
        bytes_freed=freed,
        disk=disk_use(settings).as_json(),
    )


@contextmanager
def _known(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A cursor whose tables ``known_runs`` and ``known_snapshots`` hold those of one moment: of a large lake, reading
    them takes longer than any question to them."""
    with closing(lake.cursor()) as cursor:
        cursor.execute("BEGIN")
        cursor.execute(
            "CREATE TEMP TABLE known_runs AS SELECT run_id, analysis, parameters_hash, status, finished_at, "
            "notebook_hash, code_version, snapshot_id FROM analytics.runs"
        )
        cursor.execute("CREATE TEMP TABLE known_snapshots AS SELECT snapshot_id, snapshot_time FROM lake.snapshots()")
        cursor.execute("COMMIT")
        yield cursor


def _old_runs(settings: Settings, known: duckdb.DuckDBPyConnection, oldest: dt.datetime) -> list[Path]:
    """Folders of runs that are neither young nor served."""
    rows = known.execute(
        "SELECT arg_max(run_id, (finished_at, run_id)) FROM known_runs WHERE status = ? "
        "GROUP BY analysis, parameters_hash",
        [RunStatus.COMPLETED],
    ).fetchall()
    served = {run_id for (run_id,) in rows}
    folders = _older([*(settings.reports / "runs").glob("*")], oldest)
    return [folder for folder in folders if folder.name not in served]


def _old_versions(
    settings: Settings, known: duckdb.DuckDBPyConnection, oldest: dt.datetime, expired: list[int]
) -> list[Path]:
    """Notebook versions no run can be made again with: every run of theirs has lost its snapshot, or is about to."""
    rows = known.execute(
        "SELECT DISTINCT notebook_hash, code_version FROM known_runs SEMI JOIN known_snapshots USING (snapshot_id) "
        "WHERE snapshot_id NOT IN (SELECT unnest(?::BIGINT[]))",
        [expired],
    ).fetchall()
    return versions.not_needed(settings, set(rows), oldest.timestamp())


def _old_raw_files(settings: Settings, now: dt.datetime) -> list[Path]:
    """What was delivered, refused and quarantined long ago; nothing while no age is set."""
    if not settings.keep_archive_days:
        return []
    folders = (settings.archive, settings.refused, settings.quarantine)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return _older(files, now - dt.timedelta(days=settings.keep_archive_days))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _older(paths: list[Path], oldest: dt.datetime) -> list[Path]:
    return [path for path in paths if path.lstat().st_mtime < oldest.timestamp()]


def _unpinned_snapshots(known: duckdb.DuckDBPyConnection, oldest: dt.datetime, removed_runs: list[str]) -> list[int]:
    """Snapshots from before ``oldest`` that are neither the newest nor read by a kept run."""
    rows = known.execute(
        "SELECT snapshot_id FROM known_snapshots WHERE snapshot_time < ?::TIMESTAMPTZ "
        "AND snapshot_id <> (SELECT max(snapshot_id) FROM known_snapshots) AND snapshot_id NOT IN "
        "(SELECT snapshot_id FROM known_runs WHERE run_id NOT IN (SELECT unnest(?::VARCHAR[]))) ORDER BY snapshot_id",
        [oldest, removed_runs],
    ).fetchall()
    return [int(snapshot_id) for (snapshot_id,) in rows]


def _tidy_lake(lake: Lake, expired: list[int]) -> None:
    with closing(lake.cursor()) as cursor, lake.lock():
        cursor.execute("CALL ducklake_flush_inlined_data('lake')")
        if expired:
            cursor.execute("CALL ducklake_expire_snapshots('lake', versions => ?)", [expired])
        for schema, table in _tables_of_several_files(cursor):
            cursor.execute(f"CALL ducklake_merge_adjacent_files('lake', '{table}', schema => '{schema}')")
        cursor.execute(f"CALL ducklake_cleanup_old_files('lake', older_than => now() - INTERVAL '{CLEANUP_AFTER}')")


def _tables_of_several_files(cursor: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Schema and name of the tables in which there may be something to merge: looking for it costs a fiftieth of a
    second each, and most have one file or none."""
    rows = cursor.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() JOIN ducklake_table_info('lake') USING (table_name) "
        "WHERE database_name = 'lake' AND file_count > 1 ORDER BY ALL"
    ).fetchall()
    return [(schema, table) for schema, table in rows]
