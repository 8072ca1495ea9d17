"""Where the numbers of a run come from, in the words of pages and reports."""

from __future__ import annotations

from collections.abc import Mapping

from medisync.reports.phrases import when
from medisync.runs.record import RunRecord


def provenance(record: RunRecord) -> list[tuple[str, str]]:
    """What a result was made from, as (what, which)."""
    environment = record.environment
    packages: Mapping[str, str] = environment.get("packages", {})
    commit = environment.get("commit")
    code = record.code_hash[:12]
    if commit:
        code += f", commit {commit[:12]}" + (" with local changes" if environment.get("dirty") else "")
    tries = "1 try" if record.attempts == 1 else f"{record.attempts} tries"
    return [
        ("Run", f"{record.run_id}, {when(record.finished_at)}, {record.seconds} s, {tries}"),
        ("Requested", f"trigger {record.trigger}, by {record.requested_by}"),
        ("Data snapshot", str(record.snapshot_id)),
        ("Input tables", ", ".join(f"{table} version {version}" for table, version in record.inputs.items())),
        ("Notebook", f"{record.notebook} ({record.notebook_hash[:12]})"),
        ("Parameters", ", ".join(f"{name} = {value}" for name, value in record.parameters.items()) or "none"),
        ("Code", code),
        (
            "Environment",
            f"MediSync {environment.get('medisync')}, Python {environment.get('python')}, "
            + ", ".join(f"{name} {version}" for name, version in packages.items()),
        ),
    ]
