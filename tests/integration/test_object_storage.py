"""The lake's files in a bucket of a real S3 server: written, read, merged, expired, looked after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medisync import intake
from medisync.backend.object_storage import StorageAwayError, StorageKeysError
from medisync.intake import DeliveryStatus
from medisync.lake import Lake, Snapshot
from medisync.runs import upkeep
from medisync.settings import Settings
from medisync.upkeep.backup import BackupTargetError, backup
from medisync.upkeep.health import data_files
from tests.conftest import make_workspace
from tests.support.admissions_csv import admission, write_csv
from tests.support.s3_server import BUCKET, S3Server, s3_server


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: S3Server) -> Settings:
    """An empty workspace whose lake's files belong into a bucket of their own; keys are in a file."""
    credentials = tmp_path / "credentials"
    keys = "\n".join(f"{name.lower()} = {value}" for name, value in storage.environment.items())
    credentials.write_text(f"[default]\n{keys}\n", encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    place = f"s3://{BUCKET}/{tmp_path.name}"
    return make_workspace(tmp_path, monkeypatch, lake_files=place, s3_endpoint=storage.endpoint)


def test_a_lake_in_a_bucket(in_a_bucket: Settings, tmp_path: Path) -> None:
    lake = Lake(in_a_bucket)
    for number in range(3):
        rows = [admission(10 * number + one) for one in range(10)]
        report = intake.ingest(lake, write_csv(tmp_path / f"{number}.csv", rows))
        assert report.status is DeliveryStatus.LOADED, report.message
    assert not list(in_a_bucket.data.rglob("*.parquet"))  # nothing of it is here
    there = lake.data_files()
    assert there
    assert all(size > 0 for size in there.values())
    assert data_files(lake, False).is_well

    first = lake.query("SELECT min(snapshot_id) AS id FROM lake.snapshots() WHERE commit_message LIKE 'delivery%'")[0]
    with Snapshot(in_a_bucket, int(first["id"])) as then, Snapshot(in_a_bucket) as now:
        count = "SELECT count(*) AS n, count(DISTINCT patient_key) AS p FROM clinical.admissions"
        assert (then.query(count)["n"][0], now.query(count)["n"][0]) == (10, 30)

    upkeep._tidy_lake(lake, [int(first["id"])])
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions")[0]["n"] == 30
    assert data_files(lake, False).is_well
    with lake.lock():  # a day later
        lake.cursor().execute("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")
    assert len(lake.data_files()) < len(there)
    assert lake.query("SELECT count(*) AS n FROM clinical.prescriptions")[0]["n"] == 30
    lake.close()


def test_a_lost_file_is_noticed(in_a_bucket: Settings, tmp_path: Path) -> None:
    lake = Lake(in_a_bucket)
    intake.ingest(lake, write_csv(tmp_path / "one.csv", [admission(number) for number in range(10)]))
    name = next(one for one in lake.data_files() if "/admissions/" in one)
    lake.cursor().execute(f"COPY (SELECT 1) TO '{in_a_bucket.lake_place}/{name}' (FORMAT parquet)")
    look = data_files(lake, False)
    assert look.faults == [f"{name} has another size than written"]
    with pytest.raises(BackupTargetError, match=r"lie in s3://"):  # rather than a backup without them
        backup(lake, tmp_path / "backups")
    lake.close()


def test_keys_that_are_wrong_or_missing(
    in_a_bucket: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageKeysError, match="AWS_SHARED_CREDENTIALS_FILE"):
        Lake(in_a_bucket).connection()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ward-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "it's wrong")
    with pytest.raises(StorageKeysError, match="403") as refused:
        Lake(in_a_bucket).connection()
    assert "it's wrong" not in str(refused.value) + capfd.readouterr().err
    away = in_a_bucket.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    with pytest.raises(StorageAwayError, match=r"127\.0\.0\.1:9 does not answer"):
        Lake(away).connection()
