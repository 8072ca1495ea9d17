"""The bell at the worker's door."""

from __future__ import annotations

import select
import socket
import stat

import anyio
import pytest

from medisync.fastlane import bell
from medisync.settings import Settings


def is_rung(listening: socket.socket) -> bool:
    return bool(select.select([listening], [], [], 0)[0])


def test_a_bell_is_heard_once_however_often_it_was_rung(workspace: Settings) -> None:
    with bell.hung(workspace) as listening:
        assert stat.S_IMODE(bell.path(workspace).stat().st_mode) == 0o600
        assert not is_rung(listening)
        for _ in range(5):
            bell.ring(workspace)
        assert is_rung(listening)
        bell.silence(listening)
        assert not is_rung(listening)


def test_a_bell_that_nobody_takes_down_does_not_hold_up_who_rings(workspace: Settings) -> None:
    with bell.hung(workspace):
        for _ in range(5_000):  # more than the system keeps
            bell.ring(workspace)


def test_a_later_worker_takes_the_bell_over(workspace: Settings) -> None:
    with bell.hung(workspace) as earlier, bell.hung(workspace) as later:
        bell.ring(workspace)
        assert is_rung(later)
        assert not is_rung(earlier)


def test_without_a_worker_ringing_does_nothing(workspace: Settings) -> None:
    bell.ring(workspace)
    with bell.hung(workspace):
        pass
    bell.ring(workspace)  # its socket is still there, and nobody listens


def test_the_worker_looks_when_it_is_rung_for(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from medisync.fastlane import worker

    monkeypatch.setattr(worker, "load_settings", lambda: workspace)

    async def looks() -> None:
        looked = anyio.Event()
        prompt = worker.PromptWorker(work_pool_name="none")
        prompt.is_setup = True

        async def look() -> list[object]:
            looked.set()
            return []

        monkeypatch.setattr(prompt, "get_and_submit_flow_runs", look)
        async with anyio.create_task_group() as group:
            group.start_soon(prompt._heed_bell)
            while not bell.path(workspace).exists():
                await anyio.sleep(0.01)
            assert not looked.is_set()
            bell.ring(workspace)
            await looked.wait()
            group.cancel_scope.cancel()

    anyio.run(looks)
