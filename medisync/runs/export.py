"""A run as one folder or zip that somebody else can execute again, without this workspace.

With audience ``full`` it holds the notebook version, the code, the rows it read as Parquet, parameters, record, lock,
result, a script and a README. Keys of patients, admissions and practitioners are replaced by numbers in the same order,
so that rows can be told apart and not be found again in the lake. With ``released`` it holds the released document and
the notebook, and no row.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from medisync.errors import UserError
from medisync.lake import Lake, Snapshot
from medisync.runs import closure, records, versions
from medisync.runs.planning import require_snapshot
from medisync.runs.record import RunRecord
from medisync.runs.versions import Version

Audience = Literal["full", "released"]

KEYS = ("admission_key", "patient_key", "practitioner_key")
NAMED = re.compile(r"\b(clinical|analytics)\.([a-z_]+)\b")

SCRIPT = '''"""Execute this run again and compare: python run.py, in an environment made from requirements.lock."""

import os
import sys
import tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here / "code"))
os.environ["PYTHONPATH"] = os.pathsep.join([str(here / "code"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
for name in [name for name in os.environ if name.startswith("MEDISYNC_")]:
    del os.environ[name]

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDISYNC_DATA"] = os.path.join(folder, "data")
        os.environ["MEDISYNC_REPORTS"] = os.path.join(folder, "reports")
        from medisync.runs.exported import rerun

        sys.exit(rerun(here, Path(folder)))
'''

README = """# Run {run_id}: {title}

{headline}

{how}

| file | what it is |
|---|---|
{files}

Made by MediSync {medisync} with Python {python} on {machine}. Finished {finished} UTC on snapshot {snapshot}; notebook
version {notebook_hash}, code {code_hash}.
"""

HOW_FULL = """To execute it again:

```
python -m venv environment
environment/bin/pip install --require-hashes -r requirements.lock
environment/bin/python run.py
```

