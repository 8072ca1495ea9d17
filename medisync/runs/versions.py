"""Every notebook version that ran, with the code it used, kept by content hash in ``data/versions/``.

A blob is named after the SHA-256 of its bytes; a manifest names the blobs of one version: the notebook (without
outputs), each source file of its closure by label, and the lock of the environment. What is read back is hashed again,
so a damaged archive is noticed and never executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medisync.errors import MediSyncError, UserError
from medisync.runs.closure import Closure
from medisync.runs.filefacts import hash_of_contents
from medisync.runs.registry import AnalysisNotebook, source_hash
from medisync.settings import Settings, project_root

DAY_SECONDS = 86_400.0


class VersionMissingError(UserError):
    """The archive does not hold the notebook version of a run."""

    code = "version-missing"
    exit_code = 61
    http_status = 410


class VersionDamagedError(MediSyncError):
    """The archive of notebook versions holds something else than was put in."""

    code = "version-damaged"
    exit_code = 62


class ChangedMeanwhileError(Exception):
    """Notebook or code on disk are no longer those that were planned with."""


@dataclass(frozen=True)
class Version:
    """One version, read back and verified. ``files`` go by the closure's labels."""

    name: str
    notebook: dict[str, Any]
    files: dict[str, bytes]
    lock: bytes | None


def keep(settings: Settings, notebook: AnalysisNotebook, code: Closure) -> Path:
    """Keep this version, unless it is kept already; the path of the kept notebook, which is what should run.

    Raises ChangedMeanwhileError when the files are not those whose hashes were taken.
    """
    try:
        document = without_outputs(json.loads(notebook.path.read_bytes()))
        files = {label: path.read_bytes() for label, path in code.files.items()}
    except (OSError, ValueError):
        raise ChangedMeanwhileError from None
    hashes = {label: _sha(content) for label, content in files.items()}
    if source_hash(document) != notebook.notebook_hash or hash_of_contents(hashes) != code.hash:
        raise ChangedMeanwhileError
    root = folder(settings)
    raw = json.dumps(document, indent=1, ensure_ascii=False).encode()  # in its own order, which its hash knows
    lock = project_root() / "requirements.lock"
    for content in files.values():
        _put(root, content)
    manifest = {
        "name": notebook.path.name,
        "notebook": _put(root, raw, ".ipynb"),
        "code": hashes,
        "lock": _put(root, lock.read_bytes()) if lock.exists() else None,
    }
    path = _manifest(settings, notebook.notebook_hash, code.hash)
    content = json.dumps(manifest, indent=1, sort_keys=True).encode()
    if not path.exists() or path.read_bytes() != content:
        _write(path, content)
    _touch(path)
    return _blob(root, str(manifest["notebook"]), ".ipynb")


def fetch(settings: Settings, notebook_hash: str, code_hash: str) -> Version:
    """The kept version with these hashes. Raises VersionMissingError, VersionDamagedError."""
    root = folder(settings)
    manifest = _read_manifest(settings, notebook_hash, code_hash)
    try:
        document = json.loads(_get(root, manifest["notebook"], ".ipynb"))
        files = {label: _get(root, sha) for label, sha in manifest["code"].items()}
        lock = _get(root, manifest["lock"]) if manifest.get("lock") else None
        name = str(manifest["name"])
        is_right = source_hash(document) == notebook_hash and hash_of_contents(manifest["code"]) == code_hash
    except (KeyError, TypeError, AttributeError, ValueError):
        is_right = False
    if not is_right or Path(name).name != name or any(".." in label for label in files):
        raise VersionDamagedError(
            f"The kept version {notebook_hash[:12]} is not the one that was put into the archive.",
            hint="Restore data/versions/ from a backup, or run the analysis anew.",
        )
    return Version(name, document, files, lock)


def code_files(settings: Settings, notebook_hash: str, code_hash: str) -> dict[str, str]:
    """Label -> SHA-256 of the source files of a kept version; empty when it is not kept or damaged."""
    try:
        files = _read_manifest(settings, notebook_hash, code_hash)["code"]
    except (MediSyncError, KeyError):
        return {}
    return dict(files) if isinstance(files, dict) else {}


def not_needed(settings: Settings, needed: set[tuple[str, str]], oldest: float) -> list[Path]:
    """Manifests of versions that are not among ``needed`` (notebook hash, code hash), and the blobs no other manifest
    names; only files from before ``oldest`` (a time), since a run that has just begun is not on record yet.

    While a manifest that stays cannot be read nothing is told: it may name any blob.
    """
    keep = {_manifest(settings, *one).name for one in needed}
    gone, named = [], set[str]()
    for path in sorted((folder(settings) / "manifests").glob("*.json")):
        if path.name not in keep and path.stat().st_mtime < oldest:
            gone.append(path)
            continue
        try:
            manifest = json.loads(path.read_bytes())
            named |= {str(manifest["notebook"]), str(manifest.get("lock")), *map(str, manifest["code"].values())}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
    blobs = sorted(path for path in (folder(settings) / "files").glob("*/*") if not path.name.startswith("."))
    return gone + [path for path in blobs if path.name.split(".")[0] not in named and path.stat().st_mtime < oldest]


def folder(settings: Settings) -> Path:
    """Where versions are kept."""
    return settings.versions


def without_outputs(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of a notebook's JSON without outputs and counters, which may show anything."""
    cells = [
        {**cell, "outputs": [], "execution_count": None} if cell.get("cell_type") == "code" else cell
        for cell in document["cells"]
    ]
    return {**document, "cells": cells}


def _manifest(settings: Settings, notebook_hash: str, code_hash: str) -> Path:
    return folder(settings) / "manifests" / f"{notebook_hash[:32]}-{code_hash[:32]}.json"


def _read_manifest(settings: Settings, notebook_hash: str, code_hash: str) -> dict[str, Any]:
    path = _manifest(settings, notebook_hash, code_hash)
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise VersionMissingError(
            f"The notebook version {notebook_hash[:12]} with code {code_hash[:12]} is not in the archive.",
            hint="Versions are kept from the first run on with this MediSync; older runs cannot be executed again.",
        ) from None
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict):
        raise VersionDamagedError(
            f"The manifest of version {notebook_hash[:12]} cannot be read.",
            hint="Restore data/versions/ from a backup, or run the analysis anew.",
        )
    return manifest


def _put(root: Path, content: bytes, ending: str = "") -> str:
    sha = _sha(content)
    path = _blob(root, sha, ending)
    if not path.exists() or path.stat().st_size != len(content):
        _write(path, content)
    _touch(path)
    return sha


def _get(root: Path, sha: str, ending: str = "") -> bytes:
    try:
        content = _blob(root, sha, ending).read_bytes()
    except OSError:
        content = b""
    if _sha(content) != sha:
        raise VersionDamagedError(
            f"The archive's file {sha[:12]} is missing or damaged.",
            hint="Restore data/versions/ from a backup, or run the analysis anew.",
        )
    return content


def _blob(root: Path, sha: str, ending: str) -> Path:
    return root / "files" / sha[:2] / f"{sha}{ending}"


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, for the owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _touch(path: Path) -> None:
    """Clean-up goes by when a version was last wanted; told once a day, so that backups find the file unchanged."""
    if time.time() - path.stat().st_mtime > DAY_SECONDS:
        os.utime(path)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
