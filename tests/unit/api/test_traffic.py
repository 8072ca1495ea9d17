"""What happens to every request: ids, limits, headers, envelopes, log lines, figures."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator

import httpx
import pytest

from medisync.access.permissions import Role
from medisync.api import logs, metrics, traffic
from medisync.api.traffic import LARGEST_BODY_BYTES, Traffic
from tests.unit.api.conftest import Door

SECRET = "Sekretwert"


def test_every_answer_has_an_id_and_protects_itself(door: Door) -> None:
    for path in ("/api/health", "/nothing", "/api/analytics/"):
        answer = door.client.get(path)
        assert len(answer.headers["x-request-id"]) == 16
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(("given", "is_kept"), [("trace-1.a_B", True), ("a b", False), ("x" * 65, False), ("ä", False)])
def test_a_request_s_own_id_is_kept_when_it_is_one(door: Door, given: str, is_kept: bool) -> None:
    answer = door.client.get("/nothing", headers={"X-Request-ID": given.encode()})  # type: ignore[dict-item]
    assert (answer.headers["x-request-id"] == given) == is_kept
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_an_unknown_address_and_method_are_envelopes(door: Door) -> None:
    nothing = door.client.get(f"/api/{SECRET}")
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "no-such-address")
    assert SECRET not in nothing.text
    wrong = door.client.delete("/api/analytics/")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method-not-allowed")
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "POST"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"analysis_type": 3}',
        b'{"analysis_type": "../%s"}' % SECRET.encode(),
        b'{"analysis_type": "patient_demographics", "%s": 1}' % SECRET.encode(),
        b'{"analysis_type": "patient_demographics", "force_refresh": "%s"}' % SECRET.encode(),
        b'{"analysis_type": "patient_demographics", "parameters": "%s"}' % SECRET.encode(),
        b'{"analysis_type": "patient_demographics", "parameters": {"alpha": "%s"}}' % SECRET.encode(),
        b'{"analysis_type": "patient_demographics", "parameters": {"alpha": NaN}}',
    ],
)
def test_a_wrong_body_is_refused_without_repeating_it(door: Door, body: bytes) -> None:
    headers = {**door.headers(Role.ANALYST), "Content-Type": "application/json"}
    answer = door.client.post("/api/analytics/", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] in ("bad-request", "bad-parameter")
    assert SECRET not in answer.text


def test_ten_megabytes_are_refused_before_they_are_read(door: Door) -> None:
    answer = door.client.post("/api/analytics/", content=b"x" * 10_000_000, headers=door.headers(Role.ANALYST))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too-large")


def test_a_body_of_unknown_length_is_cut_off(door: Door) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    headers = {**door.headers(Role.ANALYST), "Content-Type": "application/json"}
    answer = door.client.post("/api/analytics/", content=pieces(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too-large")


def test_no_more_of_a_body_is_kept_than_is_allowed() -> None:
    """Whatever is announced, the application is never handed more than the limit."""
    handed = 0

    async def app(_: object, receive: object, send: object) -> None:
        nonlocal handed
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        while True:
            message = await receive()  # type: ignore[operator]
            handed += len(message["body"])

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "raw_path": b"/", "method": "POST", "headers": []}
    with pytest.raises(Exception, match="413"):
        asyncio.run(Traffic(app)(scope, receive, send))  # type: ignore[arg-type]
    assert handed <= LARGEST_BODY_BYTES


def test_an_answer_that_takes_too_long_is_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "ANSWER_SECONDS", 0.01)

    async def app(*_: object) -> None:
        await asyncio.Event().wait()

    assert _answer_of(app)["error"]["code"] == "too-slow"


def test_a_fault_of_ours_is_an_envelope_without_its_text() -> None:
    async def app(*_: object) -> None:
        raise RuntimeError(SECRET)

    answer = _answer_of(app)
    assert answer["error"]["code"] == "internal"
    assert SECRET not in json.dumps(answer)


def _answer_of(app: object) -> dict[str, dict[str, str]]:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Traffic(app))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/x/")

    found: dict[str, dict[str, str]] = asyncio.run(ask()).json()
    return found


def test_half_a_request_holds_up_nobody(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.served.port)) as stuck:
        stuck.sendall(b"POST /api/analytics/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert door.client.get("/api/health").status_code == 200


def test_a_line_in_the_log_has_ids_and_no_address_of_a_stranger(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="medisync.api"):
        answer = door.get("/api/runs/r20240507T101500-1f3a9c")
        door.client.get(f"/{SECRET}")
    [line] = [one for one in caplog.records if getattr(one, "request_id", "") == answer.headers["x-request-id"]]
    written = json.loads(logs.JsonLines().format(line))
    assert (written["status"], written["method"], written["path"]) == (404, "GET", "/api/runs/{run_id}")
    assert f"request_id={answer.headers['x-request-id']}" in logs.TextLines().format(line)
    assert SECRET not in caplog.text


def test_figures_are_for_this_machine_and_for_the_token(door: Door) -> None:
    door.get("/api/analytics/?type=patient_demographics")
    text = door.client.get("/metrics").text
    assert 'medisync_requests_total{method="GET",route="/api/analytics",status="200"}' in text
    assert "medisync_lake_snapshot" in text
    forwarded = {"X-Forwarded-For": "192.0.2.7"}
    assert door.client.get("/metrics", headers=forwarded).status_code == 401
    token = metrics.token(door.settings)
    shown = door.client.get("/metrics", headers={**forwarded, "Authorization": f"Bearer {token}"})
    assert shown.status_code == 200
    assert metrics.token_path(door.settings).stat().st_mode & 0o777 == 0o600
    for role, status in {Role.VIEWER: 403, Role.CLINICIAN: 403, Role.ANALYST: 200, Role.ADMIN: 200}.items():
        assert door.client.get("/metrics", headers={**forwarded, **door.headers(role)}).status_code == status


def test_health_tells_everybody_little_and_visitors_each_part(door: Door) -> None:
    assert door.client.get("/api/health/").json()["data"]["parts"] is None
    parts = {one["name"]: one for one in door.get("/api/health", Role.VIEWER).json()["data"]["parts"]}
    assert {name: parts[name]["state"] for name in ("api", "lake", "prefect")} == {
        "api": "up",
        "lake": "up",
        "prefect": "down",
    }
    assert parts["lake"]["since"].startswith("20")


def test_without_prefect_reading_goes_on_and_asking_is_503(door: Door) -> None:
    assert door.get("/api/analytics/?type=patient_demographics").status_code == 200
    body = {"analysis_type": "patient_demographics", "force_refresh": True}
    asked = door.client.post("/api/analytics/", json=body, headers=door.headers(Role.ANALYST))
    assert (asked.status_code, asked.json()["error"]["code"]) == (503, "orchestrator-away")
    refreshed = door.client.post("/api/analytics/refresh/", headers=door.headers(Role.ANALYST))
    assert refreshed.status_code == 503
    status = door.get("/api/analytics/status/3f2504e0-4f89-41d3-9a0c-0305e82c3301/")
    assert status.status_code == 503


def test_what_is_answered_needs_no_run(door: Door) -> None:
    asked = door.client.post(
        "/api/analytics", json={"analysis_type": "medication_analysis"}, headers=door.headers(Role.ANALYST)
    )
    assert asked.status_code == 200
    data = asked.json()["data"]
    assert (data["task_id"], data["state"], len(data["run_ids"])) == (None, "completed", 1)
