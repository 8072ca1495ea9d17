"""``medisync doctor``: one finding per thing that can be wrong, each with what to do."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import rich.console

from medisync.errors import MediSyncError
from medisync.lake import Lake
from medisync.lake.extensions import EXTENSIONS, open_duckdb
from medisync.runs import registry
from medisync.settings import Settings
from medisync.supervisor.services import services
from medisync.supervisor.workspace import require_free_port, running
from medisync.upkeep import health
from medisync.upkeep.disk import disk_use


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    is_well: bool
    detail: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings, *, mend: bool = False) -> list[Finding]:
    """Look at Python, extensions, folders, lake, notebooks and services, and whether lake, ledger and files agree; with
    ``mend`` what is safe to mend is mended."""
    looks: list[tuple[str, Callable[[Settings], str]]] = [
        ("Python", _python),
        ("DuckDB extensions", _extensions),
        ("Folders", _folders),
        ("Disk", _disk),
        ("Lake", _lake),
        ("Notebooks", _notebooks),
        ("Services", _services),
    ]
    findings = []
    for what, look in looks:
        try:
            findings.append(Finding(what, True, look(settings)))
        except MediSyncError as error:
            findings.append(Finding(what, False, str(error)))
        except OSError as error:
            findings.append(Finding(what, False, f"{type(error).__name__}: {error.strerror}"))
    findings += _agreement(settings, mend=mend)
    return findings


def _agreement(settings: Settings, *, mend: bool) -> list[Finding]:
    """Lake, ledger and files against each other; a lake that cannot be opened was told already."""
    lake = Lake(settings)
    try:
        return [Finding(look.what, look.is_well, look.sentence()) for look in health.examine(lake, mend=mend)]
    except (MediSyncError, OSError, duckdb.Error) as error:
        return [Finding("Agreement", False, f"Lake, ledger and files could not be compared ({type(error).__name__}).")]
    finally:
        lake.close()


def show(findings: list[Finding]) -> None:
    """The findings for people."""
    console = rich.console.Console(highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(f"{'✓' if finding.is_well else '✗'} {finding.what}: {finding.detail}", markup=False)


def _python(_: Settings) -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise MediSyncError(f"Python {platform.python_version()} is not supported.", hint="Use 3.11, 3.12 or 3.13.")
    return platform.python_version()


def _extensions(_: Settings) -> str:
    open_duckdb(*EXTENSIONS).close()
    return f"{', '.join(EXTENSIONS)} load offline"


def _folders(settings: Settings) -> str:
    settings.make_folders()
    for folder in (settings.data, settings.reports):
        probe = folder / ".medisync-doctor"
        probe.write_bytes(b"")
        probe.unlink()
    for folder in (settings.lake, settings.keys, settings.quarantine):
        if folder.stat().st_mode & 0o077:
            raise MediSyncError(f"{folder} can be read by others.", hint="chmod -R go= that folder.")
    return f"data in {settings.data}, reports in {settings.reports}"


def _disk(settings: Settings) -> str:
    use = disk_use(settings)
    if not use.is_enough:
        raise MediSyncError(f"{use.sentence()}.", hint="Free some space or run: medisync clean-up")
    return use.sentence()


def _lake(settings: Settings) -> str:
    lake = Lake(settings)
    counts = lake.query("SELECT count(*) AS number FROM clinical.admissions")
    return f"snapshot {lake.last_snapshot_id()}, {counts[0]['number']:,} admissions"


def _notebooks(settings: Settings) -> str:
    broken = registry.unusable(settings)
    if broken:
        raise MediSyncError(" ".join(str(error) for error in broken))
    named = registry.analyses(settings)
    return f"{len(named)} analyses: {', '.join(notebook.analysis for notebook in named)}"


def _services(settings: Settings) -> str:
    from medisync.cli.status import services_of

    state = running(settings)
    if state is None:
        for service in services(settings, lab=True):
            require_free_port(service)
        return "not running; its ports are free"
    ill = [service["title"] for service in services_of(state).values() if not service["well"]]
    if ill:
        raise MediSyncError(f"{', '.join(ill)} not well.", hint=f"The logs are in {settings.logs}.")
    return "all up"
