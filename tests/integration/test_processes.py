"""Several processes at one workspace: writers, readers, watchers, and one that is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from medisync import intake
from medisync.intake import together
from medisync.lake import Lake, Snapshot
from medisync.settings import Settings
from tests.support.admissions_csv import admissions, letters, write_csv
from tests.support.processes import finish, finish_all, start

WRITERS, NOTES = 4, 12


def test_writers_in_several_processes_lose_nothing_and_meet_no_error(workspace: Settings) -> None:
    """All make the lake at once, then add to one counter, which only works when they take turns."""
    code = f"""
lake = Lake(settings)
for number in range({NOTES}):
    with lake.transaction(f"{{sys.argv[1]}}-{{number}}", extra={{"writer": sys.argv[1]}}) as transaction:
        [(last,)] = transaction.execute("SELECT coalesce(max(version), 0) FROM clinical.table_versions").fetchall()
        transaction.execute("INSERT INTO clinical.table_versions VALUES (?, ?, 'd', now()::TIMESTAMP)",
                            [sys.argv[1], last + 1])
print(lake.last_snapshot_id())
"""
    seen = finish_all([start(code, f"w{number}") for number in range(WRITERS)])
    lake = Lake(workspace)
    versions = [row["version"] for row in lake.query("SELECT version FROM clinical.table_versions ORDER BY version")]
    assert versions == list(range(1, WRITERS * NOTES + 1))
    messages = {row["commit_message"] for row in lake.query("SELECT commit_message FROM lake.snapshots()")}
    assert {f"w{writer}-{number}" for writer in range(WRITERS) for number in range(NOTES)} <= messages
    assert max(int(one) for one in seen) == lake.last_snapshot_id()
    lake.close()


def test_a_pinned_snapshot_in_another_process_is_stable_while_writers_commit(workspace: Settings) -> None:
    lake = Lake(workspace)
    with lake.transaction("first") as transaction:
        transaction.execute("INSERT INTO clinical.table_versions VALUES ('first', 1, 'd', now()::TIMESTAMP)")
    reader = start(
        """
with Snapshot(settings) as snapshot:
    print(snapshot.snapshot_id, flush=True)
    counts = set()
    sys.stdin.readline()
    for _ in range(40):
        counts.add(int(snapshot.query("SELECT count(*) AS n FROM clinical.table_versions")["n"][0]))
    print(counts)
"""
    )
    assert reader.stdout is not None
    assert reader.stdin is not None
    pinned = int(reader.stdout.readline())
    assert pinned == lake.last_snapshot_id()
    writer = start(
        """
lake = Lake(settings)
for number in range(20):
    with lake.transaction("more") as transaction:
        transaction.execute("INSERT INTO clinical.table_versions VALUES ('more', 2, 'd', now()::TIMESTAMP)")
"""
    )
    reader.stdin.write("go\n")
    reader.stdin.flush()
    told, _ = finish_all([reader, writer])
    assert told.strip() == "{1}"
    with Snapshot(workspace, pinned) as snapshot:
        assert len(snapshot.query("FROM clinical.table_versions")) == 1
    assert len(lake.query("FROM clinical.table_versions")) == 21
    lake.close()


def test_two_watchers_in_two_processes_claim_each_file_once(workspace: Settings) -> None:
    files = 60
    code = """
from medisync.intake.watcher import Watcher
watcher = Watcher(settings)
print("ready", flush=True)
sys.stdin.readline()
claimed = []
while any(settings.inbox.iterdir()):
    claimed += watcher.claim_complete_files()
print(json.dumps(claimed))
"""
    watchers = [start(code), start(code)]
    for one in watchers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for number in range(files):
        draft = write_csv(workspace.data / f"draft-{number}", admissions(1))
        draft.rename(workspace.inbox / f"file-{number:03d}.csv")
    for one in watchers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    claims = [json.loads(told) for told in finish_all(watchers)]
    claimed = [delivery for each in claims for delivery in each]
    assert len(claimed) == len(set(claimed)) == files
    names = [found[1].name for delivery in claimed if (found := intake.arrival.claimed_file(workspace, delivery))]
    assert sorted(names) == [f"file-{number:03d}.csv" for number in range(files)]
    assert list(workspace.inbox.iterdir()) == []


def test_one_delivery_in_two_processes_is_loaded_once(workspace: Settings) -> None:
    delivery_id = intake.arrival.claim(workspace, write_csv(workspace.inbox / "a.csv", admissions(200)), "default")
    assert delivery_id
    code = """
try:
    report = intake.deliver(Lake(settings), sys.argv[1])
    print(report.status, report.created)
except intake.delivery.DeliveryInHandsError:
    print("in hands")
"""
    told = finish_all([start(code, delivery_id) for _ in range(3)])
    assert {line.strip() for line in told} <= {"loaded 200", "in hands"}
    assert "loaded 200\n" in told
    lake = Lake(workspace)
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions")[0]["n"] == 200
    assert len(lake.query("FROM clinical.deliveries")) == 1
    lake.close()


def test_a_delivery_killed_anywhere_is_whole_or_absent_and_whole_when_delivered_again(
    workspace: Settings, tmp_path: Path
) -> None:
    """kill -9 at a random moment of intake, fifty times (or TEST_KILLS times): the rows of each delivery are all
    there or none, and the next try, which is what the watcher's second announcement starts, makes them all there, once.
    Every second time it is three files that are loaded together, of which all or none are there.

    The processes to be killed are forked from one that has imported what they need and has DuckDB prepared, as the fast
    lane's are.
    """
    rounds, rows = int(os.environ.get("TEST_KILLS", "50")), 300
    moments = random.Random(20240507)
    nursery = start(
        """
