"""Do lake, ledger and files agree? Each look tells what is wrong, and mends what can be without losing anything."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medisync.lake import Lake

ORPHAN_AGE = "1 day"
"""Files of an open transaction are not in the catalog yet; none stays open for a day."""
PROCESSING_SECONDS = 3600.0
"""A delivery that lies longer was forgotten: a running workspace announces it again every minute."""


@dataclass
class Look:
    """One thing looked at: what is wrong, and what was mended of it."""

    what: str
    faults: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    hint: str = ""

    @property
    def is_well(self) -> bool:
        return not self.faults

    def sentence(self) -> str:
        parts = [f"mended: {_some(self.mended)}"] if self.mended else []
        parts += [f"{_some(self.faults)}. {self.hint}".strip()] if self.faults else []
        return "; ".join(parts) or "as it should be"


def examine(lake: Lake, *, mend: bool = False) -> list[Look]:
    """All looks, in order; with ``mend`` what is safe is mended on the way. Never raises for what is wrong."""
    looks: list[Callable[[Lake, bool], Look]] = [permissions, databases]
    if lake.exists:
        looks += [data_files, results, reports, deliveries]
    return [look(lake, mend) for look in looks]


def permissions(lake: Lake, mend: bool) -> Look:
    """Folders 0700 and files 0600 where patients' data, keys and passwords lie."""
    look = Look("Permissions", hint="medisync doctor --mend takes the rights of others away.")
    settings = lake.settings
    places = (
        settings.lake, settings.keys, settings.quarantine, settings.archive, settings.refused, settings.processing,
        settings.ledger, settings.logs, settings.versions,
    )  # fmt: skip
    for path in _all(places):
        status = path.lstat()
        if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode) and not stat.S_ISSOCK(status.st_mode):
            name = _inside(path, settings.data)
            if mend and status.st_uid == os.getuid():
                path.chmod(stat.S_IMODE(status.st_mode) & 0o700)
                look.mended.append(name)
            else:
                look.faults.append(f"{name} can be read by others")
    return look


def databases(lake: Lake, _: bool) -> Look:
    """Catalog and ledger as their database sees them, and the chain of the audit log; nothing of it can be mended."""
    from medisync.access import audit
    from medisync.errors import MediSyncError
    from medisync.ledger import open_ledger

    look = Look("Databases", hint="Restore a backup into a new workspace; see docs/operate.md.")
    look.faults += lake.backend.faults()
    if look.is_well and lake.backend.has_ledger():
        try:
            audit.verify(open_ledger(lake.settings))
        except MediSyncError as error:
            look.faults.append(error.message)
    return look


def data_files(lake: Lake, mend: bool) -> Look:
    """Every data file the catalog names is there with its size; none lies about that nobody names."""
    look = Look("Data files", hint="A missing file comes back from a backup alone.")
    rows = lake.query(
        f"""
        SELECT s.path || t.path || f.path AS path, f.file_size_bytes AS size
        FROM (SELECT table_id, path, file_size_bytes FROM {lake.backend.metadata}.ducklake_data_file
              UNION ALL SELECT table_id, path, file_size_bytes FROM {lake.backend.metadata}.ducklake_delete_file) f
        JOIN (SELECT DISTINCT table_id, schema_id, path FROM {lake.backend.metadata}.ducklake_table) t USING (table_id)
        JOIN (SELECT DISTINCT schema_id, path FROM {lake.backend.metadata}.ducklake_schema) s USING (schema_id)
        """
    )
    there = lake.data_files()
    for row in rows:
        if row["path"] not in there:
            look.faults.append(f"{row['path']} is missing")
        elif there[row["path"]] != row["size"]:
            look.faults.append(f"{row['path']} has another size than written")
    orphans = f"ducklake_delete_orphaned_files('lake', older_than => now() - INTERVAL '{ORPHAN_AGE}'"
    found = [str(row["path"]) for row in lake.query(f"FROM {orphans}, dry_run => true)")]
    if found and mend:
        cursor = lake.cursor()
        with lake.lock():
            cursor.execute(f"CALL {orphans})")
        cursor.close()
        look.mended += [f"{Path(path).name} nobody refers to removed" for path in found]
    elif found:
        look.faults += [f"{Path(path).name} is nobody's (medisync doctor --mend)" for path in found]
    return look


