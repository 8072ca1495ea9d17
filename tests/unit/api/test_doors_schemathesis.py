"""What schemathesis thinks of for the addresses that end or change the session it comes with, and for the stream.

tests/servers/test_api.py asks all others, in a running workspace. Here the account is one to be thrown away, in a
workspace of its own, and somebody ends the streams, which by themselves never end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.api.application import create
from medisync.settings import Settings
from tests.support.running import free_ports
from tests.support.serving import serving

LEAVE_THE_SESSION = ("/api/auth/password", "/api/auth/token", "/api/auth/refresh", "/api/analytics/stream")
END_IT = ("/api/auth/logout",)
NAME, PASSWORD = "gone-tomorrow", "seven green bottles on a wall"
STREAM_SECONDS = 0.05


def test_login_logout_and_stream_answer_as_documented_whatever_is_sent(tmp_path: Path) -> None:
    """All checks; how long an answer takes is not what is asked here."""
    [port] = free_ports(1)
    settings = Settings(data=tmp_path / "data", reports=tmp_path / "reports", api_port=port, prefect_port=9)
    settings.make_folders()
    Access.open(settings).accounts.add(NAME, Role.ANALYST, PASSWORD, must_change=False)
    app = create(settings)
    over = threading.Event()
    with serving(app, port) as served, httpx.Client(base_url=served.url, timeout=60) as client:

        def end_streams() -> None:
            while not over.wait(STREAM_SECONDS):
                served.loop.call_soon_threadsafe(app.state.house.hub.end_streams)

        ending = threading.Thread(target=end_streams)
        ending.start()
        try:
            answer = client.post("/api/auth/token", json={"username": NAME, "password": PASSWORD})
            token = {"Authorization": f"Bearer {answer.json()['data']['access_token']}"}
            document = tmp_path / "openapi.json"
            document.write_bytes(client.get("/api/openapi.json", headers=token).raise_for_status().content)
            for paths in (LEAVE_THE_SESSION, END_IT):
                done = schemathesis(paths, document, served.url, token["Authorization"], tmp_path)
                assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
                assert f"{len(paths)} selected" in done.stdout, done.stdout[:1500]
        finally:
            over.set()
            ending.join(10)
        assert client.get("/api/health").status_code in (200, 503)


def schemathesis(
    paths: tuple[str, ...], document: Path, url: str, authorization: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url),
        *(
            "--checks",
            "all",
            "--max-examples",
            "3",
            "--seed",
            "1",
            "--request-timeout",
            "300",
            "--max-response-time",
            "300",
        ),
        *("--generation-database", "none", "--no-color", "--suppress-health-check", "all"),
        *("--header", f"Authorization: {authorization}"),
        *(part for path in paths for part in ("--include-path", path)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMATHESIS")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
