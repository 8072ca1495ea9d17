"""What counts as changed code."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medisync.fastlane.sources import ImportedSources


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An imported module outside of any library, an hour old."""
    path = tmp_path / "a_module_of_ours.py"
    path.write_text("VALUE = 1")
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "a_module_of_ours", raising=False)
    importlib.import_module("a_module_of_ours")
    monkeypatch.setitem(sys.modules, "a_module_of_ours", sys.modules["a_module_of_ours"])
    return path


def rewrite(path: Path) -> None:
    path.write_text("VALUE = 2")


def replace_by_an_older_file(path: Path) -> None:
    """As a checkout of a former version with its dates, of the same size."""
    other = path.with_suffix(".other")
    other.write_text("VALUE = 3")
    stamp = path.stat()
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, replace_by_an_older_file, Path.unlink, Path.touch])
def test_a_changed_replaced_or_removed_source_is_noticed(module: Path, change: Callable[[Path], None]) -> None:
    sources = ImportedSources(time.time_ns())
    assert not sources.have_changed()
    change(module)
    assert sources.have_changed()


def test_a_source_changed_while_importing_is_noticed(module: Path) -> None:
    begun = time.time_ns()
    os.utime(module, ns=(begun, begun + 1))
    assert ImportedSources(begun).have_changed()


def test_a_source_dated_in_the_future_does_not_count_as_changed_for_ever(module: Path) -> None:
    tomorrow = time.time() + 86400
    os.utime(module, (tomorrow, tomorrow))
    assert not ImportedSources(time.time_ns()).have_changed()


def test_an_installed_upgraded_or_removed_package_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "site-packages"
    (packages / "thing-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    stamp = time.time() - 3600
    os.utime(packages, (stamp, stamp))
    sources = ImportedSources(time.time_ns())
    assert not sources.have_changed()
    (packages / "thing-1.0.dist-info").rename(packages / "thing-1.1.dist-info")
    assert sources.have_changed()


def test_libraries_are_not_looked_at_file_by_file(module: Path) -> None:
    import numpy

    watched = ImportedSources(time.time_ns())._marks
    assert str(module) in watched
    assert str(Path(importlib.import_module("medisync.settings").__file__ or "")) in watched
    assert numpy.__file__ not in watched
    assert importlib.import_module("json").__file__ not in watched
