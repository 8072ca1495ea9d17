"""One running workspace for the tests that only use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.running import RunningWorkspace, running_workspace, trial_settings


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorkspace]:
    """A workspace without data, as ``medisync up`` starts it."""
    with running_workspace(trial_settings(tmp_path_factory.mktemp("workspace"))) as running:
        yield running
