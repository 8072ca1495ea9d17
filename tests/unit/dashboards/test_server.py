"""How the pages' server is started and what its files may name."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_server.base.websocket import WebSocketMixin
from tornado.ioloop import IOLoop

from medisync.dashboards import server
from medisync.dashboards.application import configuration
from medisync.settings import Settings, project_root

DASHBOARDS = Path(server.__file__).parent


def test_no_file_of_the_pages_names_another_address() -> None:
    files = [file for file in DASHBOARDS.rglob("*") if file.suffix in (".html", ".j2", ".css", ".js", ".json")]
    assert len(files) >= 10
    for file in files:
        assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", file.read_text(encoding="utf-8")), file


def test_the_template_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from voila.paths import collect_static_paths, collect_template_paths

    environment = server.environment(Settings(data=tmp_path))
    monkeypatch.setenv("JUPYTER_PATH", environment["JUPYTER_PATH"])
    found = [Path(path) / "index.html.j2" for path in collect_template_paths(["voila", "nbconvert"], "medisync")]
    assert next(path for path in found if path.exists()).is_relative_to(DASHBOARDS)
    assert any((Path(path) / "live.js").exists() for path in collect_static_paths(["voila", "nbconvert"], "medisync"))


def test_a_path_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUPYTER_PATH", "/opt/jupyter")
    assert server.environment(Settings(data=tmp_path))["JUPYTER_PATH"] == f"{server.SHARE}:/opt/jupyter"


def test_nothing_is_kept_in_a_home(tmp_path: Path) -> None:
    environment = server.environment(Settings(data=tmp_path))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        assert Path(environment[name]).is_relative_to(tmp_path)


def test_the_server_listens_here_alone_and_says_nothing_of_faults(tmp_path: Path) -> None:
    told = configuration(Settings(data=tmp_path, pages_port=8001))
    assert told.Voila.ip == "127.0.0.1"
    assert told.Voila.port == 8001
    assert told.Voila.port_retries == 0
    assert told.VoilaConfiguration.show_tracebacks is False
    assert told.VoilaConfiguration.file_allowlist == []
    assert server.health_url(Settings(data=tmp_path, pages_port=8001)) == "http://127.0.0.1:8001/health"


def test_a_workspace_without_pages_of_its_own_gets_ours(tmp_path: Path) -> None:
    ours = project_root() / "notebooks" / "dashboards"
    assert server.dashboards_folder(Settings(notebooks=tmp_path)) == ours
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards" / server.OVERVIEW).touch()
    assert server.dashboards_folder(Settings(notebooks=tmp_path)) == tmp_path / "dashboards"


def test_the_notebook_is_thin() -> None:
    notebook = json.loads((project_root() / "notebooks" / "dashboards" / server.OVERVIEW).read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code[0]["metadata"]["tags"] == ["parameters"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    source = "\n".join("".join(cell["source"]) for cell in code)
    assert len(source.splitlines()) <= 12
    assert not re.search(r"\b(def|class|SELECT)\b", source)


def test_the_overview_alone_is_started_ahead(tmp_path: Path) -> None:
    """Voila holds the patterns against each notebook's whole path."""
    settings = Settings(data=tmp_path)
    denied = configuration(settings)["VoilaKernelManager"]["preheat_denylist"]
    paths = list(server.dashboards_folder(settings).glob("*.ipynb"))
    ahead = [path.name for path in paths if not any(re.match(pattern, str(path)) for pattern in denied)]
    assert len(paths) >= 5
    assert ahead == [server.OVERVIEW]


@pytest.mark.parametrize(("silent_seconds", "is_closed"), [(30.02, False), (76.0, True)])
def test_a_connection_outlives_its_first_ping(tmp_path: Path, silent_seconds: float, is_closed: bool) -> None:
    """With Jupyter's own code: the first ping comes as late after the opening as an answer may be missing."""

    class Connection(WebSocketMixin):
        settings = configuration(Settings(data=tmp_path))["Voila"]["tornado_settings"]
        log = logging.getLogger("test")
        ws_connection = SimpleNamespace(client_terminated=False)
        did: list[str] = []  # noqa: RUF012

        def ping(self, _data: bytes) -> None:
            self.did.append("pinged")

        def close(self) -> None:
            self.did.append("closed")

    async def live() -> None:
        connection = Connection()
        now = IOLoop.current().time()
        connection.last_pong, connection.last_ping = now - silent_seconds, now - 30.02
        connection.send_ping()

    asyncio.run(live())
    assert Connection.did == ["closed" if is_closed else "pinged"]
