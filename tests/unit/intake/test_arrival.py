"""Files that arrive: which count, when they are complete, and that each is claimed once and survives a crash."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import stat
import time
import uuid
from pathlib import Path

import pytest

from medisync import intake
from medisync.intake import DeliveryStatus, arrival, inbox_notices, labels, watcher
from medisync.intake.watcher import Watcher
from medisync.lake import Lake
from medisync.ledger import ClaimState
from medisync.settings import Settings
from tests.support.admissions_csv import SURNAME, admission, admissions, write_csv
from tests.support.powers import without_root_powers
from tests.support.running import PATIENCE_SECONDS

KNOWN_ANSWERS = {
    "admission": "1394725d-3436-6e78-73fe-65ef13fbf298",
    "patient": "5138fbb8-5b92-bd0e-7740-bfc1866ce23c",
    "practitioner": "2fdd2fbc-5994-aec5-73be-0dfdac86323b",
}
"""Pseudonyms of one text by a key of the bytes 0 to 31, computed by Python's hashlib and hmac."""


@pytest.fixture
def watching(workspace: Settings) -> Watcher:
    made = Watcher(workspace)
    yield made
    made.close()


def claim_all(watching: Watcher) -> list[str]:
    """Two looks: with a settle time of 0 a file that rested between them is complete."""
    return [*watching.claim_complete_files(), *watching.claim_complete_files()]


@pytest.mark.parametrize(
    "name", [".hidden.csv", "a.csv.part", "a.csv.tmp", "A.CRDOWNLOAD", "~$a.csv", "a.csv~", "#a.csv#", ".a.csv.swp"]
)
def test_temporary_names_are_left_alone(workspace: Settings, name: str) -> None:
    (workspace.inbox / name).write_text("x")
    (workspace.inbox / "ward").mkdir()
    (workspace.inbox / "ward" / name).write_text("x")
    assert list(arrival.waiting(workspace)) == []


def test_a_folder_of_the_inbox_is_a_source(workspace: Settings) -> None:
    for name in ("top.csv", "ward-a/one.csv", "Ward B!/two.csv", "ü/three.csv"):
        write_csv(workspace.inbox / name, admissions(1))
    found = {(source, path.name) for source, path in arrival.waiting(workspace)}
    assert found == {("default", "top.csv"), ("ward-a", "one.csv"), ("ward-b", "two.csv"), ("default", "three.csv")}


def test_a_file_that_grows_or_is_open_for_writing_waits(workspace: Settings) -> None:
    completeness = arrival.Completeness(settle_seconds=0.05)
    path = workspace.inbox / "a.csv"
    with path.open("w") as file:
        for _ in range(3):
            file.write("x")
            file.flush()
            assert not completeness.is_complete(path)
            time.sleep(0.06)
        assert not completeness.is_complete(path)
        time.sleep(0.06)
        assert not completeness.is_complete(path)  # at rest, but open for writing
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not completeness.is_complete(path):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not completeness.is_complete(workspace.inbox / "none.csv")


def test_a_watcher_claims_each_file_once(workspace: Settings, watching: Watcher) -> None:
    for number in range(3):
        write_csv(workspace.inbox / f"{number}.csv", admissions(number + 1))
    claimed = claim_all(watching)
    assert len(claimed) == 3
    assert claim_all(watching) == []
    assert list(workspace.inbox.iterdir()) == []
    assert sorted(arrival.claimed(workspace)) == sorted(claimed)


def test_what_a_crash_left_is_found_again(workspace: Settings) -> None:
    """Killed between the rename and the ledger: the next watcher announces it, the claim is in the ledger then."""
    delivery_id = arrival.claim(workspace, write_csv(workspace.inbox / "a.csv", admissions(2)), "ward")
    assert delivery_id
    later = Watcher(workspace)
    told: list[tuple[str, str]] = []
    later._announce = lambda delivery, source: not told.append((delivery, source))  # type: ignore[method-assign]
    later.step()
    later.step()
    assert told == [(delivery_id, "ward")]  # once: it is announced now
    claim = later._claims.get(delivery_id)
    assert claim is not None
    assert claim.state is ClaimState.ANNOUNCED
    later.close()


