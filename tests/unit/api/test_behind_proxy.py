"""The API behind nginx with TLS, configured as docs/operate.md says."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from medisync.access import audit, gate
from medisync.access.permissions import Role
from medisync.access.service import Access
from medisync.api.application import create
from medisync.runs.dask_cluster import self_signed
from medisync.settings import Settings
from tests.support.running import free_ports, wait_until
from tests.support.serving import Serving, serving

PAGE = (Path(__file__).parents[3] / "docs" / "operate.md").read_text(encoding="utf-8")
PASSWORD = "seven green bottles on a wall"
STRANGER = "192.0.2.7"


def nginx() -> str:
    """The program; without it the tests are skipped, and fail where CI runs."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None and os.environ.get("CI"):
        pytest.fail("CI has no nginx: see .ci/run")
    if found is None:
        pytest.skip("no nginx here (apt-get install nginx-light)")
    return found


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    files = folder / "medisync.pem", folder / "medisync.key"
    for file, content in zip(files, self_signed("127.0.0.1", here, days=1), strict=True):
        file.write_bytes(content)
    return files


def configuration(folder: Path, api_port: int, ports: tuple[int, int]) -> Path:
    """The documentation's, with addresses and folders of this test."""
    [told] = re.findall(r"^```nginx\n(.*?)^```", PAGE, flags=re.M | re.S)
    public, private = certificate(folder)
    here = {
        "listen 443 ssl": f"listen 127.0.0.1:{ports[0]} ssl",
        "listen 8443 ssl": f"listen 127.0.0.1:{ports[1]} ssl",
        "/etc/ssl/medisync.pem": str(public),
        "/etc/ssl/private/medisync.key": str(private),
        "http://127.0.0.1:8000": f"http://127.0.0.1:{api_port}",
    }
    for theirs, ours in here.items():
        assert theirs in told
        told = told.replace(theirs, ours)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{told}\n}}\n"
    )
    return file


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, httpx.Client]]:
    """The API over an empty workspace, and a client that knows the proxy alone."""
    program, folder = nginx(), tmp_path_factory.mktemp("proxy")
    api_port, tls_port, pages_port = free_ports(3)
    url = f"https://127.0.0.1:{tls_port}"
    settings = Settings(
        data=folder / "data", reports=folder / "reports", api_port=api_port, prefect_port=9, public_url=url
    )
    settings.make_folders()
    Access.open(settings).accounts.add("analyst", Role.ANALYST, PASSWORD, must_change=False)
    file = configuration(folder, api_port, (tls_port, pages_port))
    with serving(create(settings), api_port) as served:
        proxy = subprocess.Popen([program, "-p", str(folder), "-c", str(file)], stderr=subprocess.PIPE, text=True)
        trusted = ssl.create_default_context(cafile=str(folder / "medisync.pem"))
        try:
            with httpx.Client(base_url=url, verify=trusted, timeout=120) as client:

                def answers() -> bool:
                    assert proxy.poll() is None, proxy.stderr and proxy.stderr.read()
                    with contextlib.suppress(httpx.TransportError):
                        return client.get("/login").status_code == 200
                    return False

                wait_until(answers, seconds=60, what="the proxy answers")
                yield served, client
        finally:
            proxy.terminate()
            proxy.communicate(timeout=60)


def token(client: httpx.Client) -> dict[str, str]:
    answer = client.post(
        "/api/auth/token",
        json={"username": "analyst", "password": PASSWORD},
        headers={"X-Forwarded-For": STRANGER},
    )
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['data']['access_token']}"}


def test_a_browser_logs_in_with_cookies_for_tls_alone(proxied: tuple[Serving, httpx.Client]) -> None:
    served, client = proxied
    settings: Settings = served.app.state.house.settings
    form = client.get("/login")
    assert "max-age" in form.headers["strict-transport-security"]
    csrf = str(client.cookies[gate.csrf_cookie(settings)])
    fields = {"username": "analyst", "password": PASSWORD, "csrf": csrf}
    elsewhere = client.post("/login", data=fields, headers={"Origin": "https://elsewhere.example"})
    assert elsewhere.status_code == 403
    done = client.post("/login", data=fields, headers={"Origin": str(client.base_url).rstrip("/")})
    assert done.status_code == 303, done.text
    assert all("; Secure" in one for one in done.headers.get_list("set-cookie"))
    assert client.get("/api/auth/me").json()["data"]["username"] == "analyst"
    refused = client.post("/api/analytics/refresh", headers={"Origin": "https://elsewhere.example"})
    assert refused.status_code == 403
    client.cookies.clear()


def test_programs_get_compressed_answers_limits_and_one_id(proxied: tuple[Serving, httpx.Client]) -> None:
    served, client = proxied
    headers = token(client)
    answer = client.get("/api/openapi.json", headers=headers)
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"]), "the proxy's"
    assert client.get("/metrics", headers=headers).status_code == 404
    assert client.post("/api/analytics/", content=b"x" * 300_000, headers=headers).status_code == 413
    with served.app.state.house.access.ledger.begin() as connection:
        logins = [one.where for one in connection.execute(audit.audit_log.select()) if one.what == "login"]
    assert set(logins) == {"127.0.0.1"}, "what a client says of its address counts for nothing"


def test_events_come_while_the_stream_is_open(proxied: tuple[Serving, httpx.Client]) -> None:
    served, client = proxied
    with client.stream("GET", "/api/analytics/stream/", headers=token(client)) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("event: "))
        assert next(lines) == "event: stream.ready"
        tell = functools.partial(served.app.state.house.hub.tell_all, "run.started", {"number": 1})
        served.loop.call_soon_threadsafe(tell)
        assert next(lines) == "event: run.started"
        served.loop.call_soon_threadsafe(served.app.state.house.hub.end_streams)
