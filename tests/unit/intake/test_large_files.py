"""What is large or compressed takes other ways through the intake, to the same result."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from medisync import intake
from medisync.intake import DeliveryReport, DeliveryStatus, delimited, parts, quality, shelf, staging
from medisync.intake.changes import changes
from medisync.intake.parts import HARMLESS_BYTES
from medisync.intake.reading import content_hash
from medisync.lake import Lake
from medisync.runs.upkeep import clean_up
from medisync.settings import Settings
from medisync.upkeep import health
from tests.support.admissions_csv import SURNAME, admission, admissions, text_of, write_csv

TABLES = ("patients", "admissions", "conditions", "prescriptions")
COUNTS = ("rows_read", "created", "updated", "deleted", "unchanged", "quarantined", "duplicates_exact", "faults")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("large")
    opened = Lake(Settings(data=folder / "data", reports=folder / "reports"), threads=2)
    yield opened
    opened.close()


def content(lake: Lake, source: str) -> dict[str, list[dict[str, Any]]]:
    """What the lake has of ``source``, but for what differs between sources and deliveries."""
    kept = "* EXCLUDE (source, delivery_id)"
    found = {}
    for table in TABLES:
        rows = lake.query(f"SELECT {kept} FROM clinical.{table} WHERE source = ?", [source])
        found[table] = sorted(({k: v for k, v in row.items() if k != "admission_key"} for row in rows), key=str)
    return found


def quarantined(lake: Lake, report: DeliveryReport) -> list[list[str]]:
    with (lake.settings.quarantine / f"{report.delivery_id}.csv").open(newline="") as file:
        return list(csv.reader(file))


class TestLarge:
    """A file that is taken for a large one: it is kept as Parquet on its way, its practitioners learnt from a few."""

    FIRST = (
        *admissions(60),
        admission(3),  # twice
        admission(4, Age="91"),
        admission(61, Age="-1"),
        "too,short",
        admission(62, Date_of_Admission="soon"),
        admission(63, Hospital="and Hill, Lake", Doctor="Zebulon Latecomer"),
        admission(64, Doctor=""),
        admission(64, Doctor="", Billing_Amount="7.00"),
    )
    SECOND = (
        admission(1, Billing_Amount="3.50"),
        *admissions(57, start=3),
        admission(63, Hospital="and Hill, Lake", Doctor="Zebulon Latecomer"),
        *admissions(4, start=100),
    )

    def test_its_hash_is_known_before_anything_is_recorded(
        self, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a source's first file it is computed while the file is read: no other can hold the same."""
        monkeypatch.setattr(delimited, "LARGE_BYTES", 1)
        faulty = write_csv(tmp_path / "faulty.csv", [admission(1, Age="-1")])
        good = write_csv(tmp_path / "good.csv", admissions(5))
        refused, loaded, repeated = (intake.ingest(lake, file, source="hashed") for file in (faulty, good, good))
        assert refused.status is DeliveryStatus.REFUSED
        assert refused.content_hash == content_hash(faulty)
        assert loaded.content_hash == repeated.content_hash == content_hash(good)
        assert (repeated.status, repeated.reason) == (DeliveryStatus.REPEAT, loaded.delivery_id)

    def test_it_makes_what_a_small_one_makes(self, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = [write_csv(tmp_path / f"{number}.csv", rows) for number, rows in enumerate((self.FIRST, self.SECOND))]
        small = [intake.ingest(lake, file, source="small") for file in files]
        monkeypatch.setattr(delimited, "LARGE_BYTES", 1)
        monkeypatch.setattr(staging, "SAMPLED_ROWS", 3)
        made: list[Path] = []
        copy = delimited.DelimitedReader.read

        def read(reader: delimited.DelimitedReader, cursor: Any, target: str | Path, select: str) -> None:
            copy(reader, cursor, target, select)
            if isinstance(target, Path):
                made.append(target)
                assert SURNAME.encode() not in target.read_bytes()

        monkeypatch.setattr(delimited.DelimitedReader, "read", read)
        large = [intake.ingest(lake, file, source="large") for file in files]
        for one, other in zip(small, large, strict=True):
            assert [getattr(one, name) for name in COUNTS] == [getattr(other, name) for name in COUNTS]
        assert (small[0].created, small[0].quarantined, small[1].updated) == (62, 3, 2)
        assert content(lake, "small") == content(lake, "large")
        assert quarantined(lake, small[0]) == quarantined(lake, large[0])
        keys = lake.query(
            "SELECT count(DISTINCT practitioner_key) AS n FROM clinical.admissions WHERE source = 'large'"
        )
        assert keys == [{"n": 8}]
        assert len(made) == len(files)
        assert not any(path.exists() for path in made)


class TestAFileBecomesTheLakes:
    """What was made of a source's first large file is given to the lake as it is; later ones are merged as ever."""

    FIRST = (
        *admissions(400),
        admission(5),  # twice
        admission(6, Billing_Amount="7.00"),  # and once more, otherwise
        admission(401, Age="-1"),
        "too,short",
        admission(402, Medication=""),
        admission(403, Age="97", Doctor=""),
    )
    SECOND = (admission(1, Billing_Amount="3.50", Medication=""), *admissions(3, start=7), *admissions(4, start=500))
    PLACED = ("admissions", "conditions", "patients", "prescriptions")

    @pytest.fixture
    def large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delimited, "LARGE_BYTES", 1)

    def files(self, lake: Lake, delivery_id: str) -> list[Path]:
        return sorted((lake.files / "clinical").glob(f"*/{delivery_id}-*.parquet"))

    def test_to_the_same_content(self, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = [write_csv(tmp_path / f"{number}.csv", rows) for number, rows in enumerate((self.FIRST, self.SECOND))]
        small = [intake.ingest(lake, file, source="written") for file in files]
        monkeypatch.setattr(delimited, "LARGE_BYTES", 1)
        first, second = intake.ingest(lake, files[0], source="given"), intake.ingest(lake, files[1], source="given")
        for one, other in zip(small, (first, second), strict=True):
            names = (*COUNTS, "duplicates_conflicting", "notices", "changed_tables", "admitted_from", "admitted_until")
            assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
        assert (first.created, first.duplicates_exact, first.duplicates_conflicting) == (402, 1, 1)
        assert (second.created, second.updated, second.unchanged) == (4, 1, 3)
        assert content(lake, "written") == content(lake, "given")
        assert quarantined(lake, small[0]) == quarantined(lake, first)
        measures = "SELECT column_name, measure, value FROM clinical.quality WHERE delivery_id = ? ORDER BY ALL"
        assert lake.query(measures, [small[0].delivery_id]) == lake.query(measures, [first.delivery_id])

        placed = self.files(lake, first.delivery_id)
        assert [path.parent.name for path in placed] == list(self.PLACED)
        assert self.files(lake, second.delivery_id) == []
        assert len({path.stat().st_ino for path in placed if path.parent.name != "patients"}) == 1
        assert {path.stat().st_mode & 0o777 for path in placed} == {0o600}
        assert not any(SURNAME.encode() in path.read_bytes() for path in placed)
        columns = {row["column_name"] for row in lake.query(f"DESCRIBE FROM read_parquet('{placed[0]}')")}
        assert "admission_key" in columns
        assert not {"row_hash", "birth_date"} & columns
        assert lake.query(f"SELECT max(age_years) AS oldest FROM read_parquet('{placed[0]}')") == [{"oldest": 90}]
        assert health.data_files(lake, mend=False).faults == []

    def test_of_one_without_a_fault_the_same_is_measured(
        self, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [*admissions(150), admission(151, Medication="", Room_Number="", Doctor="", Age="")]
        file, measured = write_csv(tmp_path / "a.csv", rows), []
        for source, least in (("small-good", 10**9), ("large-good", 1)):
            monkeypatch.setattr(delimited, "LARGE_BYTES", least)
            report = intake.ingest(lake, file, source=source)
            told = "SELECT * EXCLUDE (delivery_id) FROM clinical.quality WHERE delivery_id = ? ORDER BY ALL"
            measured.append(lake.query(told, [report.delivery_id]))
        assert measured[0] == measured[1]
        shares = {row["column_name"]: row["value"] for row in measured[1] if row["measure"] == "missing_share"}
        assert shares["prescriptions.medication"] == pytest.approx(1 / 151)
        assert shares["conditions.condition"] == 0

    @pytest.mark.usefixtures("large")
    def test_its_changes_can_be_told_and_clean_up_loses_none(self, lake: Lake, tmp_path: Path) -> None:
        before = lake.last_snapshot_id() or 0
        first = intake.ingest(lake, write_csv(tmp_path / "a.csv", self.FIRST), source="kept")
        between = lake.last_snapshot_id() or 0
        intake.ingest(lake, write_csv(tmp_path / "b.csv", self.SECOND), source="kept")
        after, known = lake.last_snapshot_id() or 0, content(lake, "kept")
        [told] = changes(lake, before, between, ("admissions",)).tables
        assert (told.created, told.updated, told.deleted) == (402, 0, 0)
        [told] = changes(lake, between, after, ("admissions",)).tables
        assert (told.created, told.updated, told.deleted) == (4, 1, 0)
        clean_up(lake)
        with closing(lake.cursor()) as cursor, lake.lock():
            cursor.execute("CALL ducklake_expire_snapshots('lake', older_than => now())")
            for table in self.PLACED:
                cursor.execute(f"CALL ducklake_rewrite_data_files('lake', '{table}', schema => 'clinical')")
            cursor.execute("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")
        assert content(lake, "kept") == known
        assert health.data_files(lake, mend=False).faults == []
        assert len(self.files(lake, first.delivery_id)) < len(self.PLACED)

    @pytest.mark.usefixtures("large")
    def test_of_a_transaction_that_fails_nothing_stays(
        self, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = write_csv(tmp_path / "a.csv", admissions(60))
        made: list[list[Path]] = []

        def fail(*_: object) -> None:
            made.append(list((lake.files / "clinical").glob("*/*.parquet")))
            raise MemoryError

        before = set((lake.files / "clinical").glob("*/*.parquet"))
        others = set(lake.settings.processing.iterdir())
        with monkeypatch.context() as then:
            then.setattr(quality, "keep", fail)
            with pytest.raises(MemoryError):
                intake.ingest(lake, file, source="fails")
        assert len(set(made[0]) - before) == len(self.PLACED)
        assert set((lake.files / "clinical").glob("*/*.parquet")) == before
        assert content(lake, "fails") == {table: [] for table in TABLES}
        [left] = set(lake.settings.processing.iterdir()) - others
        (left / "shelf").mkdir(exist_ok=True)
        (left / "shelf" / "keyed_0.parquet").write_bytes(b"half of it")
        assert intake.deliver(lake, left.name).created == 60
        assert len(content(lake, "fails")["prescriptions"]) == 60

    @pytest.mark.usefixtures("large")
    def test_copied_where_the_disk_knows_no_second_names(
        self, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_link(*_: object) -> None:
            raise OSError

        monkeypatch.setattr(shelf.os, "link", no_link)
        report = intake.ingest(lake, write_csv(tmp_path / "a.csv", admissions(60)), source="copied")
        assert len(self.files(lake, report.delivery_id)) == len(self.PLACED)
        assert len(content(lake, "copied")["admissions"]) == 60


class TestZstandard:
    def packed(self, path: Path, text: str) -> Path:
        """``text`` compressed by DuckDB."""
        plain = path.with_suffix(".txt")
        plain.write_text(text)
        with duckdb.connect() as connection:
            shape = "delim '\x01', quote '', escape '', header false"
            connection.execute(
                f"COPY (FROM read_csv('{plain}', auto_detect = false, columns = {{'line': 'VARCHAR'}}, "
                f"delim = '\x01', quote = '', escape = '', header = false)) TO '{path}' "
                f"(FORMAT csv, {shape}, compression zstd)"
            )
        assert path.read_bytes().startswith(b"\x28\xb5\x2f\xfd")
        return path

    ROWS = (*admissions(300), admission(300, Hospital='Hill "Old"\nInfirmary'), admission(301, Age="-1"))

    def test_it_is_read_like_the_file_it_was(self, lake: Lake, tmp_path: Path) -> None:
        plain = intake.ingest(lake, write_csv(tmp_path / "plain.csv", self.ROWS), source="plain")
        packed = intake.ingest(lake, self.packed(tmp_path / "packed.csv.zst", text_of(self.ROWS)), source="packed")
        assert [getattr(plain, name) for name in COUNTS] == [getattr(packed, name) for name in COUNTS]
        assert packed.created == 301
        assert content(lake, "plain") == content(lake, "packed")
        assert quarantined(lake, plain) == quarantined(lake, packed)

    @pytest.mark.parametrize("lost", [1, 8, 900, -5])
    def test_cut_short_or_with_something_behind_it_nothing_is_loaded(
        self, lake: Lake, tmp_path: Path, lost: int
    ) -> None:
        whole = self.packed(tmp_path / "whole.csv.zst", text_of(self.ROWS)).read_bytes()
        cut = tmp_path / "cut.csv.zst"
        cut.write_bytes(whole[:-lost] if lost > 0 else whole + b"x" * -lost)
        report = intake.ingest(lake, cut, source="cut")
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, "DAMAGED")
        assert lake.query("SELECT count(*) AS n FROM clinical.admissions WHERE source = 'cut'") == [{"n": 0}]

    def test_one_that_swells_is_not_unpacked(self, lake: Lake, tmp_path: Path) -> None:
        lines = ("0" * 1023 + "\n") * (2 * HARMLESS_BYTES // 1024)
        bomb = self.packed(tmp_path / "bomb.csv.zst", lines)
        assert bomb.stat().st_size < HARMLESS_BYTES // 500
        report = intake.ingest(lake, bomb, source="bomb")
        assert (report.status, report.reason) == (DeliveryStatus.REFUSED, "UNSAFE_ARCHIVE")


def test_what_is_large_is_read_by_all_cores(tmp_path: Path) -> None:
    def file(name: str, megabytes: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.truncate(path, megabytes * 1024**2)  # takes no room on the disk
        return path

    assert not parts.is_worth_all_cores(file("small.csv", 31))
    assert parts.is_worth_all_cores(file("large.csv", 32))
    assert not parts.is_worth_all_cores(file("small.csv.gz", 3))
    assert parts.is_worth_all_cores(file("large.csv.GZ", 4))
    file("set/one.csv", 20)
    assert not parts.is_worth_all_cores(tmp_path / "set")
    file("set/two.csv", 20)
    assert parts.is_worth_all_cores(tmp_path / "set")
    assert not parts.is_worth_all_cores(tmp_path / "gone.csv")
