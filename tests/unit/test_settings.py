"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_folders_are_for_the_owner_alone(workspace: Settings) -> None:
    for folder in (workspace.inbox, workspace.lake, workspace.keys, workspace.archive, workspace.run_state):
        assert folder.stat().st_mode & 0o777 == 0o700
