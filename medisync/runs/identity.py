"""What a result depends on, as hashes: when none of them changed, an earlier result is the answer."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from medisync import __version__
from medisync.settings import Settings, project_root

SCIENCE = ("analyses", "stats", "lake")
"""The sub-packages whose code decides about a number."""

RECORDED_PACKAGES = (
    "duckdb", "ipykernel", "matplotlib", "nbclient", "numpy", "pandas", "papermill", "prefect", "scipy", "statsmodels"
)  # fmt: skip


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code_hash(settings: Settings) -> str:
    """SHA-256 of the science code and of helper modules beside the analysis notebooks."""
    package = Path(__file__).resolve().parent.parent
    files = [file for name in SCIENCE for file in (package / name).rglob("*") if file.suffix in (".py", ".sql")]
    return _files_hash(sorted(files) + sorted(settings.analyses.glob("*.py")))


@functools.cache
def lock_hash() -> str | None:
    """SHA-256 of the lock the environment was installed from."""
    lock = project_root() / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None


@functools.cache
def git_version() -> dict[str, Any]:
    """The checkout's commit and whether it has changes; empty outside a checkout."""
    root = project_root()
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {}


@functools.cache
def environment_record() -> dict[str, Any]:
    """Python, platform and the versions of the packages that compute."""
    return {
        "medisync": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "lock_hash": lock_hash(),
        "packages": {name: metadata.version(name) for name in RECORDED_PACKAGES},
        **git_version(),
    }


def run_key(*, analysis: str, parameters: dict[str, Any], notebook_hash: str, code: str, inputs: dict[str, int]) -> str:
    """The hash by which two runs are the same: ``inputs`` maps each table read to its version in the lake."""
    packages = environment_record()["packages"]
    return hash_of([analysis, parameters, notebook_hash, code, inputs, packages, platform.python_version()])


def _files_hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
