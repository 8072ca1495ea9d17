"""Prefect's server may be too busy to answer; what the supervisor asks of it is asked again."""

from __future__ import annotations

import httpx
import pytest

from medisync.settings import Settings
from medisync.supervisor import crashes
from medisync.supervisor.prefect_requests import ask, while_too_busy


class Server:
    """Says what it is to say, one answer after the other, the last for ever; as httpx's own transport for tests."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return httpx.Response(status, json=[])

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self))


def test_a_server_that_is_too_busy_is_asked_again(workspace: Settings) -> None:
    server = Server(503, 429, 201)
    with server.client() as client:
        assert while_too_busy(ask)(client, workspace, "POST", "/work_pools/", {}).status_code == 201
    assert server.asked == ["POST /api/work_pools/"] * 3


@pytest.mark.parametrize("status", [409, 422, 500])
def test_any_other_answer_stands(workspace: Settings, status: int) -> None:
    server = Server(status)
    with server.client() as client, pytest.raises(httpx.HTTPStatusError):
        while_too_busy(ask)(client, workspace, "POST", "/work_pools/", {})
    assert len(server.asked) == 1


def test_automations_are_looked_up_again_after_a_busy_moment(workspace: Settings) -> None:
    """So that none of them is made twice."""
    server = Server(200, 201, 503, 200, 201)
    with server.client() as client:
        crashes.register(workspace, client)
    filtered = [number for number, asked in enumerate(server.asked) if asked.endswith("/filter")]
    assert filtered == [0, 3]
