"""What a result depends on, as hashes: when none of them changed, an earlier result is the answer."""

from __future__ import annotations

import datetime as dt
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
from medisync.runs.fixed_environment import FIXED_ENVIRONMENT
from medisync.runs.registry import AnalysisNotebook
from medisync.settings import Settings, project_root

COMPUTING_PACKAGES = ("duckdb", "matplotlib", "numpy", "pandas", "scipy", "statsmodels")
"""Their versions count for every analysis: what one imports may use another."""

RECORDED_PACKAGES = (*COMPUTING_PACKAGES, "ipykernel", "nbclient", "papermill", "prefect")
"""Kept in the record of every run; the last four carry numbers and do not make them."""


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code_of(notebook: AnalysisNotebook) -> closure.Closure:
    """The science code ``notebook`` uses, at whatever depth, and the helper modules beside it."""
    return closure.closure_of(notebook.code, notebook.path.parent, analysis=notebook.analysis)


def code_hash(notebook: AnalysisNotebook) -> str:
    """SHA-256 of :func:`code_of`."""
    return code_of(notebook).hash


def packages_of(code: closure.Closure) -> dict[str, str]:
    """The versions of the packages whose change may change a number that ``code`` computes."""
    names = {*COMPUTING_PACKAGES, *(_distribution(name) for name in code.imported)}
    found = {name: _version(name) for name in sorted(names)}
    return {name: version for name, version in found.items() if version is not None}


def settings_of(notebook: AnalysisNotebook, settings: Settings) -> dict[str, str]:
    """The settings ``notebook`` declares to depend on, in its metadata's ``settings``, with their values."""
    return {name: str(getattr(settings, name)) for name in notebook.settings}


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
    """Python, platform, processor, linear algebra, and the versions of the packages that compute."""
    return {
        "medisync": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "blas": _blas(),
        "lock_hash": lock_hash(),
        "packages": {name: version for name in RECORDED_PACKAGES if (version := _version(name)) is not None},
        **git_version(),
    }


def run_key(
    *,
    analysis: str,
    parameters: dict[str, Any],
    notebook_hash: str,
    code: closure.Closure,
    inputs: dict[str, int],
    settings: dict[str, str],
    known_on: dt.datetime | None = None,
) -> str:
    """The hash by which two runs are the same: ``inputs`` maps each table read to its version in the lake; ``known_on``
    is given when only what was known then of them is read."""
    python = platform.python_version()
    parts: list[Any] = [analysis, parameters, notebook_hash, code.hash, inputs]
    parts += [packages_of(code), python, settings, FIXED_ENVIRONMENT]
    return hash_of([*parts, known_on.isoformat()] if known_on else parts)


@functools.cache
def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _distribution(module: str) -> str:
    """The installed distribution a top-level module belongs to; the module's name where none is known."""
    if _version(module) is not None:
        return module
    return metadata.packages_distributions().get(module, [module])[0]


def _processor() -> str:
    """The processor's model: linear algebra libraries choose their code by it, and with it the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _blas() -> str:
    """Name and version of the linear algebra library numpy was built with."""
    import numpy as np

    built: Any = np.show_config(mode="dicts")  # type: ignore[call-overload,unused-ignore]
    found = built.get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', '')} {found.get('version', '')}".strip()


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
