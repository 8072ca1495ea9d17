"""Rotating the key: everybody gets a new pseudonym, nobody gets lost, whenever the power fails."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from medisync import intake
from medisync.analyses import medication_analysis, patient_demographics
from medisync.cli.main import app
from medisync.intake import DeliveryStatus, births, generations, pseudonyms, rekeying
from medisync.lake import Lake, Snapshot
from medisync.settings import Settings
from tests.conftest import ROOT
from tests.support.admissions_csv import admission, admissions, write_csv

KEYED = {
    "patients": ("patient_key",),
    "admissions": ("admission_key", "patient_key", "practitioner_key"),
    "conditions": ("admission_key", "patient_key"),
    "prescriptions": ("admission_key", "patient_key"),
}
VALUES = "admitted_at, site, age_years, insurer, billing_amount, room"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Two deliveries, the second with one changed row, so that there is history. Each test rotates once more."""
    folder = tmp_path_factory.mktemp("rekeying")
    lake = Lake(Settings(data=folder / "data", reports=folder / "reports"))
    intake.ingest(lake, write_csv(folder / "one.csv", admissions(60)))
    intake.ingest(lake, write_csv(folder / "two.csv", with_bill("17.5")))
    yield lake
    lake.close()


def with_bill(amount: str) -> list[dict[str, str]]:
    """All admissions, the first with another bill."""
    return [admission(0, Billing_Amount=amount), *admissions(60)[1:]]


def generation_of(lake: Lake) -> int:
    rows = lake.query("SELECT max(generation) AS n FROM clinical.key_generations")
    return int(rows[0]["n"])


def keys(lake: Lake) -> dict[str, set[str]]:
    return {
        f"{table}.{column}": {str(row["k"]) for row in lake.query(f"SELECT {column} AS k FROM clinical.{table}")}
        for table, columns in KEYED.items()
        for column in columns
    }


def story(lake: Lake) -> list[tuple[object, ...]]:
    """What the lake says of each patient, in an order that no key decides."""
    rows = lake.query(
        f"SELECT {VALUES}, gender, blood_type, condition, medication, count(*) OVER (PARTITION BY a.practitioner_key) "
        "AS of_doctor FROM clinical.admissions a JOIN clinical.patients p ON a.patient_key = p.patient_key "
        "JOIN clinical.conditions c ON c.admission_key = a.admission_key AND c.patient_key = a.patient_key "
        "JOIN clinical.prescriptions d ON d.admission_key = a.admission_key ORDER BY ALL"
    )
    return [tuple(row.values()) for row in rows]


def results(settings: Settings) -> list[str]:
    found = []
    with Snapshot(settings) as snapshot:
        for analysis in (patient_demographics, medication_analysis):
            params = analysis.Params()
            found.append(analysis.compute(analysis.load(snapshot, params), params).model_dump_json())
    return found


def test_every_key_changes_and_nothing_else(loaded: Lake) -> None:
    before, told, computed = keys(loaded), story(loaded), results(loaded.settings)
    versions = loaded.query("FROM clinical.table_versions ORDER BY ALL")
    superseded = loaded.query("SELECT admission_key AS k FROM clinical.superseded_admissions")
    rotation = rekeying.rotate(loaded)
    after = keys(loaded)
    assert (len(told), rotation.generation) == (60, 2)
    assert generation_of(loaded) == 2
    assert {name: len(found) for name, found in after.items()} == {name: len(found) for name, found in before.items()}
    assert all(not after[name] & before[name] for name in before)
    assert story(loaded) == told
    assert results(loaded.settings) == computed
    assert loaded.query("FROM clinical.table_versions ORDER BY ALL") == versions  # no analysis runs anew
    assert rotation.rows["clinical.admissions"] == len(loaded.query("FROM clinical.admissions"))
    kept = {str(row["k"]) for row in loaded.query("SELECT admission_key AS k FROM clinical.superseded_admissions")}
    assert len(kept) == len(superseded) > 0
    assert kept <= after["admissions.admission_key"]  # history goes with its admission


def test_later_deliveries_know_everybody_again(loaded: Lake, tmp_path: Path) -> None:
    rekeying.rotate(loaded)
    report = intake.ingest(loaded, write_csv(tmp_path / "later.csv", with_bill("18.5")))
    assert (report.status, report.created, report.updated, report.unchanged) == (DeliveryStatus.LOADED, 0, 1, 59)
    assert len(loaded.query("FROM clinical.patients")) == 60


def test_a_later_key_is_applied_to_the_pseudonym_before() -> None:
    first, second = bytes(range(32)), bytes(range(32, 64))
    with duckdb.connect() as connection:

        def pseudonym(key: bytes) -> str:
            pseudonyms.install(connection, key, "s")
            row = connection.execute("SELECT patient_pseudonym('x')::VARCHAR, patient_pseudonym(NULL)").fetchone()
            pseudonyms.forget(connection)
            assert row is not None
            assert row[1] is None
            return str(row[0])

        once, twice = pseudonym(first), pseudonym(first + second)
        subkey = hmac.digest(second, b"pseudonym", "sha256")[:16]
        assert twice == str(uuid.UUID(hashlib.sha256(subkey + once.encode()).hexdigest()[:32]))
        assert connection.execute("SELECT count(*) FROM duckdb_variables() WHERE value IS NOT NULL").fetchone() == (0,)


