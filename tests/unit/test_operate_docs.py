"""The examples of docs/operate.md for those who run a workspace as a service."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medisync.cli.main import app
from medisync.errors import SettingsError
from medisync.settings import PREFIX, load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent
WHERE = "/opt/medisync/.venv/bin/"


def block(language: str) -> str:
    [text] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.M | re.S)
    return str(text)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "medisync.service"
    unit.write_text(block("ini").replace(WHERE, f"{PROGRAMS}/").replace("/opt/medisync", str(tmp_path)))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_commands_of_units_exist() -> None:
    told = re.findall(r"ExecStart=(?:/\S+/|\.\.\. )([^`\n]+(?:\n[^`\n]+`)?)", PAGE)
    commands = [shlex.split(one.strip("`")) for one in told]
    assert commands == [["medisync", "up", "--lab"], ["python", "-m", "medisync.api.server"], ["medisync", "worker"]]
    for program, *arguments in commands:
        assert os.access(PROGRAMS / program, os.X_OK)
        if program == "medisync":
            shown = CliRunner().invoke(app, [*arguments, "--help"])
            assert shown.exit_code == 0, shown.output


def test_the_settings_of_the_example_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(line.split("=", 1) for line in block("sh").splitlines() if line.startswith(PREFIX))
    assert len(given) > 5
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.log_json
    assert settings.public_url.startswith("https://")


def test_the_api_alone_refuses_unknown_settings_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medisync.api.server"],
        env={**os.environ, "MEDISYNC_DTA": "Sekretwert"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == SettingsError.exit_code
    assert re.fullmatch(r"Error \[settings\]: Unknown settings: MEDISYNC_DTA\. .*\n", done.stderr), done.stderr
