"""Every disagreement of lake, ledger and files is named; what is safe is mended, the rest stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medisync import intake
from medisync.lake import Lake
from medisync.ledger import Claims, open_ledger
from medisync.runs.publishing import publish
from medisync.runs.releasing import released_document
from medisync.settings import Settings
from medisync.upkeep import health
from medisync.upkeep.disk import disk_use
from tests.support.admissions_csv import admissions, write_csv
from tests.unit.disclosure.test_release import grid
from tests.unit.disclosure.test_releasing import record


def faults(lake: Lake, *, mend: bool = False) -> dict[str, list[str]]:
    return {look.what: look.faults for look in health.examine(lake, mend=mend) if look.faults}


def old(path: Path) -> Path:
    os.utime(path, (1e9, 1e9))
    return path


def test_each_fault_is_named_and_what_is_safe_is_mended(lake: Lake, tmp_path: Path) -> None:
    settings = lake.settings
    report = intake.ingest(lake, write_csv(tmp_path / "a.csv", admissions(20)))
    publish(lake, record(lake, "r1"), grid([[40, 3]], margins=False))
    (settings.reports / "runs" / "r1").mkdir(parents=True)
    (settings.reports / "runs" / "r1" / "report.html").write_text("x")
    health.examine(lake, mend=True)
    assert faults(lake) == {}

    (settings.keys / "pseudonyms.key").chmod(0o644)
    (settings.reports / "runs" / "r1" / "report.html").unlink()
    orphan = old(Path(write_csv(lake.files / "clinical" / "patients" / "ducklake-nobody.parquet", [])))
    with lake.transaction("lost") as transaction:
        transaction.execute("DELETE FROM lake.analytics.results WHERE audience = 'released'")
    claims = Claims(open_ledger(settings))
    claims.add(report.delivery_id, "default")
    claims.add("d20200101T000000-aaaaaa", "default")
    (settings.quarantine / "d20200101T000000-bbbbbb.csv").touch(0o600)
    forgotten = settings.processing / "d20200101T000000-cccccc"
    (forgotten / "file").mkdir(parents=True, mode=0o700)
    forgotten.chmod(0o700)
    (forgotten / "file" / "patient.csv").touch(0o600)
    for path in (settings.processing / "d20200101T000000-dddddd", settings.processing / "d20200101T000000-dddddd/file"):
        path.mkdir(mode=0o700)
    old(settings.processing / "d20200101T000000-dddddd")
    old(forgotten)
    found = faults(lake)
    assert found["Permissions"] == ["keys/pseudonyms.key can be read by others"]
    assert found["Data files"] == ["ducklake-nobody.parquet is nobody's (medisync doctor --mend)"]
    assert found["Reports"] == ["the report of run r1 is missing"]
    unmendable = [
        "claim d20200101T000000-aaaaaa has neither a file nor a delivery",
        "processing/d20200101T000000-cccccc has lain there for more than an hour",
        "quarantine/d20200101T000000-bbbbbb belongs to no delivery",
    ]
    assert set(found["Deliveries"]) == {
        f"claim {report.delivery_id} is open, its delivery on record (medisync doctor --mend)",
        "processing/d20200101T000000-dddddd has lain there for more than an hour",
        *unmendable,
    }
    assert "patient" not in str(found)

    assert faults(lake, mend=True) == {"Deliveries": unmendable}
    assert faults(lake) == {"Deliveries": unmendable}
    assert not orphan.exists()
    assert released_document(lake, "r1") is not None
    assert (settings.reports / "runs" / "r1" / "report.html").stat().st_size > 1000
    assert (settings.keys / "pseudonyms.key").stat().st_mode & 0o777 == 0o600
    assert (forgotten / "file" / "patient.csv").exists()
    assert lake.query("SELECT count(*) AS n FROM clinical.admissions") == [{"n": 20}]

    lost = next((lake.files / "clinical" / "admissions").rglob("*.parquet"))
    lost.rename(tmp_path / lost.name)
    with lake.transaction("lost") as transaction:
        transaction.execute("DELETE FROM lake.analytics.results")
    found = faults(lake, mend=True)
    assert found["Data files"] == [f"clinical/admissions/{lost.name} is missing"]
    assert found["Results"] == ["run r1 is completed and has no result"]


def test_a_changed_audit_log_is_told(lake: Lake) -> None:
    import sqlalchemy as sa

    from medisync.access import audit

    ledger = open_ledger(lake.settings)
    audit.record(ledger, "ada", "release requested", "x")
    assert faults(lake) == {}
    with ledger.begin() as connection:
        connection.execute(sa.text("UPDATE audit_log SET who = 'eve'"))
    assert "row 1 was changed" in faults(lake)["Databases"][0]


@pytest.mark.parametrize(("least", "enough"), [(0.0, True), (1e9, False)])
def test_too_little_free_disk_is_told(workspace: Settings, least: float, enough: bool) -> None:
    (workspace.archive / "x.csv").write_bytes(b"x" * 2_000_000)
    use = disk_use(workspace.model_copy(update={"disk_least_free_gb": least}))
    assert use.is_enough is enough
    assert use.parts["archive"] == 2_000_000
    assert "archive 2 MB" in use.sentence()
    assert ("less than" in use.sentence()) is not enough
