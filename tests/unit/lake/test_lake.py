"""The lake: offline extensions, one schema, pinned snapshots, commit messages, private files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from medisync.errors import LakeBusyError, LakeTooOldError, LakeVersionError, MediSyncError, NoDataError
from medisync.lake import Lake, Snapshot, extensions, schema
from medisync.settings import Settings


def keep_records(
    lake: Lake, delivery_id: str, *, requeue_of: str | None = None, layout: str = "fhir_r4", status: str = "loaded"
) -> None:
    """The record of a delivery, and a row of it in the quarantine."""
    with lake.transaction(f"delivery {delivery_id}") as transaction:
        transaction.execute(
            "INSERT INTO lake.clinical.deliveries (delivery_id, source, layout, status, requeue_of, finished_at) "
            "VALUES (?, 's', ?, ?, ?, now()::TIMESTAMP)",
            [delivery_id, layout, status, requeue_of],
        )
        transaction.execute(
            "INSERT INTO lake.clinical.quarantine (delivery_id, row_number, reason, part) VALUES (?, 4, 'x', ?)",
            [delivery_id, f"part of {delivery_id}"],
        )


def note(lake: Lake, name: str, version: int = 1) -> None:
    """A small commit."""
    with lake.transaction(f"note {name}", extra={"name": name}) as transaction:
        transaction.execute("INSERT INTO clinical.table_versions VALUES (?, ?, 'd', now()::TIMESTAMP)", [name, version])


SPILLS = """
import sys
from pathlib import Path
from medisync.lake.extensions import open_duckdb
connection = open_duckdb("icu", memory_limit_mb=40, threads=1, temp_directory=Path(sys.argv[1]))
connection.execute("SET preserve_insertion_order = false")
print("ready", flush=True)
sys.stdin.readline()
query = "SELECT count(*), min(t), max(t) FROM (SELECT md5(i::VARCHAR) AS t FROM range(900000) AS r(i) ORDER BY t)"
print(connection.execute(query).fetchone()[0], any(Path(sys.argv[1]).iterdir()))
"""


def test_processes_that_spill_to_the_disk_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """DuckDB's files are called alike in each process: in one folder, two processes crash."""
    command = [sys.executable, "-c", SPILLS, str(tmp_path / "temporary")]
    both = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        for _ in range(2)
    ]
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [one.communicate()[0].splitlines()[-1] for one in both] == ["900000 True"] * 2
    assert [one.returncode for one in both] == [0, 0]
    assert list((tmp_path / "temporary").iterdir()) == [], "nothing stays behind"


