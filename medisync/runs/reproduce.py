"""Execute a run again, the same notebook version on the same snapshot, and compare every number.

The version comes from the archive, also the code it used: where that differs from the code installed here, the kernel
gets a copy of the package with the kept files in place. What cannot be brought back, other package versions, another
Python or processor, is named, and how far the numbers moved is told.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from medisync.analyses.contract import Result
from medisync.errors import MediSyncError
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.runs import closure, differences, records, registry, versions
from medisync.runs.differences import Difference
from medisync.runs.execution import NotebookFailedError, execute
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.runs.numbers import Moved, moved
from medisync.runs.planning import require_snapshot
from medisync.runs.randomness import suspects
from medisync.runs.record import RunRecord
from medisync.runs.versions import Version

CodeChoice = Literal["kept", "current"]


class NumbersMovedError(MediSyncError):
    """A run executed again gave other numbers, or could not be executed again."""

    code = "numbers-moved"
    exit_code = 64


class Verdict(StrEnum):
    IDENTICAL = "identical"  # every number, text and drawing is the same
    MOVED = "moved"  # something differs, and so does the environment or the code
    RANDOM = "random"  # two executions of now differ from each other: it depends on chance or the clock
    DIFFERS = "differs"  # something differs, and nothing is known to that would explain it
    FAILED = "failed"  # it could not be executed again


@dataclass(frozen=True)
class Reproduction:
    """What came of executing a run again."""

    run_id: str
    analysis: str
    verdict: Verdict
    compared: int = 0
    places: tuple[Moved, ...] = ()
    differences: tuple[Difference, ...] = ()
    suspects: tuple[str, ...] = ()
    message: str | None = None
    seconds: float = 0.0

    @property
    def different(self) -> int:
        """How many values are not the same."""
        return sum(one.different for one in self.places)

    def sentence(self) -> str:
        name = f"{self.analysis} {self.run_id}"
        if self.verdict is Verdict.IDENTICAL:
            also = f", although {len(self.differences)} things differ" if self.differences else ""
            return f"{name}: all {self.compared:,} values are identical{also}."
        if self.verdict is Verdict.FAILED:
            return f"{name}: could not be executed again: {self.message}"
        largest = max((one.largest_relative for one in self.places if one.largest_relative is not None), default=None)
        by = "" if largest is None else f", by at most {100 * largest:.3g} %"
        told = f"{name}: {self.different:,} of {self.compared:,} values differ{by}"
        if self.verdict is Verdict.RANDOM:
            where = f" ({'; '.join(self.suspects)})" if self.suspects else ""
            return f"{told}. The notebook depends on chance or the clock{where}."
        if self.verdict is Verdict.MOVED:
            return f"{told}. Not the same as then: {'; '.join(map(str, self.differences))}."
        return f"{told}, and nothing is known that would explain it."

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "analysis": self.analysis,
            "verdict": self.verdict.value,
            "compared": self.compared,
            "different": self.different,
            "places": [one.as_json() for one in self.places],
            "differences": [one.as_json() for one in self.differences],
            "suspects": list(self.suspects),
            "message": self.message,
            "seconds": self.seconds,
        }


def reproduce(lake: Lake, run_id: str, *, code: CodeChoice = "kept") -> Reproduction:
    """Execute run ``run_id`` again, with the ``code`` it used or the installed one, and compare; nothing is recorded.
    An analysis' name stands for its run that is served.

    Raises NoSuchRunError, SnapshotExpiredError, VersionMissingError and VersionDamagedError.
    """
    run_id = records.run_called(lake, run_id)
    record, before = records.completed(lake, run_id)
    require_snapshot(lake, record.snapshot_id)
    version = versions.fetch(lake.settings, record.notebook_hash, record.code_hash)
    begun = dt.datetime.now(dt.UTC)
    known = [
        one
        for one in differences.of_now(lake.settings, record)
        if one.kind == "environment" or (one.kind == "code" and code == "current" and not one.what.startswith("noteb"))
    ]
    try:
        current = lake.settings.analyses if code == "current" else None
        with materialised(version, current) as (notebook, environment):
            again = _executed(lake, record, notebook, environment)
            places = moved(_without_notices(before, record), again)
            verdict = Verdict.IDENTICAL
            if any(one.different for one in places):
                verdict = Verdict.MOVED if known else Verdict.DIFFERS
                once_more = _executed(lake, record, notebook, environment)
                if any(one.different for one in moved(again, once_more)):
                    verdict = Verdict.RANDOM
    except NotebookFailedError as error:
        return Reproduction(run_id, record.analysis, Verdict.FAILED, differences=tuple(known), message=error.message)
    helpers = {label: content for label, content in version.files.items() if label.startswith(closure.BESIDE)}
    found = suspects(version.notebook, helpers) if verdict in (Verdict.RANDOM, Verdict.DIFFERS) else []
    return Reproduction(
        run_id,
        record.analysis,
        verdict,
        compared=sum(one.compared for one in places),
        places=tuple(places),
        differences=tuple(known),
        suspects=tuple(map(str, found)),
        seconds=round((dt.datetime.now(dt.UTC) - begun).total_seconds(), 3),
    )


def reproduce_all(
    lake: Lake,
    *,
    since: dt.datetime | None = None,
    most: int = 500,
    on_each: Callable[[Reproduction], None] | None = None,
) -> list[Reproduction]:
    """Reproduce the newest completed runs, one for each answer, several at once; a run that cannot be executed again
    is told and the others go on."""
    chosen = records.completed_since(lake, since, most)

    def one(record: RunRecord) -> Reproduction:
        try:
            made = reproduce(lake, record.run_id)
        except MediSyncError as error:
            made = Reproduction(record.run_id, record.analysis, Verdict.FAILED, message=str(error))
        if on_each is not None:
            on_each(made)
        return made

    with ThreadPoolExecutor(max_workers=lake.settings.kernels) as pool:
        return list(pool.map(one, chosen))


@contextlib.contextmanager
def materialised(version: Version, current: Path | None = None) -> Iterator[tuple[Path, dict[str, str]]]:
    """The kept notebook with its helper modules in a folder of its own, and the variables its kernel needs to find the
    kept code; the folder is gone afterwards. With ``current``, a folder of notebooks, the code is that of now."""
    with tempfile.TemporaryDirectory(prefix="medisync-again-") as name:
        folder = Path(name)
        notebook = folder / "work" / version.name
        notebook.parent.mkdir()
        notebook.write_text(json.dumps(version.notebook), encoding="utf-8")
        package: dict[str, bytes] = {}
        for label, content in version.files.items():
            if label.startswith(closure.BESIDE):
                path = notebook.parent / label.removeprefix(closure.BESIDE)
                path.parent.mkdir(parents=True, exist_ok=True)
                now = current / label.removeprefix(closure.BESIDE) if current else None
                path.write_bytes(now.read_bytes() if now is not None and now.is_file() else content)
            else:
                package[label] = content
        environment = {}
        if current is None and not _is_installed(package):
            root = folder / "code"
            shutil.copytree(closure.PACKAGE, root / closure.PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
            for label, content in package.items():
                path = root / label
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        yield notebook, environment


def _executed(lake: Lake, record: RunRecord, path: Path, environment: dict[str, str]) -> Result:
    notebook = registry.read_notebook(path)
    if notebook is None:
        raise NotebookFailedError("The kept notebook is no analysis.", code="bad-notebook", is_passing=False)
    settings = lake.settings
    is_as_now = not environment and record.fixed_environment == FIXED_ENVIRONMENT
    with tempfile.TemporaryDirectory(prefix="medisync-again-") as scratch:
        return execute(
            notebook,
            record.parameters,
            record.snapshot_id,
            Path(scratch) / "notebook.ipynb",
            budget_seconds=settings.notebook_seconds,
            budget_mb=settings.notebook_memory_mb,
            fork_socket=kernels.socket_path(settings) if is_as_now else None,
            environment={**record.fixed_environment, **environment},
            known_on=record.known_on,
        ).result


def _without_notices(result: Result, record: RunRecord) -> Result:
    """The result as the notebook handed it over: notices were added when it was published."""
    own = tuple(one for one in result.warnings if one not in record.notices)
    return result.model_copy(update={"warnings": own})


def _is_installed(files: dict[str, bytes]) -> bool:
    """Whether the package installed here has exactly these files."""
    for label, content in files.items():
        path = closure.PACKAGE.parent / label
        if not path.is_file() or hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(content).digest():
            return False
    return True
