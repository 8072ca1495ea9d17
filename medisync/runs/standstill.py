"""Nothing moved at all: told by looking at marks alone, before anything heavier than ``json`` is imported.

Deciding properly hashes what a result depends on, and to import what is needed for that takes half a second. So a round
also leaves behind, with what :mod:`medisync.runs.recall` keeps, the marks (times, size, inode) of every file and folder
that decision rested on, the settings in force and the interpreter. While none of them differs, its answers hold. The
least doubt, a file changed just now, a variable spelt otherwise, means None: decide properly.
"""

from __future__ import annotations

import hashlib
import json
import os
import site
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medisync.backend.catalog_file import newest_in_file

if TYPE_CHECKING:
    from pathlib import Path

    from medisync.settings import Settings

PREFIX = "MEDISYNC_"
DATA = f"{PREFIX}DATA"
PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
ALL = "full_analysis"
FORMAT = 1
RACY_NANOSECONDS = 2_000_000_000
"""As in :mod:`medisync.runs.filefacts`: what changed this shortly before may change again without its times telling."""

_LOADED_NANOSECONDS = time.time_ns()
"""Code of ours on disk that is newer than this may not be what this process decides with."""


def answers(names: list[str]) -> list[dict[str, Any]] | None:
    """What ``Outcome.as_json`` gives for the analyses ``names`` (all for none) when nothing moved since the last round;
    None when that cannot be told from here."""
    try:
        return _answers(names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no note, or not one of ours
        return None


def _answers(names: list[str]) -> list[dict[str, Any]] | None:
    folder = os.environ.get(DATA) or os.path.join(os.path.dirname(PACKAGE), "data")
    if not os.path.isabs(folder) or _is_any_waiting(folder):
        return None
    with open(os.path.join(folder, "run", "recall.json"), encoding="utf-8") as file:
        kept = json.load(file)
    noted = kept["standstill"]
    if noted is None or noted["format"] != FORMAT or noted["interpreter"] != _interpreter():
        return None
    if not _is_told_the_same(noted["settings"]) or kept["snapshot"] != newest_in_file(noted["catalog"]):
        return None
    if any(mark_of(path) != mark for path, mark in noted["marks"].items()):
        return None
    keys: dict[str, str | None] = noted["keys"]
    chosen = list(keys) if not names or ALL in names else list(dict.fromkeys(names))
    found = [kept["answers"].get(keys.get(name)) for name in chosen]
    return None if not found or None in found else found


def marks_of(paths: Iterable[str | Path]) -> dict[str, list[int]]:
    """The mark of each path; raises OSError when one is not there."""
    return {str(path): mark_of(str(path)) for path in paths}


def deciding(settings: Settings) -> Iterator[str]:
    """The files and folders, beside the code of the analyses, on which a decision rests: notebooks, packages installed,
    our own code that decides."""
    yield str(settings.analyses)
    yield from (str(path) for path in settings.analyses.glob("*.ipynb"))
    yield from (folder for folder in _package_folders() if os.path.isdir(folder))
    yield from _own_code()


def note(
    settings: Settings, before: Mapping[str, list[int]], code: Mapping[str, list[int]], keys: Mapping[str, str | None]
) -> dict[str, Any] | None:
    """What :func:`answers` looks at; None when something changed so recently that marks cannot vouch for it.

    ``before`` are the marks of :func:`deciding` from before anything was read, ``code`` those of the analyses' files;
    ``keys`` maps every analysis to the run key with its default parameters, None where there is none.
    """
    folders = marks_of({os.path.dirname(path) for path in code})
    marks = {**before, **code, **folders}
    now = time.time_ns()
    own = set(_own_code())
    for path, mark in marks.items():
        if now - max(mark[:2]) <= RACY_NANOSECONDS or (path in own and max(mark[:2]) >= _LOADED_NANOSECONDS):
            return None
    return {
        "format": FORMAT,
        "interpreter": _interpreter(),
        "settings": _in_force(settings),
        "catalog": str(settings.catalog_file),
        "marks": marks,
        "keys": dict(keys),
    }


def mark_of(path: str) -> list[int]:
    """What changes with a file's content, or with a folder's entries."""
    status = os.stat(path)
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]


def _own_code() -> Iterator[str]:
    for name in ("__init__.py", "settings.py", "errors.py"):
        yield os.path.join(PACKAGE, name)
    runs = os.path.join(PACKAGE, "runs")
    yield from (os.path.join(runs, name) for name in sorted(os.listdir(runs)) if name.endswith(".py"))


def _package_folders() -> list[str]:
    """Where packages are installed: another version of one changes its folder's entries."""
    return [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]


def _interpreter() -> list[str]:
    return [sys.version, sys.prefix, os.environ.get("PYTHONPATH", "")]


def _in_force(settings: Settings) -> dict[str, list[Any]]:
    """Variable -> hash of its value (some are secret), and whether that is the default."""
    from medisync.settings import environment

    fields = type(settings).model_fields
    given = environment(settings)
    found = {}
    for name, field in fields.items():
        text = given.get(PREFIX + name.upper())
        default = field.get_default(call_default_factory=True, validated_data={})
        found[PREFIX + name.upper()] = [_hash(text), text == (None if default is None else str(default))]
    return found


def _is_told_the_same(in_force: dict[str, list[Any]]) -> bool:
    """Whether the environment gives the settings that were in force, as far as texts can tell."""
    given = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    if not given.keys() <= in_force.keys():
        return False  # unknown, or spelt in another way
    return all(
        _hash(given[name]) == value_hash if name in given else is_default
        for name, (value_hash, is_default) in in_force.items()
    )


def _hash(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _is_any_waiting(data: str) -> bool:
    """Whether a result published by hand waits for a round (:mod:`medisync.runs.dropped`)."""
    try:
        return any(name.endswith(".json") for name in os.listdir(os.path.join(data, "run", "published")))
    except FileNotFoundError:
        return False
