"""Fixtures for all tests: workspaces in temporary folders, never the real ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from medisync import intake
from medisync.intake import DeliveryReport
from medisync.lake import Lake
from medisync.settings import Settings, load_settings
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.quick_lake import as_shipped, quick_lakes

__all__ = ["as_shipped"]
ROOT = Path(__file__).parents[1]


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: those that wait, for servers, browsers and time, leave a fifth idle."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def _quick_lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with quick_lakes(tmp_path_factory.mktemp("first-lake")):
        yield


@pytest.fixture(scope="session")
def sample() -> Path:
    """The shipped sample file."""
    return ROOT / "data" / "sample" / "healthcare_dataset.csv.gz"


def make_workspace(folder: Path, environment: pytest.MonkeyPatch, **settings: object) -> Settings:
    """Settings over ``folder``, also in the environment, so that kernels and child processes have the same."""
    environment.setenv("MEDISYNC_DATA", str(folder / "data"))
    environment.setenv("MEDISYNC_REPORTS", str(folder / "reports"))
    for name, value in {"inbox_settle_seconds": 0.0, "retry_seconds": 0.05, **settings}.items():
        environment.setenv(f"MEDISYNC_{name.upper()}", str(value))
    made = load_settings()
    made.make_folders()
    return made


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty workspace."""
    return make_workspace(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A Postgres server for all tests of this process; take a database of your own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def server_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer) -> Settings:
    """An empty workspace on an empty database."""
    database = postgres.new_database()
    return make_workspace(tmp_path, monkeypatch, profile="server", database_url=postgres.url(database))


@pytest.fixture(params=["sqlite", "postgres"])
def either_workspace(request: pytest.FixtureRequest) -> Settings:
    """An empty workspace of each kind."""
    settings: Settings = request.getfixturevalue("workspace" if request.param == "sqlite" else "server_workspace")
    return settings


@pytest.fixture
def lake(workspace: Settings) -> Iterator[Lake]:
    """The lake of ``workspace``."""
    opened = Lake(workspace)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def sample_delivery(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[tuple[Lake, DeliveryReport]]:
    """A lake with the sample in it and what its delivery reported. Shared: only read from it."""
    folder = tmp_path_factory.mktemp("sample")
    settings = Settings(data=folder / "data", reports=folder / "reports")
    opened = Lake(settings)
    report = intake.ingest(opened, sample)
    yield opened, report
    opened.close()
