"""What is large or compressed takes other ways through the intake, to the same result."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from medisync import intake
from medisync.intake import DeliveryReport, DeliveryStatus, delimited, staging
from medisync.intake.parts import HARMLESS_BYTES
from medisync.intake.reading import content_hash
from medisync.lake import Lake
from medisync.settings import Settings
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
