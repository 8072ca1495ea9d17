"""Wide work whose cluster is not there is done by the flow itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import distributed
import pytest
from prefect.logging import disable_run_logger

from flows import fan_out
from medisync.runs import dask_cluster
from medisync.runs.same_code import this_code
from medisync.settings import Settings
from tests.conftest import make_workspace
from tests.support.running import free_ports, wait_until


class Doubled:
    """What a flow's task looks like to whoever submits it."""

    def submit(self, number: int) -> Future[int]:
        done: Future[int] = Future()
        done.set_result(2 * number)
        return done


ANY_PORT = "127.0.0.1:0"
"""Of a cluster's own page: without an address it takes a fixed port, which another test's cluster may have."""

ARGUMENTS = [{"number": number} for number in range(3)]


@pytest.fixture
def cluster() -> Iterator[distributed.LocalCluster]:
    """A scheduler without workers."""
    with (
        disable_run_logger(),
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=ANY_PORT, protocol="tcp", host="127.0.0.1"
        ) as made,
    ):
        yield made


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, address: str) -> list[int]:
    make_workspace(folder, monkeypatch, dask_address=address)
    task: Any = Doubled()
    with disable_run_logger():
        return fan_out.run_each(task, ARGUMENTS)


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "CONNECT_SECONDS", 0.5)
    assert run(monkeypatch, tmp_path, f"tcp://127.0.0.1:{free_ports(1)[0]}") == [0, 2, 4]


def test_no_certificate_no_answer(tmp_path: Path) -> None:
    """A cluster of other machines takes nobody who does not have its key."""
    settings = Settings(data=tmp_path / "a", reports=tmp_path, dask_address="tls://127.0.0.1:1")
    stranger = settings.model_copy(update={"data": tmp_path / "b"})
    ours, theirs = dask_cluster.security(settings), dask_cluster.security(stranger)
    path = str(settings.keys / dask_cluster.KEY)
    roles = {f"tls_{role}_{part}": path for role in ("scheduler", "worker", "client") for part in ("cert", "key")}
    everybody = distributed.Security(require_encryption=True, tls_ca_file=path, **roles)
    assert settings.keys.joinpath(dask_cluster.KEY).stat().st_mode & 0o077 == 0
    with distributed.LocalCluster(
        n_workers=1, processes=False, dashboard_address=ANY_PORT, protocol="tls", host="127.0.0.1", security=everybody
    ) as made:
        with distributed.Client(made.scheduler_address, security=ours) as client:
            assert client.submit(abs, -1).result() == 1
        with pytest.raises(OSError, match=r"."):
            distributed.Client(made.scheduler_address, security=theirs, timeout=1)


def test_a_worker_with_other_code_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: distributed.LocalCluster
) -> None:
    assert run(monkeypatch, tmp_path, cluster.scheduler_address) == [0, 2, 4]  # it has no workers
    cluster.scale(1)
    wait_until(lambda: cluster.scheduler.workers, seconds=60, what="the worker is there")
    other = dataclasses.replace(this_code(), code="other")
    monkeypatch.setattr(fan_out, "_code", lambda: str(other))
    assert run(monkeypatch, tmp_path, cluster.scheduler_address) == [0, 2, 4]
    wait_until(lambda: not cluster.scheduler.workers, seconds=60, what="the worker is gone")
