"""Reading without a lake: open, recognise, check, as a delivery does, by one database for all tests of a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from medisync.intake import parts, staging
from medisync.intake.contents import contents_of
from medisync.intake.formats import Room
from medisync.intake.sources import Source
from medisync.lake.extensions import open_duckdb
from medisync.settings import Settings

NOW = dt.datetime.fromisoformat("2026-06-01T00:00")


@dataclass(frozen=True)
class Read:
    """What staging made of a file: the good rows' values by column of the lake, faults and notices.

    ``values`` are those of one table of the delivery, ``all_values`` those of each.
    """

    all_values: list[dict[str, list[Any]]]
    part: int
    faults: dict[str, int]
    notices: dict[str, int]

    @property
    def values(self) -> dict[str, list[Any]]:
        return self.all_values[self.part]

    def of(self, column: str) -> list[Any]:
        """The values of a column, whichever tables have it."""
        return [value for one in self.all_values for value in one.get(column, ())]

    @property
    def days(self) -> list[str]:
        return sorted(f"{value:%Y-%m-%d}" for value in self.of("admissions_admitted_at"))

    @property
    def bills(self) -> list[float]:
        return sorted(float(value) for value in self.of("admissions_billing_amount") if value is not None)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_duckdb("icu", memory_limit_mb=500, threads=1) as opened:
        yield opened


@pytest.fixture
def read(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Callable[..., Read]:
    """Open, recognise, read and check a file or folder, as a delivery does."""

    def look(content: str | bytes | Path, *, ending: str = "csv", part: int = 0, **said: Any) -> Read:
        path = content
        if not isinstance(path, Path):
            path = tmp_path / f"file.{ending}"
            path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
        settings = Settings(data=tmp_path / "data", reports=tmp_path / "reports")
        with connection.cursor() as cursor:
            pieces = parts.parts_of(path, tmp_path / "unpacked")
            contents = contents_of(cursor, pieces, Source(name="s", **said), Room(tmp_path / "room"), settings)
            checked = staging.check(cursor, contents.feeds, NOW, source="s", key=b"k" * 32)
            staged = staging.stage(cursor, contents.feeds)
            counts = staging.count(cursor, contents.feeds, checked)
            assert staged.columns
            found = []
            for number in range(len(contents.feeds)):
                result = cursor.execute(f"SELECT * EXCLUDE (faults) FROM keyed_{number} WHERE faults IS NULL")
                names = [column[0] for column in result.description or []]
                columns = list(zip(*result.fetchall(), strict=True)) or [()] * len(names)
                found.append(dict(zip(names, map(list, columns), strict=True)))
            notices = contents.notices() | counts.notices
        return Read(found, part, checked.faults, notices)

    return look