@pytest.mark.usefixtures("as_shipped")
class TestExtensions:
    def test_they_come_from_their_wheels_with_the_signature_check_on(self) -> None:
        connection = extensions.open_duckdb(*extensions.EXTENSIONS)
        options = dict(
            connection.execute(
                "SELECT name, value FROM duckdb_settings() WHERE name IN ('allow_unsigned_extensions', "
                "'autoinstall_known_extensions', 'autoload_known_extensions')"
            ).fetchall()
        )
        assert options == {
            "allow_unsigned_extensions": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        loaded = connection.execute(
            "SELECT extension_name FROM duckdb_extensions() WHERE loaded AND extension_name IN (SELECT unnest(?))",
            [list(extensions.EXTENSIONS)],
        ).fetchall()
        assert {name for (name,) in loaded} == set(extensions.EXTENSIONS)
        for name in extensions.EXTENSIONS:
            assert "site-packages" in str(extensions.extension_path(name))

    def test_each_fork_has_the_prepared_duckdb_for_itself(self) -> None:
        code = """
import json, os
from medisync.lake import extensions

prepared = ("ducklake", "sqlite_scanner", "icu")
extensions.prepare_duckdb(*prepared)
own = extensions.open_duckdb(*prepared)
assert own is not extensions._prepared[0][2]
for number in range(2):
    if os.fork() == 0:
        made = extensions.open_duckdb("ducklake", "icu", memory_limit_mb=500, threads=1)
        made.execute(f"CREATE TABLE t AS SELECT {number} AS number")
        another = extensions.open_duckdb("ducklake")
        tables = another.execute("SELECT count(*) FROM duckdb_tables()").fetchone()[0]
        asked = "SELECT number, random(), current_setting('threads') FROM t"
        print(json.dumps([*made.execute(asked).fetchone(), tables, len(extensions._prepared)]), flush=True)
        os._exit(0)
    os.wait()
assert len(extensions._prepared) == 1
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        first, second = map(json.loads, done.stdout.splitlines())
        assert (first[0], second[0]) == (0, 1)
        assert first[1] != second[1], "random numbers of its own"
        assert first[2:] == second[2:] == [1, 0, 0]

    def test_an_unsigned_extension_is_refused(self, tmp_path: Path) -> None:
        damaged = bytearray(extensions.extension_path("sqlite_scanner").read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        copy = tmp_path / "sqlite_scanner.duckdb_extension"
        copy.write_bytes(damaged)
        connection = extensions.open_duckdb()
        with pytest.raises(duckdb.IOException, match="signature"):
            connection.load_extension(str(copy))

    def test_an_extension_of_another_duckdb_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(duckdb, "__version__", "0.0.1")
        with pytest.raises(MediSyncError, match=r"no icu for DuckDB 0\.0\.1"):
            extensions.extension_path("icu")

    def test_a_lake_opens_without_network_and_home(self, workspace: Settings, tmp_path: Path) -> None:
        """In a network namespace of its own, with a home that cannot be written."""
        code = (
            "from medisync.settings import load_settings; from medisync.lake import Lake\n"
            "Lake(load_settings()).connection()"
        )
        environment = {**os.environ, "HOME": "/nonexistent"}
        unshare = ["unshare", "--net"] if _can_unshare() else []
        subprocess.run([*unshare, sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, timeout=120)
        assert (workspace.lake / "catalog.sqlite").exists()


@pytest.mark.usefixtures("as_shipped")
class TestSchema:
    def test_the_steps_are_numbered_without_a_hole(self) -> None:
        assert [version for version, _ in schema.steps()] == list(range(1, len(schema.steps()) + 1))

    def test_a_new_lake_has_the_newest_version(self, lake: Lake) -> None:
        assert schema.current_version(lake.connection()) == schema.steps()[-1][0]

    def test_an_older_lake_is_migrated_and_keeps_its_rows(
        self, workspace: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = schema.steps()
        old = Lake(workspace)
        note(old, "admissions")
        old.close()
        newest = known[-1][0]
        added = [
            (newest + 1, "CREATE TABLE analytics.added (a INTEGER)"),
            # DuckLake 1.5.5 cannot add a column and fill rows of the same inlined table in one transaction.
            (newest + 2, "ALTER TABLE clinical.table_versions ADD COLUMN note VARCHAR DEFAULT 'none'"),
        ]
        monkeypatch.setattr(schema, "steps", lambda: [*known, *added])
        new = Lake(workspace)
        assert schema.current_version(new.connection()) == newest + 2
        rows = new.query("SELECT table_name, note FROM clinical.table_versions")
        assert rows == [{"table_name": "admissions", "note": "none"}]
        assert new.query("FROM analytics.added") == []
        versions = new.query("SELECT version FROM main.schema_version ORDER BY version")
        assert [row["version"] for row in versions] == [version for version, _ in [*known, *added]]
        messages = new.query("SELECT commit_message FROM lake.snapshots() ORDER BY snapshot_id DESC LIMIT 1")
        assert messages == [{"commit_message": f"schema version {newest + 2}"}]
        new.close()

    @pytest.mark.parametrize(("version", "holds"), [(6, "admissions"), (7, "admissions"), (7, "nothing")])
    def test_admissions_under_keys_of_another_kind_are_refused(
        self, workspace: Settings, version: int, holds: str
    ) -> None:
        known = schema.steps()
        with pytest.MonkeyPatch.context() as then:
            then.setattr(schema, "steps", lambda: known[:version])
            then.setattr(schema, "BOOKKEEPING", ())
            old = Lake(workspace)
            if holds == "admissions":
                with old.transaction("delivery d1") as transaction:
                    transaction.execute(
                        "INSERT INTO lake.clinical.admissions (source, admission_key, patient_key, admitted_at, "
                        "delivery_id) VALUES ('s', uuid(), uuid(), now()::TIMESTAMP, 'd1')"
                    )
            else:
                old.connection()
            before = old.last_snapshot_id()
            old.close()
        lake = Lake(workspace)
        if holds == "nothing":
            assert schema.current_version(lake.connection()) == known[-1][0]
            lake.close()
            return
        with pytest.raises(LakeTooOldError, match=f"schema version {version}, holds admissions under keys") as refusal:
            lake.connection()
        assert "data/archive/" in str(refusal.value)
        with Snapshot(workspace) as snapshot:
            assert snapshot.snapshot_id == before

    def test_the_lake_says_of_what_kind_its_keys_are(self, lake: Lake) -> None:
        said = lake.query(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'lake' "
            "AND table_name = 'admissions' AND comment IS NOT NULL ORDER BY ALL"
        )
        assert [(row["column_name"], row["comment"][:9]) for row in said] == [
            ("admission_key", "Keyed MD5"),
            ("patient_key", "First hal"),
        ]

    def test_bookkeeping_made_anew_keeps_its_rows_also_those_of_older_snapshots(self, workspace: Settings) -> None:
        known = schema.steps()
        with pytest.MonkeyPatch.context() as then:
            then.setattr(schema, "steps", lambda: known[:6])
            then.setattr(schema, "BOOKKEEPING", ("table_versions", "quality", "key_generations"))
            old = Lake(workspace)
            keep_records(old, "d1")
            before = old.last_snapshot_id()
            keep_records(old, "d2", requeue_of="d1")
            then_said = [old.query(f"FROM clinical.{name} ORDER BY ALL") for name in ("deliveries", "quarantine")]
            old.close()
        new = Lake(workspace)
        assert schema.current_version(new.connection()) == known[-1][0]
        assert [new.query(f"FROM clinical.{name} ORDER BY ALL") for name in ("deliveries", "quarantine")] == then_said
        with Snapshot(workspace, before) as snapshot:
            assert list(snapshot.query("FROM clinical.deliveries")["delivery_id"]) == ["d1"]
            assert list(snapshot.query("FROM clinical.quarantine")["part"]) == ["part of d1"]
        with pytest.raises(duckdb.Error), new.transaction("wrong") as transaction:
            transaction.execute("INSERT INTO clinical.deliveries (delivery_id, source) VALUES ('d3', 's')")
        keep_records(new, "d3", requeue_of="d2")
        told = new.query("SELECT delivery_id, requeue_of FROM clinical.deliveries ORDER BY 1")
        assert [(row["delivery_id"], row["requeue_of"]) for row in told] == [("d1", None), ("d2", "d1"), ("d3", "d2")]
        new.close()

    def test_a_failed_step_changes_nothing(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        known = schema.steps()
        snapshot = (lake.connection(), lake.last_snapshot_id())[1]
        broken = [*known, (known[-1][0] + 1, "CREATE TABLE main.half (a INTEGER); CREATE TABLE main.half (a INTEGER)")]
        monkeypatch.setattr(schema, "steps", lambda: broken)
        with pytest.raises(duckdb.Error):
            schema.migrate(lake.connection())
        assert schema.current_version(lake.connection()) == known[-1][0]
        assert lake.last_snapshot_id() == snapshot

    def test_a_newer_lake_is_refused_and_left_alone(self, workspace: Settings) -> None:
        first = Lake(workspace)
        with first.transaction("a later MediSync was here") as transaction:
            transaction.execute("INSERT INTO main.schema_version VALUES (999, '9.9')")
        before = first.last_snapshot_id()
        first.close()
        with pytest.raises(LakeVersionError, match="schema version 999") as refusal:
            Lake(workspace).connection()
        assert "Install the newer" in str(refusal.value)
        with Snapshot(workspace) as snapshot:
            assert snapshot.snapshot_id == before


class TestTransactions:
    def test_message_author_and_extra_info_are_kept(self, lake: Lake) -> None:
        with lake.transaction("delivery d1", author="somebody", extra={"delivery_id": "d1", "a": 1}) as transaction:
            transaction.execute("INSERT INTO clinical.table_versions VALUES ('x', 1, 'd1', now()::TIMESTAMP)")
        row = lake.query("SELECT * FROM lake.snapshots() ORDER BY snapshot_id DESC LIMIT 1")[0]
        assert (row["author"], row["commit_message"]) == ("somebody", "delivery d1")
        assert json.loads(row["commit_extra_info"]) == {"delivery_id": "d1", "a": 1}

    def test_an_error_rolls_all_of_it_back_and_frees_the_lock(self, lake: Lake) -> None:
        note(lake, "before")
        snapshot = lake.last_snapshot_id()
        with pytest.raises(KeyError), lake.transaction("half") as transaction:
            {}[transaction.execute("INSERT INTO clinical.table_versions VALUES ('x', 1, 'd', now()::TIMESTAMP)")]
        assert lake.last_snapshot_id() == snapshot
        with pytest.raises(duckdb.Error), lake.transaction("wrong") as transaction:
            transaction.execute("INSERT INTO clinical.table_versions VALUES (NULL, 1, 'd', now()::TIMESTAMP)")
        with lake.lock(seconds=0):
            pass
        note(lake, "after")
        assert {row["table_name"] for row in lake.query("FROM clinical.table_versions")} == {"before", "after"}

    def test_who_waits_too_long_for_the_lock_is_told(self, lake: Lake) -> None:
        lake.connection()
        impatient = Lake(lake.settings.model_copy(update={"lock_seconds": 0.05}))
        with lake.lock(seconds=0), pytest.raises(LakeBusyError, match=r"more than 0\.05 seconds"):
            impatient.connection()

    def test_the_newest_snapshot_is_always_told(self, workspace: Settings) -> None:
        lake = Lake(workspace)
        assert lake.last_snapshot_id() is None
        other = Lake(workspace)
        for number in range(5):  # also when another process commits
            note(other if number % 2 else lake, "a")
            newest = lake.query("SELECT max(snapshot_id) AS n FROM lake.snapshots()")[0]["n"]
            assert lake.last_snapshot_id() == other.last_snapshot_id() == newest
        lake.close()
        other.close()

    def test_a_catalog_that_is_none_is_no_empty_lake(self, workspace: Settings) -> None:
        (workspace.lake / "catalog.sqlite").write_bytes(b"not a database" * 100)
        with pytest.raises(Exception, match="not a database"):
            Lake(workspace).last_snapshot_id()


class TestSnapshots:
    def test_a_pinned_snapshot_stays_while_others_commit(self, lake: Lake) -> None:
        note(lake, "first")
        with Snapshot(lake.settings) as latest, Snapshot(lake.settings, lake.last_snapshot_id()) as pinned:
            for name in ("second", "third"):
                note(lake, name)
                for snapshot in (latest, pinned):
                    frame = snapshot.query("SELECT table_name FROM clinical.table_versions WHERE version >= ?", [1])
                    assert frame["table_name"].tolist() == ["first"]
        with Snapshot(lake.settings) as newest:
            assert len(newest.query("FROM clinical.table_versions")) == 3
            assert newest.snapshot_id == lake.last_snapshot_id()

    WRITING = (
        "INSERT INTO clinical.table_versions VALUES ('x', 1, 'd', now()::TIMESTAMP)",
        "DELETE FROM clinical.table_versions",
        "UPDATE clinical.table_versions SET version = 2",
        "CREATE TABLE main.mine (a INTEGER)",
        "DROP TABLE clinical.admissions",
        "CALL ducklake_expire_snapshots('lake', older_than => now())",
    )

    def test_a_kernel_cannot_write(self, lake: Lake) -> None:
        note(lake, "first")
        before = lake.last_snapshot_id()
        with Snapshot(lake.settings) as snapshot:
            for statement in self.WRITING:
                with pytest.raises(duckdb.Error, match=r"(?i)read.only"):
                    snapshot.query(statement)
        assert lake.last_snapshot_id() == before
        assert len(lake.query("FROM clinical.table_versions")) == 1

    def test_no_data_and_no_such_snapshot_are_told_apart(self, workspace: Settings) -> None:
        with pytest.raises(NoDataError, match="no data yet"):
            Snapshot(workspace)
        lake = Lake(workspace)
        note(lake, "a")
        with pytest.raises(NoDataError, match="snapshot 9999 cannot be opened"):
            Snapshot(workspace, 9999)
        lake.close()


def test_files_are_for_the_owner_alone(lake: Lake) -> None:
    with lake.transaction("rows") as transaction:
        transaction.execute(
            "INSERT INTO clinical.patients SELECT 's', uuid(), 'female', NULL, 'A+', 'd' FROM range(2000)"
        )
    settings = lake.settings
    for path in [settings.lake, *settings.lake.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert list(lake.files.rglob("*.parquet"))
    folders = (
        settings.inbox,
        settings.processing,
        settings.archive,
        settings.refused,
        settings.quarantine,
        settings.keys,
        settings.logs,
    )
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_a_delivery_leaves_its_record_in_the_catalog_until_clean_up(lake: Lake) -> None:
    """A file of each would have to be read for every list of the last ones. Every column is as it was written."""
    for number in range(3):
        keep_records(lake, f"d{number}", requeue_of=f"d{number - 1}" if number else None)
    with lake.transaction("taken again") as transaction:
        transaction.execute("UPDATE lake.clinical.quarantine SET resolved_by = 'd2' WHERE delivery_id = 'd1'")
    snapshot_id = lake.last_snapshot_id()
    for _ in range(2):
        assert not [name for name in lake.data_files() if name.startswith(("clinical/deliveries", "clinical/quar"))]
        rows = lake.query("SELECT delivery_id, requeue_of FROM clinical.deliveries ORDER BY 1")
        assert [tuple(row.values()) for row in rows] == [("d0", None), ("d1", "d0"), ("d2", "d1")]
        rows = lake.query("SELECT delivery_id, part, resolved_by FROM clinical.quarantine ORDER BY 1")
        assert [tuple(row.values()) for row in rows] == [
            ("d0", "part of d0", None), ("d1", "part of d1", "d2"), ("d2", "part of d2", None)
        ]  # fmt: skip
        lake.close()  # and so in another process
    lake.cursor().execute("CALL ducklake_flush_inlined_data('lake')")
    assert len([name for name in lake.data_files() if name.startswith("clinical/deliveries")]) == 1
    with Snapshot(lake.settings, snapshot_id) as snapshot:
        assert list(snapshot.query("FROM clinical.deliveries ORDER BY 1")["requeue_of"].fillna("")) == ["", "d0", "d1"]
        told = snapshot.query("FROM clinical.quarantine ORDER BY 1")
        assert list(told["resolved_by"].fillna("")) == ["", "d2", ""]


def test_patient_rows_are_never_inlined_in_the_catalog(lake: Lake) -> None:
    """Of a file's columns the catalog knows the least and the greatest value, and no others."""
    with lake.transaction("three rows") as transaction:
        transaction.execute(
            "INSERT INTO clinical.patients SELECT 's', uuid(), 'female', NULL, unnest(['Aa+', 'Mm+', 'Zz+']), 'd'"
        )
    assert len(list((lake.files / "clinical" / "patients").rglob("*.parquet"))) == 1
    lake.close()
    assert b"Mm+" not in lake.settings.catalog_file.read_bytes()


@pytest.mark.parametrize("name", ["it's mine", "a b", "100% [x] *"])
def test_a_workspace_may_have_an_odd_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake(Settings(data=tmp_path / name / "data", reports=tmp_path / name / "reports"))
    note(lake, "a")
    with Snapshot(lake.settings) as snapshot:
        assert len(snapshot.query("FROM clinical.table_versions")) == 1
    lake.close()


def _can_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_large_work_has_all_cores_and_everything_else_one_thread(lake: Lake) -> None:
    wide = lake.on_all_cores()
    assert lake.on_all_cores() is wide
    assert wide.on_all_cores() is wide
    threads = "SELECT current_setting('threads') AS threads"
    assert lake.query(threads)[0]["threads"] == 1
    assert wide.query(threads)[0]["threads"] == len(os.sched_getaffinity(0))
    note(wide, "by all cores")
    assert lake.last_snapshot_id() == wide.last_snapshot_id()
    lake.close()
    assert lake.on_all_cores() is not wide, "closed with it"
    lake.close()
