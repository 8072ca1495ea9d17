"""What else than the data differs between two runs, or between a run and now: code and environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medisync.runs import identity, registry, versions
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.runs.record import RunRecord
from medisync.settings import Settings


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same. ``kind``: code, parameters, environment. None: absent on that side."""

    kind: str
    what: str
    before: str | None
    after: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.what}: {self.before or 'none'} -> {self.after or 'none'}"


def of_environment(
    before: dict[str, Any], after: dict[str, Any], fixed_before: dict[str, str], fixed_after: dict[str, str]
) -> list[Difference]:
    """Differences of two environment records and of the variables set in the kernels; the commit is code's."""
    found = [
        Difference("environment", name, *pair)
        for name in ("python", "platform", "machine", "processor", "blas", "medisync")
        if (pair := (_text(before.get(name)), _text(after.get(name))))[0] != pair[1] and name in before
    ]
    if before.get("lock_hash") != after.get("lock_hash"):
        pair = (_short(before.get("lock_hash")), _short(after.get("lock_hash")))
        found.append(Difference("environment", "lock", *pair))
    found += _of_mappings("environment", "", before.get("packages", {}), after.get("packages", {}))
    return found + _of_mappings("environment", "variable ", fixed_before, fixed_after)


def of_parameters(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    return _of_mappings("parameters", "parameter ", before, after)


def of_code(settings: Settings, before: RunRecord, after: RunRecord) -> list[Difference]:
    """Notebook and source files that two runs do not share; files are named where both versions are kept."""
    found = []
    if before.notebook_hash != after.notebook_hash:
        pair = (_short(before.notebook_hash), _short(after.notebook_hash))
        found.append(Difference("code", f"notebook {after.notebook}", *pair))
    if before.code_hash != after.code_hash:
        old = versions.code_files(settings, before.notebook_hash, before.code_hash)
        new = versions.code_files(settings, after.notebook_hash, after.code_hash)
        found += _code_files(old, new, before.code_hash, after.code_hash)
    return found


def of_now(settings: Settings, record: RunRecord) -> list[Difference]:
    """What differs between a run and a run of now with the workspace's own notebook."""
    now = next((one for one in registry.analyses(settings) if one.analysis == record.analysis), None)
    found = []
    if now is None:
        found.append(Difference("code", f"notebook {record.notebook}", _short(record.notebook_hash), None))
    else:
        code = identity.code_of(now)
        if now.notebook_hash != record.notebook_hash:
            pair = (_short(record.notebook_hash), _short(now.notebook_hash))
            found.append(Difference("code", f"notebook {now.path.name}", *pair))
        if code.hash != record.code_hash:
            old = versions.code_files(settings, record.notebook_hash, record.code_hash)
            found += _code_files(old, code.hashes, record.code_hash, code.hash)
        found += _of_mappings("settings", "setting ", record.settings, identity.settings_of(now, settings))
        if record.packages:
            found += _of_mappings("environment", "", record.packages, identity.packages_of(code))
    environment = of_environment(
        record.environment, identity.environment_record(), record.fixed_environment, FIXED_ENVIRONMENT
    )
    known = {one.what for one in found}
    return [*found, *(one for one in environment if one.what not in known)]


def _code_files(old: dict[str, str], new: dict[str, str], old_hash: str, new_hash: str) -> list[Difference]:
    if not old or not new:
        return [Difference("code", "code", _short(old_hash), _short(new_hash))]
    short = [{label: str(_short(sha)) for label, sha in files.items()} for files in (old, new)]
    return _of_mappings("code", "", *short)


def _of_mappings(kind: str, prefix: str, before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    return [
        Difference(kind, f"{prefix}{name}", _text(before.get(name)), _text(after.get(name)))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _short(value: Any) -> str | None:
    return None if value is None else str(value)[:12]
