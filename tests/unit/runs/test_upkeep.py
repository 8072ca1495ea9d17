"""Clean-up: old run folders, logs and snapshots go; what served or kept runs need stays."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medisync import intake
from medisync.analyses.contract import Finding, Result
from medisync.errors import NoDataError
from medisync.lake import Lake, Snapshot
from medisync.runs import versions
from medisync.runs.published import result_of
from medisync.runs.publishing import publish
from medisync.runs.record import RunRecord, RunStatus
from medisync.runs.upkeep import clean_up
from tests.support.admissions_csv import admissions, write_csv

LONG_AGO = dt.datetime.now(dt.UTC) - dt.timedelta(days=400)


def recorded(
    lake: Lake,
    run_id: str,
    *,
    status: str = "completed",
    snapshot_id: int | None = None,
    finished_at: dt.datetime = LONG_AGO,
) -> RunRecord:
    """A run on record with its folder, both of long ago."""
    record = RunRecord(
        run_id=run_id,
        analysis="count",
        title="Count",
        status=RunStatus(status),
        parameters={},
        parameters_hash="p",
        snapshot_id=snapshot_id or lake.last_snapshot_id() or 0,
        inputs={},
        run_key=run_id,
        notebook="count.ipynb",
        notebook_hash="n",
        code_hash="c",
        environment={},
        fixed_environment={},
        trigger="test",
        requested_by="test",
        started_at=LONG_AGO,
        finished_at=finished_at,
    )
    result = Result(analysis="count", title="T", headline=run_id, finding=Finding.NOTHING)
    publish(lake, record, result if status == "completed" else None)
    folder = lake.settings.reports / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("x")
    age(folder)
    return record


def age(path: Path) -> None:
    os.utime(path, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))


def age_snapshots(lake: Lake, until: int) -> None:
    """Make the catalog say that snapshots up to ``until`` were committed long ago. In a process of its own: a second
    SQLite library in this one would break DuckDB's locks."""
    lake.close()
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute('UPDATE ducklake_snapshot SET snapshot_time = ? WHERE snapshot_id <= ?', sys.argv[2:]); c.commit()"
    )
    when = LONG_AGO.strftime("%Y-%m-%d %H:%M:%S.%f+00")
    subprocess.run([sys.executable, "-c", code, str(lake.settings.catalog_file), when, str(until)], check=True)


def test_what_is_old_goes_and_what_is_needed_stays(lake: Lake, tmp_path: Path) -> None:
    sizes = []
    for number in range(4):
        intake.ingest(lake, write_csv(tmp_path / f"{number}.csv", admissions(10 * (number + 1))))
        recorded(lake, f"r{number}")
        sizes.append(lake.last_snapshot_id())
    recorded(lake, "r4", status="failed", snapshot_id=sizes[0])
    pinned = {row["run_id"]: row["snapshot_id"] for row in lake.query("SELECT run_id, snapshot_id FROM analytics.runs")}
    young = lake.settings.reports / "runs" / "r2"
    os.utime(young)
    for name in ("watcher.log", "watcher.log.1"):
        (lake.settings.logs / name).write_text("x")
        age(lake.settings.logs / name)
    newest = lake.last_snapshot_id() or 0
    age_snapshots(lake, newest)

    would = clean_up(lake, dry_run=True)
    assert lake.last_snapshot_id() == newest
    assert (would.reports_removed, would.logs_removed) == (3, 1)
    assert would.snapshots_expired > 5
    assert len(list((lake.settings.reports / "runs").iterdir())) == 5

    did = clean_up(lake)
    assert (did.reports_removed, did.logs_removed, did.snapshots_expired) == (3, 1, would.snapshots_expired)
    kept = sorted(path.name for path in (lake.settings.reports / "runs").iterdir())
    assert kept == ["r2", "r3"]  # the young one, and the last good one, which is served
    assert [path.name for path in lake.settings.logs.iterdir()] == ["watcher.log"]
    for run_id, rows in (("r2", 30), ("r3", 40)):
        result = result_of(lake, run_id)
        assert result is not None
        assert result.headline == run_id
        with Snapshot(lake.settings, pinned[run_id]) as snapshot:
            assert int(snapshot.query("SELECT count(*) AS n FROM clinical.admissions")["n"][0]) == rows
    with pytest.raises(NoDataError, match="expired"):
        Snapshot(lake.settings, pinned["r1"])
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions") == [{"n": 40}]
    assert len(lake.query("FROM analytics.runs")) == 5  # the records themselves are never removed

    again = clean_up(lake)
    assert (again.reports_removed, again.logs_removed) == (0, 0)
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions") == [{"n": 40}]


def test_of_two_runs_the_one_that_ended_last_is_served_and_stays(lake: Lake) -> None:
    """Ids tell when a run began; a page shows what ended last."""
    lake.connection()
    recorded(lake, "r1", finished_at=LONG_AGO + dt.timedelta(minutes=5))
    recorded(lake, "r2")
    age_snapshots(lake, lake.last_snapshot_id() or 0)
    assert clean_up(lake).reports_removed == 1
    assert [path.name for path in (lake.settings.reports / "runs").iterdir()] == ["r1"]


