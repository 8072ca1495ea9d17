"""What a result depends on, as hashes: when none of them changed, an earlier result is the answer."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from medisync import __version__
from medisync.runs import closure
from medisync.runs.registry import AnalysisNotebook
from medisync.settings import project_root

RECORDED_PACKAGES = (
    "duckdb", "ipykernel", "matplotlib", "nbclient", "numpy", "pandas", "papermill", "prefect", "scipy", "statsmodels"
)  # fmt: skip


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code_hash(notebook: AnalysisNotebook) -> str:
    """SHA-256 of the science code ``notebook`` uses, at whatever depth, and of helper modules beside it."""
    files = closure.source_files(notebook.code, notebook.path.parent, analysis=notebook.analysis)
    return closure.hash_of_files(files)


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


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
