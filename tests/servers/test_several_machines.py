"""A server and two workers on machines of their own: a database, a bucket and a shared disk, and nothing else."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from medisync.access import prefect_auth
from medisync.demo import write_demo_data
from medisync.lake import Lake
from medisync.settings import Settings, project_root
from tests.support.machines import Machine, machines
from tests.support.postgres import postgres_server
from tests.support.running import RunningWorkspace, child_environment, running_workspace, trial_settings, wait_until
from tests.support.s3_server import BUCKET, s3_server

pytestmark = pytest.mark.servers

SECRETS = ("prefect.auth", "dask.pem")


@dataclass
class Worker:
    """``medisync worker`` on a machine, with a home, a data folder and an environment of its own."""

    machine: Machine
    settings: Settings
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> Path:
        return self.settings.data.parent / "worker.out"

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def log(self, service: str) -> str:
        path = self.settings.logs / f"{service}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def start(self, *, code: Path | None = None, **changes: str) -> subprocess.Popen[str]:
        """Start it, with the code in the folder ``code``, which is this checkout's by default."""
        path = str(code or project_root())
        command = [sys.executable, "-m", "medisync.cli.main", "worker"]
        with self.machine.entered(), self.output.open("w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                self.machine.named(*command),
                env={**self.environment, "PYTHONPATH": path, **changes},
                cwd=self.settings.data.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return self.process

    def refused(self, **changes: str) -> tuple[int, str]:
        """Exit code and message of a start that comes to nothing."""
        code = self.start(**changes).wait(300)
        return code, self.said()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(300)


@dataclass
class Group:
    """All of it. What the test process asks, it asks from the server's machine."""

    server: RunningWorkspace
    workers: list[Worker]
    lake: Lake


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    folder = tmp_path_factory.mktemp("group")
    with contextlib.ExitStack() as stack:
        head, *others = stack.enter_context(machines("head", "ward", "cellar"))
        stack.enter_context(head.entered())
        postgres = stack.enter_context(postgres_server(head.address))
        storage = stack.enter_context(s3_server(folder / "s3", head.address))
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in storage.environment.items():
            environment.setenv(name, value)
        ports = trial_settings(folder)
        everywhere = {
            "reports": folder / "disk" / "reports",
            "shared": str(folder / "disk" / "shared"),
            "lake_files": f"s3://{BUCKET}/lake",
            "s3_endpoint": storage.endpoint,
            "profile": "server",
            "database_url": postgres.url(postgres.new_database(), tcp=True),
            "database_passfile": postgres.passfile,
            "prefect_url": f"http://{head.address}:{ports.prefect_port}/api",
            "dask_address": f"tls://{head.address}:{ports.lab_port}",
            "kernels": 1,
            "inbox_settle_seconds": 0.0,
        }
        settings = ports.model_copy(update={**everywhere, "prefect_host": head.address})
        server = stack.enter_context(running_workspace(settings))
        workers = []
        for machine in others:
            home = folder / machine.name
            own = Settings(data=home / "data", **everywhere)
            own.make_folders()
            workers.append(Worker(machine, own, {**child_environment(own), "HOME": str(home)}))
            stack.callback(workers[-1].stop)
        yield Group(server, workers, server.lake())


def give_secrets(group: Group, worker: Worker) -> None:
    for name in SECRETS:
        shutil.copy2(group.server.settings.keys / name, worker.settings.keys / name)


def all_work(group: Group) -> None:
    """Start the workers that do not run, and wait until each takes flow runs and has joined the cluster."""
    for worker in group.workers:
        if worker.process is None or worker.process.poll() is not None:
            give_secrets(group, worker)
            worker.start()
    for worker in group.workers:
        wait_until(
            lambda worker=worker: "This machine works for the server." in worker.said(),
            seconds=300,
            what=f"{worker.machine.name} works; it said:\n{worker.said()}",
        )
        wait_until(
            lambda worker=worker: "Registered to" in worker.log("dask-worker"),
            seconds=300,
            what=f"{worker.machine.name} is in the cluster; its log:\n{worker.log('dask-worker')}",
        )


def test_who_may_not_work_is_told_why(group: Group, tmp_path: Path) -> None:
    worker = group.workers[0]
    code, told = worker.refused()
    assert (code, "worker-refused" in told, "no secret of the workspace" in told) == (96, True, True), told
    give_secrets(group, worker)
    code, told = worker.refused(MEDISYNC_SHARED=str(tmp_path))
    assert (code, f"{tmp_path} is not the folder the server has" in told) == (96, True), told
    code, told = worker.refused(MEDISYNC_PREFECT_URL="http://127.0.0.1:9/api")
    assert (code, "server-away" in told) == (97, True), told

    other = tmp_path / "checkout"
    for part in ("medisync", "flows", "notebooks"):
        shutil.copytree(project_root() / part, other / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("prefect.yaml", "requirements.lock"):
        shutil.copy2(project_root() / part, other / part)
    with (other / "flows" / "rounds.py").open("a", encoding="utf-8") as file:
        file.write("# another one\n")
    code = worker.start(code=other).wait(300)
    told = worker.said()
    assert (code, "other-code" in told, "code is" in told, "lock is" in told) == (95, True, True, False), told


def test_a_delivery_is_analysed_on_the_other_machines(group: Group, tmp_path: Path) -> None:
    all_work(group)
    file = tmp_path / "admissions.csv"
    write_demo_data(file, rows=4_000, years=2, sites=3, seed=5)
    file.replace(group.server.settings.inbox / file.name)
    runs = wait_until(lambda: _runs(group) if len(_runs(group)) >= 7 else None, seconds=600, what="seven runs")
    assert {run["status"] for run in runs} == {"completed"}, runs
    assert len({run["analysis"] for run in runs}) == len(runs)  # each once
    # Who did which is the cluster's affair; that others had a part in it is not.
    assert any("Finished in state Completed" in worker.log("dask-worker") for worker in group.workers)

    settings = group.server.settings
    for run in runs:
        assert (settings.reports / "runs" / run["run_id"] / "report.html").exists()
    assert not list(settings.data.rglob("*.parquet"))
    for worker in group.workers:  # nothing that names anybody is there
        assert not [path for path in worker.settings.archive.rglob("*") if path.is_file()]
        assert not (worker.settings.keys / "pseudonyms").exists()
        assert not (worker.settings.data / "versions").exists()
    run_id = next(run["run_id"] for run in runs if run["analysis"] == "medication_analysis")
    again = group.server.medisync("reproduce", run_id)  # its notebook's version is where all see it
    assert again.returncode == 0, again.stderr


def test_flow_runs_go_to_whoever_asks_first(group: Group) -> None:
    all_work(group)
    deployment = group.server.api("GET", "/deployments/name/analyze/analyze")
    before = len(_runs(group))

    def both_had_one() -> bool:
        made = group.server.api("POST", f"/deployments/{deployment['id']}/create_flow_run", json={})

        def state() -> str | None:
            kind: str = group.server.api("GET", f"/flow_runs/{made['id']}")["state"]["type"]
            return kind if kind in ("COMPLETED", "FAILED", "CRASHED") else None

        assert wait_until(state, seconds=300, what="the flow run ends") == "COMPLETED"
        return all("submitting flow run" in worker.log("worker") for worker in group.workers)

    wait_until(both_had_one, seconds=600, what="both workers had a flow run")
    assert len(_runs(group)) == before  # all was answered already, wherever it was asked


def test_workers_stop_when_the_server_has_other_code(group: Group) -> None:
    all_work(group)
    deployment = group.server.api("GET", "/deployments/name/analyze/analyze")
    newer = deployment["version"].replace("schema=", "schema=1")
    settings = group.server.settings
    address = f"{settings.prefect_api_url}/deployments/{deployment['id']}"
    auth = prefect_auth.auth(settings)
    httpx.patch(address, json={"version": newer}, auth=auth, timeout=300).raise_for_status()
    for worker in group.workers:
        assert worker.process is not None
        assert worker.process.wait(300) == 95
        assert "schema is 1" in worker.said()


def _runs(group: Group) -> list[dict[str, str]]:
    return group.lake.query("SELECT run_id, analysis, status FROM analytics.runs") if group.lake.exists else []
