"""What a delivery would do, without doing it: everything up to the commit, which is taken back."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync.errors import DeliveryRefusedError
from medisync.intake import births, labels, parts, staging
from medisync.intake.arrival import new_delivery_id
from medisync.intake.contents import Contents
from medisync.intake.delivery import Work, described_source, foreseen, merge, prepare, refusal
from medisync.intake.merging import DeliveryMode
from medisync.intake.reading import refused
from medisync.intake.reasons import FileFault
from medisync.intake.report import DeliveryReport
from medisync.lake import Lake

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Foresight:
    """``report`` is what would be said of the delivery. ``faults``: rows by part, column and reason. ``columns``: of
    each part its role and the columns that would be read."""

    report: DeliveryReport
    faults: tuple[tuple[str, str | None, str, int], ...]
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]

    def as_json(self) -> dict[str, Any]:
        names = ("part", "column", "reason", "rows")
        return {
            "report": self.report.as_json(),
            "faults": [dict(zip(names, fault, strict=True)) for fault in self.faults],
            "columns": [{"part": part, "role": role, "columns": columns} for part, role, columns in self.columns],
        }


class _TakenBackError(Exception):
    """Carries the report out of the transaction, which it undoes."""

    def __init__(self, report: DeliveryReport) -> None:
        super().__init__()
        self.report = report


def foresee(lake: Lake, path: Path, *, source: str, mode: DeliveryMode = DeliveryMode.AUTO) -> Foresight:
    """What delivering the file or folder ``path`` would do. Nothing is kept of it, and ``path`` stays as it is."""
    lake.settings.make_folders()
    lake = lake.on_all_cores() if parts.is_worth_all_cores(path) else lake
    cursor = staging.open_desk(lake)
    with tempfile.TemporaryDirectory(dir=lake.settings.run_state) as room:
        work = Work(new_delivery_id(), source, path, Path(room), labels.label(path.name, None))
        try:
            report = _foresee(lake, cursor, work, mode)
        except DeliveryRefusedError as error:
            report = refusal(work, error)
        finally:
            (lake.settings.quarantine / f"{work.delivery_id}.csv").unlink(missing_ok=True)
        faults = _faults(cursor)
        cursor.close()
    return Foresight(report, faults, _columns(work.contents))


def _foresee(lake: Lake, cursor: duckdb.DuckDBPyConnection, work: Work, mode: DeliveryMode) -> DeliveryReport:
    if not work.path.exists():
        raise refused(FileFault.DISAPPEARED, "There is no such file.")
    described = described_source(lake, work.source)
    pieces = parts.parts_of(work.path, work.room / "unpacked")
    foreseen(prepare, lake, cursor, work, described, pieces)
    birth_dates = births.store(lake.settings, work.source)
    spare = work.room / birth_dates.name
    if birth_dates.exists():
        shutil.copyfile(birth_dates, spare)
    try:
        with lake.transaction("taken back", cursor=cursor) as transaction:
            raise _TakenBackError(merge(lake, transaction, work, described, mode, birth_dates=spare))
    except _TakenBackError as taken_back:
        return taken_back.report


def _faults(cursor: duckdb.DuckDBPyConnection) -> tuple[tuple[str, str | None, str, int], ...]:
    return tuple(
        cursor.execute(
            "SELECT part, column_name, reason, count(*) FROM temp.faults GROUP BY ALL ORDER BY 4 DESC, 1, 2, 3"
        ).fetchall()
    )


def _columns(contents: Contents | None) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    if contents is None:
        return ()
    return tuple(
        (one.part, one.role.name, tuple(column for column in one.role.columns if column in one.present))
        for one in contents.readings
    )