def results(lake: Lake, mend: bool) -> Look:
    """Every completed run has its result, the latest of each kind a released one, too."""
    from medisync.runs.releasing import release_missing

    look = Look("Results", hint="Run the analysis again: medisync run --force")
    if mend:
        look.mended += [f"released document of {run_id} made" for run_id in release_missing(lake)]
    rows = lake.query(
        "SELECT run_id FROM analytics.runs WHERE status = 'completed' AND run_id NOT IN "
        "(SELECT run_id FROM analytics.results WHERE audience = 'full') ORDER BY run_id"
    )
    look.faults += [f"run {row['run_id']} is completed and has no result" for row in rows]
    return look


def reports(lake: Lake, mend: bool) -> Look:
    """The folder of every kept run holds its report."""
    from medisync.reports.page import write_report
    from medisync.runs.published import result_of
    from medisync.runs.record import RunRecord

    look = Look("Reports", hint="medisync doctor --mend writes them again.")
    folder = lake.settings.reports / "runs"
    for row in lake.query("SELECT run_id, record FROM analytics.runs ORDER BY run_id"):
        own = folder / row["run_id"]
        if not own.is_dir() or (own / "report.html").exists():
            continue  # without its folder it is no kept run any more
        if mend:
            record = RunRecord.model_validate_json(row["record"])
            write_report(own / "report.html", record, result_of(lake, record.run_id))
            look.mended.append(f"report of {row['run_id']} written")
        else:
            look.faults.append(f"the report of run {row['run_id']} is missing")
    return look


def deliveries(lake: Lake, mend: bool) -> Look:
    """Claims, files in processing and quarantine files belong to deliveries."""
    from medisync.intake import arrival
    from medisync.ledger import Claims, open_ledger

    settings = lake.settings
    look = Look("Deliveries", hint="medisync up takes up what lies in processing; see docs/operate.md.")
    known = {row["delivery_id"] for row in lake.query("SELECT delivery_id FROM clinical.deliveries")}
    claims = Claims(open_ledger(settings))
    lying = {path.name for path in settings.processing.glob("*") if path.is_dir()}
    for claim in claims.open():
        if claim.delivery_id in lying:
            continue
        if claim.delivery_id in known and mend:
            claims.finished(claim.delivery_id)
            look.mended.append(f"claim {claim.delivery_id} closed: its delivery is on record")
        elif claim.delivery_id in known:
            look.faults.append(f"claim {claim.delivery_id} is open, its delivery on record (medisync doctor --mend)")
        else:
            look.faults.append(f"claim {claim.delivery_id} has neither a file nor a delivery")
    for name in sorted(lying):
        folder = settings.processing / name
        if time.time() - folder.stat().st_mtime < PROCESSING_SECONDS:
            continue
        has_file = any(path.is_file() for path in folder.glob("file/*"))
        if mend and not has_file and arrival.remove_abandoned(settings, name):
            look.mended.append(f"processing/{name} removed: it never got a file")
        elif folder.exists():
            look.faults.append(f"processing/{name} has lain there for more than an hour")
    for path in sorted(settings.quarantine.glob("*")):
        found = re.match(r"d\d{8}T\d{6}-[0-9a-f]+", path.name)
        if path.is_file() and (found is None or found.group() not in known):
            look.faults.append(f"quarantine/{found.group() if found else '(another name)'} belongs to no delivery")
    return look


def _all(places: tuple[Path, ...]) -> Iterator[Path]:
    """The places that exist and everything below them."""
    for place in places:
        if place.exists():
            yield place
            yield from (place.rglob("*") if place.is_dir() else ())


def _inside(path: Path, folder: Path) -> str:
    """A name without the files of patients in it: what was delivered may be called like one."""
    if not path.is_relative_to(folder):
        return str(path)
    parts = path.relative_to(folder).parts
    told = {"archive": 2, "processing": 2, "refused": 1}.get(parts[0], len(parts))
    return "/".join(parts[:told])


def _some(texts: list[str], most: int = 5) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