import os
from medisync.backend.choice import backend_of
from medisync.intake import together
from medisync.lake.extensions import prepare_duckdb
prepare_duckdb(*backend_of(settings).extensions)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        lake = Lake(settings)
        lake.connection()
        print(f"ready {os.getpid()}", flush=True)
        sys.stdin.readline()
        source, *ids = line.split()
        if len(ids) == 1 or not together.deliver_together(lake, source, ids):
            intake.deliver(lake, ids[0])
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    lake = Lake(workspace)
    lake.connection()
    began = time.monotonic()
    intake.ingest(lake, write_csv(tmp_path / "first.csv", admissions(rows)), source="measure")
    usual_seconds = time.monotonic() - began
    tables = ("admissions", "conditions", "prescriptions", "patients")
    killed_before_the_commit, deliveries = 0, 1
    for number in range(rounds):
        source = f"round-{letters(number)}"
        files = 1 + 2 * (number % 2)
        ids = []
        for start_row in range(0, rows, rows // files):
            people = admissions(rows // files, start=1000 * number + start_row)
            ids.append(
                intake.arrival.claim(workspace, write_csv(workspace.inbox / source / "a.csv", people), source) or ""
            )
        deliveries += files
        nursery.stdin.write(f"{source} {' '.join(ids)}\n")
        nursery.stdin.flush()
        told = nursery.stdout.readline().split()
        assert told[:1] == ["ready"], nursery.communicate()[1]  # why it did not start
        nursery.stdin.write("go\n")
        nursery.stdin.flush()
        time.sleep(1.2 * usual_seconds * moments.random())
        with suppress(ProcessLookupError):  # it was quicker
            os.kill(int(told[1]), signal.SIGKILL)
        assert nursery.stdout.readline() == "ended\n"

        counts = ", ".join(
            f"(SELECT count(*) FROM clinical.{table} WHERE source = '{source}') AS {table}" for table in tables
        )
        found = lake.query(f"SELECT {counts}")[0]
        recorded = len(lake.query("FROM clinical.deliveries WHERE source = ?", [source]))
        assert {(found[table], recorded) for table in tables} in ({(0, 0)}, {(rows, files)}), number
        killed_before_the_commit += not recorded

        began = time.monotonic()
        reports = [] if recorded or files == 1 else together.deliver_together(lake, source, ids)
        reports = reports or [intake.deliver(lake, one) for one in ids]
        assert [one.delivery_id for one in reports] == ids
        assert {(one.status.value, one.created, one.rows_read) for one in reports} == {
            ("loaded", rows // files, rows // files)
        }
        if not recorded:  # how long one takes now, whatever else the machine does
            usual_seconds = time.monotonic() - began
    finish(nursery)
    print(f"{killed_before_the_commit} of {rounds} killed before their commit")  # noqa: T201 - the figures
    assert killed_before_the_commit > 0
    loaded = lake.query("SELECT source, count(*) AS n FROM clinical.admissions GROUP BY source")
    assert {row["n"] for row in loaded} == {rows}
    assert len(loaded) == rounds + 1
    assert len(lake.query("FROM clinical.deliveries")) == deliveries
    assert intake.arrival.claimed(workspace) == []
    assert len(list(workspace.archive.rglob("*a.csv"))) == deliveries - 1
    lake.close()


def test_an_ingest_killed_while_copying_leaves_no_half_file(workspace: Settings, tmp_path: Path) -> None:
    """The copy is held up half-way, as by a slow disk; what it copied so far is no delivery."""
    process = start(
        """
import shutil
from medisync.intake import arrival
def slowly(source, target):
    Path(target).write_bytes(Path(source).read_bytes()[:500])
    print("half", flush=True)
    time.sleep(60)
shutil.copyfile = slowly
intake.ingest(Lake(settings), Path(sys.argv[1]))
""",
        str(write_csv(tmp_path / "a.csv", admissions(50))),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    [delivery_id] = intake.arrival.claimed(workspace)
    assert intake.arrival.claimed_file(workspace, delivery_id) is None


def test_clean_up_twice_while_a_writer_writes_harms_nothing(workspace: Settings) -> None:
    lake = Lake(workspace)
    lake.connection()
    writer = start(
        """
lake = Lake(settings)
print("ready", flush=True)
for number in range(25):
    with lake.transaction("more") as transaction:
        transaction.execute("INSERT INTO clinical.patients SELECT 's', uuid(), 'other', NULL, 'A+', 'd' FROM range(50)")
        transaction.execute("INSERT INTO clinical.table_versions VALUES ('more', ?, 'd', now()::TIMESTAMP)", [number])
"""
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    cleaner = """
from medisync.runs.upkeep import clean_up
lake = Lake(settings)
for _ in range(2):
    clean_up(lake)
"""
    finish_all([writer, start(cleaner), start(cleaner)])
    assert lake.query("SELECT count(*) AS n FROM clinical.patients")[0]["n"] == 25 * 50
    assert len(lake.query("FROM clinical.table_versions")) == 25
    assert finish(start("print(Lake(settings).query('SELECT count(*) AS n FROM clinical.patients'))")) == (
        f"[{{'n': {25 * 50}}}]\n"
    )
    lake.close()