def test_dates_of_birth_go_with_their_patients(loaded: Lake) -> None:
    path = births.store(loaded.settings, "default")
    path.parent.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE d (patient_key UUID, birth_date DATE)")
        first = str(loaded.query("SELECT min(patient_key) AS k FROM clinical.patients")[0]["k"])
        connection.execute("INSERT INTO d VALUES (?, '1950-02-03')", [first])
        connection.execute(f"COPY d TO '{path}' (FORMAT parquet)")
        rekeying.rotate(loaded)
        rows = connection.execute(f"SELECT patient_key::VARCHAR FROM '{path}'").fetchall()
    assert len(rows) == 1
    assert rows[0][0] in keys(loaded)["patients.patient_key"]
    assert list(path.parent.iterdir()) == [path]
    path.unlink()  # the other tests' ages come from their files


CRASH = """
import os, sys
from medisync.intake import rekeying
from medisync.lake import Lake
from medisync.settings import load_settings
def die(*_):
    os._exit(9)
target, name = sys.argv[1].rsplit(".", 1)
owner = rekeying if target == "rekeying" else Lake
old = getattr(owner, name)
if sys.argv[2] == "before":
    setattr(owner, name, die)
else:
    setattr(owner, name, lambda *a, **k: (old(*a, **k), die()))
rekeying.rotate(Lake(load_settings()))
"""


@pytest.mark.parametrize(
    ("place", "moment", "is_committed"),
    [("rekeying._record", "after", False), ("rekeying._put_dates_in_place", "before", True)],
)
def test_a_rotation_that_dies_is_finished_by_the_next_delivery(
    loaded: Lake, tmp_path: Path, place: str, moment: str, is_committed: bool
) -> None:
    generation, before, told = generation_of(loaded), keys(loaded), story(loaded)
    folders = {"MEDISYNC_DATA": str(loaded.settings.data), "MEDISYNC_REPORTS": str(loaded.settings.reports)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **folders}
    died = subprocess.run([sys.executable, "-c", CRASH, place, moment], env=environment, cwd=ROOT, check=False)
    assert died.returncode == 9
    assert len(pseudonyms.pseudonym_key(loaded.settings)) == (generation + 1) * generations.KEY_BYTES
    assert (keys(loaded) != before) is is_committed  # all of it, or nothing
    report = intake.ingest(loaded, write_csv(tmp_path / "next.csv", with_bill(f"9.{generation}")))
    assert (report.created, report.updated, report.deleted) == (0, 1, 0)
    after = keys(loaded)
    assert all(not after[name] & before[name] for name in before)
    assert [row[:3] for row in story(loaded)] == [row[:3] for row in told]
    assert generation_of(loaded) == generation + 1


def test_a_delivery_staged_before_a_rotation_is_staged_again(
    loaded: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm, tried = rekeying.confirm, []

    def confirm_late(transaction: duckdb.DuckDBPyConnection, staged_with: bytes) -> None:
        tried.append(len(staged_with) // generations.KEY_BYTES)
        if len(tried) == 1:  # as if another process had rotated in between
            raise rekeying.KeyRotatedError("rotated")
        confirm(transaction, staged_with)

    monkeypatch.setattr(rekeying, "confirm", confirm_late)
    number = generation_of(loaded)
    report = intake.ingest(loaded, write_csv(tmp_path / "more.csv", with_bill("20.5")))
    assert (report.status, report.updated, tried) == (DeliveryStatus.LOADED, 1, [number, number])
    with loaded.transaction("x") as transaction, pytest.raises(rekeying.KeyRotatedError):
        confirm(transaction, bytes((number + 1) * generations.KEY_BYTES))


def test_another_key_file_is_refused_and_nothing_is_loaded(loaded: Lake, tmp_path: Path) -> None:
    path = loaded.settings.keys / "pseudonyms.key"
    kept = path.read_bytes()
    for wrong in (bytes(len(kept)), kept[:-1], b""):
        path.write_bytes(wrong)
        with pytest.raises(rekeying.WrongKeyError):
            intake.ingest(loaded, write_csv(tmp_path / "more.csv", [*with_bill("21.5"), admission(60)]))
        assert len(loaded.query("FROM clinical.admissions")) == 60
    path.write_bytes(kept)
    assert intake.ingest(loaded, tmp_path / "more.csv").created == 1


def test_the_command_names_snapshots_that_hold_old_keys(loaded: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDISYNC_DATA", str(loaded.settings.data))
    monkeypatch.setenv("MEDISYNC_REPORTS", str(loaded.settings.reports))
    generation = generation_of(loaded)
    pinned = loaded.last_snapshot_id()
    with loaded.transaction("a run") as transaction:
        transaction.execute(
            "INSERT INTO lake.analytics.runs (run_id, analysis, status, run_key, snapshot_id, parameters, "
            "parameters_hash, notebook_hash, code_version, started_at, finished_at, seconds, record) "
            "VALUES ('r', 'a', 'completed', 'k', ?, '{}', 'p', 'n', 'c', now(), now(), 1, '{}')",
            [pinned],
        )
    loaded.close()
    result = CliRunner().invoke(app, ["pseudonyms", "rotate"])
    assert result.exit_code == 0, result.output
    assert f"spares them: {pinned}." in result.output
    assert f"generation {generation + 1}" in CliRunner().invoke(app, ["pseudonyms", "status"]).output
    with Snapshot(loaded.settings, pinned) as snapshot:
        assert len(snapshot.query("FROM clinical.admissions")) > 59