def test_small_commits_are_put_together_and_the_numbers_stay(lake: Lake) -> None:
    for number in range(12):
        with lake.transaction("rows") as transaction:
            transaction.execute(
                "INSERT INTO clinical.patients SELECT 's', uuid(), 'male', NULL, 'A+', ?", [str(number)]
            )
    report = clean_up(lake)
    assert report.files_before >= 12
    assert clean_up(lake).files_after == report.files_after  # there is nothing left to do
    with Snapshot(lake.settings) as snapshot:
        files = snapshot.query("FROM ducklake_list_files('lake', 'patients', schema => 'clinical')")
    assert len(files) < 12
    assert lake.query("SELECT count(*) AS n, count(DISTINCT delivery_id) AS d FROM clinical.patients") == [
        {"n": 12, "d": 12}
    ]


def test_an_empty_lake_can_be_cleaned(lake: Lake) -> None:
    report = clean_up(lake)
    assert (report.reports_removed, report.logs_removed, report.snapshots_expired) == (0, 0, 0)
    assert "Removed 0 run folders" in report.sentence()


def test_raw_files_go_only_when_an_age_is_set(lake: Lake, tmp_path: Path) -> None:
    intake.ingest(lake, write_csv(tmp_path / "a.csv", admissions(10)))
    old = lake.settings.archive / "default" / "old.csv"
    old.parent.mkdir(exist_ok=True)
    old.write_text("x" * 1000)
    age(old)
    assert clean_up(lake, dry_run=True).raw_files_removed == 0
    limited = Lake(lake.settings.model_copy(update={"keep_archive_days": 30}))
    would = clean_up(limited, dry_run=True)
    assert (would.raw_files_removed, old.exists()) == (1, True)
    assert would.bytes_freed >= 1000
    did = clean_up(limited)
    limited.close()
    assert (did.raw_files_removed, old.exists()) == (1, False)
    assert did.disk["parts"]["lake"] > 0


def test_versions_go_when_no_run_can_be_made_again_with_them(lake: Lake) -> None:
    """One that a kept run needs, one nobody needs, and one nobody needs yet; the first two share a file of code."""
    settings = lake.settings
    root = versions.folder(settings)

    def kept(notebook_hash: str, content: bytes) -> list[Path]:
        manifest = versions._manifest(settings, notebook_hash, "c")
        blobs = {"notebook": versions._put(root, content, ".ipynb"), "code": {"a.py": versions._put(root, b"shared")}}
        versions._write(manifest, json.dumps({"name": "x.ipynb", "lock": None, **blobs}).encode())
        return [manifest, versions._blob(root, str(blobs["notebook"]), ".ipynb")]

    lake.connection()
    recorded(lake, "r0")
    needed, forgotten, young = kept("n", b"1"), kept("m", b"2"), kept("o", b"3")
    shared = versions._blob(root, versions._sha(b"shared"), "")
    for path in (*needed, *forgotten, shared):
        age(path)
    assert clean_up(lake, dry_run=True).versions_removed == 2
    assert all(path.exists() for path in forgotten)
    assert clean_up(lake).versions_removed == 2
    assert [path.exists() for path in (*needed, *forgotten, *young, shared)] == [True] * 2 + [False] * 2 + [True] * 3
    needed[0].write_text("damaged")
    young[0].unlink()
    age(young[1])
    assert clean_up(lake).versions_removed == 0  # who knows what a damaged manifest named


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    dead, young, used = (tmp_path / "t" / f"medisync-kernel-{name}" for name in ("dead", "young", "used"))
    for folder in (dead, young, used):
        folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(used / "k-1"))
        draft = lake.settings.reports / ".draft-abc"
        draft.mkdir()
        for path in (used / "k-1", used, dead, draft):
            age(path)
        assert clean_up(lake).leftovers_removed == 2
    assert [path.exists() for path in (dead, young, used, draft)] == [False, True, True, False]


def test_every_kept_run_reads_what_it_read_after_clean_up(lake: Lake, tmp_path: Path) -> None:
    """Runs of all ages over changing data; whatever is left on disk can still be reproduced."""
    seen = {}
    for number in range(4):
        intake.ingest(lake, write_csv(tmp_path / f"{number}.csv", admissions(10 + 3 * number)))
        record = recorded(lake, f"r{number}", status="failed" if number == 3 else "completed")
        with Snapshot(lake.settings, record.snapshot_id) as snapshot:
            seen[record.run_id] = (record.snapshot_id, snapshot.query("FROM clinical.admissions ORDER BY ALL"))
    for name in ("r1", "r2"):
        os.utime(lake.settings.reports / "runs" / name)
    age_snapshots(lake, lake.last_snapshot_id() or 0)
    for _ in range(2):
        clean_up(lake)
    kept = sorted(path.name for path in (lake.settings.reports / "runs").iterdir())
    assert kept == ["r1", "r2"]
    for name in kept:
        snapshot_id, rows = seen[name]
        with Snapshot(lake.settings, snapshot_id) as snapshot:
            assert snapshot.query("FROM clinical.admissions ORDER BY ALL").equals(rows)