The script puts the rows into a lake of its own, executes the notebook with the run's parameters, compares every number
with `result.json` and says whether they are identical. The rows are of people, although nobody is named: keep them
accordingly, and delete them when they are no longer needed."""

HOW_RELEASED = """This is what was released of the run: counts too small to be shown are suppressed, and no row of a
person is in it. The notebook shows how the numbers were made; to execute it, one needs the data."""

WHAT = {
    "run.py": "executes the run again and compares",
    "notebook": "the notebook version that ran, without outputs, and the modules beside it",
    "code": "MediSync as the run used it",
    "data": "the rows it read, as Parquet",
    "parameters.json": "its parameters",
    "record.json": "the run record",
    "result.json": "its result",
    "released.json": "its released result, with a note of what was suppressed",
    "requirements.lock": "the environment, every package with its hash",
}


class ExportError(UserError):
    """A run cannot be exported there or so."""

    code = "cannot-export"
    exit_code = 68
    http_status = 409


def export_run(lake: Lake, run_id: str, destination: Path, *, audience: Audience = "full") -> Path:
    """Write run ``run_id`` to ``destination``, a new folder, or a zip when its name ends so: whole, or not at all.

    Raises NoSuchRunError, SnapshotExpiredError, VersionMissingError, VersionDamagedError, and ExportError when the
    destination exists or nothing of the run was released.
    """
    if destination.exists():
        raise ExportError(f"{destination.name} exists already.", hint="Name a new folder or zip.")
    record, result = records.completed(lake, run_id)
    version = versions.fetch(lake.settings, record.notebook_hash, record.code_hash)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".export-") as scratch:
        folder = Path(scratch) / "run"
        folder.mkdir(mode=0o700)
        _notebook(folder, version)
        shown = record.model_dump(mode="json")
        if audience == "full":
            require_snapshot(lake, record.snapshot_id)
            _write(folder / "result.json", result.model_dump(mode="json"))
            _code(folder, version)
            _data(lake, record, version, folder / "data")
            (folder / "run.py").write_text(SCRIPT, encoding="utf-8")
        else:
            shown = {**shown, "requested_by": None, "headline": None, "notices": []}
            _write(folder / "released.json", _released(lake, run_id))
        _write(folder / "parameters.json", record.parameters)
        _write(folder / "record.json", shown)
        if version.lock is not None:
            (folder / "requirements.lock").write_bytes(version.lock)
        (folder / "README.md").write_text(_readme(folder, record, audience), encoding="utf-8")
        if destination.suffix == ".zip":
            folder = _zipped(folder, Path(scratch) / "run.zip", destination.stem)
        folder.rename(destination)
    return destination


def _released(lake: Lake, run_id: str) -> Any:
    rows = lake.query(
        "SELECT document FROM analytics.results WHERE run_id = ? AND audience = 'released' LIMIT 1", [run_id]
    )
    if not rows:
        raise ExportError(f"Nothing of the run {run_id} was released.", hint="Release it first, or export it full.")
    return json.loads(rows[0]["document"])


def _notebook(folder: Path, version: Version) -> None:
    _write(folder / "notebook" / version.name, version.notebook)
    for label, content in version.files.items():
        if label.startswith(closure.BESIDE):
            path = folder / "notebook" / label.removeprefix(closure.BESIDE)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _code(folder: Path, version: Version) -> None:
    target = folder / "code" / closure.PACKAGE.name
    shutil.copytree(closure.PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    for label, content in version.files.items():
        if not label.startswith(closure.BESIDE):
            path = folder / "code" / label
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _data(lake: Lake, record: RunRecord, version: Version, target: Path) -> None:
    """The tables that notebook and code name, as they were, with other keys."""
    target.mkdir()
    code = "\n".join("".join(cell["source"]) for cell in version.notebook["cells"] if cell["cell_type"] == "code")
    texts = [code, *(one.decode("utf-8", "replace") for one in version.files.values())]
    own = {f"clinical.{table}" for table in record.inputs}
    named = own | {
        f"analytics.{name}" for text in texts for schema, name in NAMED.findall(text) if schema != "clinical"
    }
    with closing(Snapshot(lake.settings, record.snapshot_id, as_known_on=record.known_on)) as snapshot:
        kept = snapshot.query(
            "SELECT schema_name || '.' || table_name AS name FROM duckdb_tables() WHERE database_name = 'lake'"
        )
        tables = sorted(named & set(kept["name"]))
        columns = {table: snapshot.query(f"DESCRIBE SELECT * FROM {table}")["column_name"].tolist() for table in tables}
        for key in KEYS:
            union = " UNION ".join(f"SELECT {key} AS key FROM {one}" for one in tables if key in columns[one])
            if union:
                snapshot.query(
                    f"CREATE TEMP TABLE new_{key} AS SELECT key, lpad(to_hex(row_number() OVER (ORDER BY key)), 32, "
                    f"'0')::UUID AS number FROM (SELECT DISTINCT key FROM ({union})) WHERE key IS NOT NULL"
                )
        for table in tables:
            replaced = [key for key in KEYS if key in columns[table]]
            values = ", ".join(f"new_{key}.number AS {key}" for key in replaced)
            joins = " ".join(f"LEFT JOIN new_{key} ON new_{key}.key = rows_.{key}" for key in replaced)
            others = f" REPLACE ({values})" if replaced else ""
            path = str(target / f"{table}.parquet").replace("'", "''")
            snapshot.query(
                f"COPY (SELECT rows_.* EXCLUDE (place){others} FROM (SELECT *, row_number() OVER () AS place "
                f"FROM {table}) AS rows_ {joins} ORDER BY place) TO '{path}' (FORMAT parquet)"
            )


def _readme(folder: Path, record: RunRecord, audience: Audience) -> str:
    files = "\n".join(f"| `{name}` | {what} |" for name, what in WHAT.items() if (folder / name).exists())
    return README.format(
        run_id=record.run_id,
        title=record.title,
        headline=record.headline if audience == "full" else "",
        how=HOW_FULL if audience == "full" else HOW_RELEASED,
        files=files,
        medisync=record.environment.get("medisync"),
        python=record.environment.get("python"),
        machine=record.environment.get("machine"),
        finished=f"{record.finished_at:%Y-%m-%d %H:%M}",
        snapshot=record.snapshot_id,
        notebook_hash=record.notebook_hash[:12],
        code_hash=record.code_hash[:12],
    )


def _zipped(folder: Path, path: Path, name: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{name}/{file.relative_to(folder).as_posix()}")
    path.chmod(0o600)
    return path


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