def test_an_announced_delivery_nobody_works_on_is_announced_again(
    lake: Lake, watching: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(watching, "_announce", lambda delivery, _source: not told.append(delivery))
    write_csv(lake.settings.inbox / "a.csv", admissions(2))
    [delivery_id] = claim_all(watching)
    watching.step()
    monkeypatch.setattr(watcher, "ANNOUNCE_AGAIN_SECONDS", 0.0)
    with arrival.sole_worker(lake.settings, delivery_id):
        watching.step()
    assert told == [delivery_id]  # somebody is at it
    watching.step()
    assert told == [delivery_id] * 2
    intake.deliver(lake, delivery_id)
    watching.step()
    assert told == [delivery_id] * 2
    claim = watching._claims.get(delivery_id)
    assert claim is not None
    assert claim.state is ClaimState.FINISHED


def test_without_a_server_files_are_claimed_and_wait(
    workspace: Settings, watching: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing listens on the port; what is claimed stays open, and the log says so once."""
    watching._client.base_url = "http://127.0.0.1:9/api"
    write_csv(workspace.inbox / "a.csv", admissions(2))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            watching.step()
    [claim] = watching._claims.open()
    assert claim.state is ClaimState.CLAIMED
    assert [record.message for record in caplog.records] == [
        "The Prefect server does not take deliveries (ConnectError); trying again."
    ]


def test_an_ingest_in_progress_is_not_announced(workspace: Settings, watching: Watcher, tmp_path: Path) -> None:
    told: list[str] = []
    watching._announce = lambda delivery, _source: not told.append(delivery)  # type: ignore[method-assign]
    delivery_id = arrival.reserve(workspace, "default")
    with arrival.sole_worker(workspace, delivery_id):
        watching.step()  # before the copy
        arrival.copy_in(workspace, delivery_id, write_csv(tmp_path / "a.csv", admissions(2)))
        watching.step()  # after it
    assert told == []
    watching.step()  # and now that whoever it was died
    assert told == [delivery_id]


def test_half_a_copy_is_never_taken_for_the_file(workspace: Settings) -> None:
    delivery_id = arrival.reserve(workspace, "default")
    (workspace.processing / delivery_id / "draft").write_text("Name,Age")
    assert arrival.claimed_file(workspace, delivery_id) is None


def test_a_crash_during_a_copy_leaves_nothing_for_long(workspace: Settings, watching: Watcher) -> None:
    delivery_id = arrival.reserve(workspace, "default")
    folder = workspace.processing / delivery_id
    (folder / "draft").write_text("Name,Age")
    watching.step()
    assert folder.exists()  # it may be going on
    long_ago = time.time() - 2 * arrival.ABANDONED_SECONDS
    os.utime(folder, (long_ago, long_ago))
    with arrival.sole_worker(workspace, delivery_id):
        watching.step()
    assert folder.exists()  # it is going on
    watching.step()
    assert not folder.exists()


def test_odd_things_in_the_inbox_are_refused_and_the_next_file_is_loaded(
    lake: Lake, watching: Watcher, tmp_path: Path
) -> None:
    """A link, a pipe, an unreadable file: the service goes on. A folder in a source's folder is a delivery."""
    settings = lake.settings
    inbox = settings.inbox
    (inbox / "link.csv").symlink_to(write_csv(tmp_path / "elsewhere.csv", admissions(3)))
    (inbox / "broken.csv").symlink_to(tmp_path / "nowhere.csv")
    (inbox / "ward" / "folder.csv").mkdir(parents=True)
    write_csv(inbox / "ward" / "folder.csv" / "inner.csv", admissions(4))
    os.mkfifo(inbox / "pipe.csv")
    write_csv(inbox / "secret.csv", admissions(5)).chmod(0)
    write_csv(inbox / "good.csv", admissions(6))
    lake.connection()
    with without_root_powers():
        reports = [intake.deliver(lake, delivery_id) for delivery_id in claim_all(watching)]
    assert sorted((report.status.value, str(report.reason)) for report in reports) == [
        ("loaded", "None"),
        ("loaded", "None"),
        ("refused", "NOT_A_FILE"),
        ("refused", "NOT_A_FILE"),
        ("refused", "NOT_A_FILE"),
        ("refused", "UNREADABLE"),
    ]
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions")[0]["n"] == 10
    assert [path.name for path in inbox.iterdir()] == ["ward"]
    assert arrival.claimed(settings) == []
    assert (tmp_path / "elsewhere.csv").exists()
    notes = list(settings.refused.glob("*.reason.txt"))
    assert len(notes) == 4
    assert {stat.S_IMODE(note.stat().st_mode) for note in notes} == {0o600}


def test_a_file_that_cannot_be_taken_is_said_once(
    workspace: Settings, watching: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    folder = workspace.inbox / "ward"
    write_csv(folder / f"{SURNAME}.csv", admissions(2))
    write_csv(workspace.inbox / "good.csv", admissions(3))
    folder.chmod(0o500)
    with without_root_powers(), caplog.at_level(logging.INFO):
        claimed = [delivery for _ in range(4) for delivery in watching.claim_complete_files()]
    assert len(claimed) == 1  # the other one
    complaints = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert complaints == ["A file of source ward cannot be claimed: Permission denied"]
    assert SURNAME not in caplog.text
    assert arrival.claimed(workspace) == claimed
    folder.chmod(0o700)
    assert len(claim_all(watching)) == 1


class TestLabels:
    NAMED_AFTER_PATIENTS = (
        f"Quenaaab_{SURNAME}.csv",
        f"{SURNAME.upper()}.csv",
        f"report quenaaab{SURNAME}.csv",
        f"Quenaaab{SURNAME}7.csv",
        f"export-{SURNAME}Quenaaab.csv",
        "Jürgen 2024.csv",
        "Ju\u0308rgen.csv",
        "2024ÅSA.csv",
    )

    def test_a_file_called_after_a_patient_is_not_named(self, lake: Lake, tmp_path: Path) -> None:
        rows = [*admissions(3), admission(7, Name="Jürgen Åsa Müller")]
        for number, name in enumerate(self.NAMED_AFTER_PATIENTS):
            report = intake.ingest(lake, write_csv(tmp_path / name, rows), source=f"source-{number}")
            assert report.status is DeliveryStatus.LOADED
            assert report.file_label == "(name withheld).csv", name
            assert Path(name).stem not in report.sentence()
        labelled = lake.query("SELECT DISTINCT file_label FROM clinical.deliveries")
        assert labelled == [{"file_label": "(name withheld).csv"}]

    def test_other_names_are_kept(self, lake: Lake, tmp_path: Path) -> None:
        report = intake.ingest(lake, write_csv(tmp_path / "Ward 7 (Q3).csv", admissions(3)))
        assert report.file_label == "Ward 7 (Q3).csv"

    def test_a_file_nobody_could_read_is_named_by_harmless_words_only(self) -> None:
        assert labels.label("healthcare_dataset_2024.csv.gz", None) == "healthcare_dataset_2024.csv.gz"
        assert labels.label("Smith.csv.gz", None) == "(name withheld).csv.gz"
        assert labels.label("data\nof\x1b[31m.csv", set()).isprintable()


def test_the_key_is_made_once_and_is_for_the_owner_alone(workspace: Settings) -> None:
    key = intake.pseudonyms.pseudonym_key(workspace)
    assert len(key) == 32
    assert intake.pseudonyms.pseudonym_key(workspace) == key
    [path] = workspace.keys.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_pseudonyms_are_keyed_hashes_by_purpose(lake: Lake) -> None:
    key = b"k" * 32
    cursor = lake.cursor()
    intake.pseudonyms.install(cursor, key, "ward")
    for purpose, subject in (("admission", "admission\x1fward"), ("patient", "patient"), ("practitioner",) * 2):
        subkey = hmac.new(key, subject.encode(), hashlib.sha256).digest()[:16]
        for message in ("", "jürgen", "x" * 200):
            row = cursor.execute(f"SELECT {purpose}_pseudonym(?)", [message]).fetchone()
            text = subkey + message.encode()
            is_person = purpose != "admission"
            digest = hashlib.sha256(text).digest()[:16] if is_person else hashlib.md5(text).digest()[::-1]
            assert row == (uuid.UUID(bytes=digest),)
        assert cursor.execute(f"SELECT {purpose}_pseudonym(NULL)").fetchone() == (None,)
    intake.pseudonyms.forget(cursor)
    assert cursor.execute("SELECT getvariable('patient_subkey')").fetchone() == (None,)


def test_pseudonyms_never_change(lake: Lake) -> None:
    """Known answers: a lake's keys must be met again by every later version."""
    cursor = lake.cursor()
    intake.pseudonyms.install(cursor, bytes(range(32)), "ward")
    text = "jürgen ünal\x1f19000\x1fhill hospital"
    answers = [cursor.execute(f"SELECT {one}_pseudonym(?)::VARCHAR", [text]).fetchone() for one in KNOWN_ANSWERS]
    assert answers == [(one,) for one in KNOWN_ANSWERS.values()]
    intake.pseudonyms.forget(cursor)


class TestNotices:
    """A settle time of an hour: only what the system tells can make a file complete within the test."""

    @pytest.fixture
    def patient(self, workspace: Settings) -> Watcher:
        made = Watcher(workspace.model_copy(update={"inbox_settle_seconds": 3600.0, "inbox_poll_seconds": 5.0}))
        yield made
        made.close()

    def test_a_file_moved_in_is_claimed_at_the_first_look(self, workspace: Settings, patient: Watcher) -> None:
        (workspace.inbox / "ward").mkdir()
        patient.wait()  # hears of the new folder
        for folder in (workspace.inbox, workspace.inbox / "ward"):
            write_csv(folder / ".a.csv", admissions(2)).rename(folder / "a.csv")
        patient.wait()
        assert len(patient.claim_complete_files()) == 2
        assert patient.claim_complete_files() == []

    def test_a_file_moved_in_while_it_is_written_waits(self, workspace: Settings, patient: Watcher) -> None:
        with (workspace.inbox / ".a.csv").open("w") as file:
            (workspace.inbox / ".a.csv").rename(workspace.inbox / "a.csv")
            patient.wait()
            assert patient.claim_complete_files() == []
            file.write("x")
        patient.wait()  # hears that it is closed, which is not as sure a sign
        assert claim_all(patient) == []

    def test_a_closed_file_rests_a_part_of_the_time(
        self, workspace: Settings, patient: Watcher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_csv(workspace.inbox / "a.csv", admissions(2))
        patient.wait()
        assert claim_all(patient) == []
        monkeypatch.setattr(arrival, "CLOSED_SHARE", 0.0)
        assert len(patient.claim_complete_files()) == 1

    def test_what_was_told_of_an_earlier_file_says_nothing_of_a_later_one(
        self, workspace: Settings, patient: Watcher
    ) -> None:
        path = workspace.inbox / "a.csv"
        write_csv(workspace.inbox / ".a.csv", admissions(2)).rename(path)
        path.unlink()
        path.touch()
        patient.wait()
        assert claim_all(patient) == []

    def test_where_the_system_tells_nothing_files_wait(
        self, workspace: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inbox_notices, "_open", lambda: -1)
        quick = Watcher(workspace.model_copy(update={"inbox_settle_seconds": 0.0, "inbox_poll_seconds": 0.01}))
        write_csv(workspace.inbox / ".a.csv", admissions(2)).rename(workspace.inbox / "a.csv")
        quick.wait()
        assert quick.claim_complete_files() == []
        assert len(quick.claim_complete_files()) == 1
        quick.close()


def test_a_repeat_is_recorded_without_a_flow(
    lake: Lake, watching: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(watching, "_announce", lambda delivery, _source: not told.append(delivery))
    first = intake.ingest(lake, write_csv(tmp_path / "a.csv", admissions(2)))
    for name, number in (("again.csv", 2), ("new.csv", 3), ("ward/other-source.csv", 2)):
        write_csv(lake.settings.inbox / name, admissions(number))
    watching.step()
    watching.step()
    [repeat] = lake.query("SELECT * FROM clinical.deliveries WHERE status = 'repeat'")
    assert repeat["reason"] == first.delivery_id
    assert repeat["delivery_id"] not in told
    assert len(told) == 2
    assert sorted(arrival.claimed(lake.settings)) == sorted(told)
    assert [path.name for path in (lake.settings.archive / "default").iterdir()].count(
        f"{repeat['delivery_id']}-again.csv"
    ) == 1


def test_a_repeat_is_left_to_the_flow_while_the_lake_is_written(
    lake: Lake, watching: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(watching, "_announce", lambda delivery, _source: not told.append(delivery))
    intake.ingest(lake, write_csv(tmp_path / "a.csv", admissions(2)))
    write_csv(lake.settings.inbox / "again.csv", admissions(2))
    with lake.lock(seconds=1):
        watching.step()
        watching.step()
    assert len(told) == 1
    assert intake.deliver(lake, told[0]).status is DeliveryStatus.REPEAT
