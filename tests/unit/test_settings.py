"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from medisync.backend.database import parse
from medisync.errors import SettingsError
from medisync.settings import Settings, environment, load_settings


def test_folders_are_absolute_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDISYNC_DATA", "here")
    monkeypatch.setenv("MEDISYNC_REPORTS", "~/there")
    settings = load_settings()
    assert settings.data == tmp_path / "here"
    assert settings.reports == Path("~/there").expanduser()
    assert settings.inbox == tmp_path / "here" / "inbox"


def test_a_child_process_gets_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(data=tmp_path / "d", reports=tmp_path / "r", kernels=5, retry_seconds=0.25)
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == given


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KERNELS", "many"),
        ("KERNELS", "0"),
        ("QUARANTINE_SHARE", "1.5"),
        ("QUARANTINE_SHARE", "nan"),
        ("PREFECT_PORT", "70000"),
        ("NOTEBOOK_SECONDS", ""),
    ],
)
def test_a_wrong_value_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MEDISYNC_{name}", value)
    with pytest.raises(SettingsError, match=f"MEDISYNC_{name}: Input should be") as error:
        load_settings()
    assert "docs/settings.md" in str(error.value)


def test_an_unknown_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDISYNC_DTA", "x")
    with pytest.raises(SettingsError, match=r"Unknown settings: MEDISYNC_DTA\."):
        load_settings()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "the server profile needs MEDISYNC_DATABASE_URL"),
        ("mysql://u@h/d", "must begin with postgresql://"),
        ("postgresql://u:Sekretwert@h/d", "MEDISYNC_DATABASE_PASSFILE"),
        ("postgresql://u@h:Sekretwert/d", "its port is no number"),
        ("postgresql://u@h/d?password=Sekretwert", "no others"),
        ("postgresql://h/d", "must name user, host and database"),
        ("postgresql://u@h", "must name user, host and database"),
    ],
)
def test_a_wrong_address_of_the_database_is_told_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.setenv("MEDISYNC_PROFILE", "server")
    monkeypatch.setenv("MEDISYNC_DATABASE_URL", url)
    with pytest.raises(SettingsError, match=told) as error:
        load_settings()
    assert "Sekretwert" not in str(error.value)
    assert "docs/settings.md" in str(error.value)


def test_the_address_of_the_database_is_taken_apart_as_libpq_does() -> None:
    address = parse("postgresql://me%40clinic@db.example/my%20lake?sslmode=verify-full&sslrootcert=/c.pem")
    assert (address.user, address.host, address.port, address.name) == ("me@clinic", "db.example", 5432, "my lake")
    given = conninfo_to_dict(address.dsn())
    assert (given["dbname"], given["sslmode"], given["sslrootcert"]) == ("my lake", "verify-full", "/c.pem")
    assert parse("postgresql://u@/d?host=/run/socket").host == "/run/socket"


def test_folders_are_for_the_owner_alone(workspace: Settings) -> None:
    for folder in (workspace.inbox, workspace.lake, workspace.keys, workspace.archive, workspace.run_state):
        assert folder.stat().st_mode & 0o777 == 0o700
