"""A round over the kernel server: a notebook that misbehaves hurts its own run and nothing else."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from medisync import intake
from medisync.fastlane import kernels
from medisync.lake import Lake
from medisync.runs import story
from medisync.runs.record import Outcome
from medisync.runs.story import Request
from tests.conftest import make_workspace
from tests.support.admissions_csv import admissions, write_csv
from tests.support.fork_servers import RunningForkServer, fork_server, is_gone
from tests.support.pace import slowness
from tests.support.running import wait_until
from tests.support.small_notebooks import OPEN, publish, write_notebook

REQUEST = Request(trigger="test")
PARENT = "import os, psutil\nprint('forked from', psutil.Process(os.getppid()).ppid())"
MISBEHAVING = {
    "leaves_threads": (
        "import threading, time\nfor _ in range(5):\n    threading.Thread(target=time.sleep, args=(600,)).start()"
    ),
    "leaves_processes": (
        "import subprocess\nfor new in (True, False):\n"
        "    print('left', subprocess.Popen(['sleep', '600'], start_new_session=new).pid)"
    ),
    "forks_itself": "import os, time\nif os.fork() == 0:\n    time.sleep(600)\n    os._exit(0)",
    "moves_about": "import os\nos.chdir('/')\nos.environ.update(PATH='', HOME='/')\nos.umask(0o777)",
    "breaks_modules": (
        "import json, numpy, sys\nnumpy.mean = None\nsys.modules.update(json=None, medisync=None)\ndel sys.path[:]"
    ),
    "exits": "import os\nos._exit(0)",
    "kills_itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "kills_its_group": "import os, signal\nos.killpg(0, signal.SIGKILL)",
    "exhausts_memory": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (3_000_000_000,) * 2)\nbig = bytearray(8_000_000_000)"
    ),
    "exhausts_descriptors": "import os\nheld = [os.dup(0) for _ in range(10_000_000)]",
    "crashes": "import ctypes\nctypes.string_at(1)",
}


@dataclass(frozen=True)
class Round:
    """Its outcomes, the server it ran over and what that looked like before."""

    lake: Lake
    server: RunningForkServer
    outcomes: dict[str, Outcome]
    descriptors_before: int
    children_before: list[psutil.Process]

    def printed(self, analysis: str) -> str:
        """What the executed notebook's cells printed."""
        run = self.outcomes[analysis].record.run_id
        document = json.loads((self.lake.settings.reports / "runs" / run / "notebook.ipynb").read_text())
        outputs = [output for cell in document["cells"] for output in cell.get("outputs", [])]
        return "".join("".join(output.get("text", "")) for output in outputs)


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as environment:
        settings = make_workspace(
            folder, environment, notebooks=folder / "notebooks", retries=0, notebook_seconds=600, kernels=2
        )
        lake = Lake(settings)
        intake.ingest(lake, write_csv(folder / "ten.csv", admissions(10)))
        for name, code in MISBEHAVING.items():
            write_notebook(settings.analyses, name, code, OPEN, publish(name))
        for name in ("a_good", "z_good"):
            write_notebook(settings.analyses, name, PARENT, OPEN, publish(name))
        path = kernels.socket_path(settings)
        with fork_server(path.parent, "-m", "medisync.fastlane.kernels", str(path)) as server:
            descriptors = server.descriptors()
            children = psutil.Process().children()
            outcomes = story.run(lake, request=REQUEST)
            yield Round(lake, server, {one.record.analysis: one for one in outcomes}, descriptors, children)
        lake.close()


@pytest.mark.parametrize("analysis", ["a_good", "z_good"])
def test_the_well_behaved_are_forked_and_complete(misbehaving: Round, analysis: str) -> None:
    record = misbehaving.outcomes[analysis].record
    assert (record.status, record.headline) == ("completed", "10 admissions."), record.error_message
    assert f"forked from {misbehaving.server.process.pid}" in misbehaving.printed(analysis)


@pytest.mark.parametrize("analysis", ["leaves_threads", "leaves_processes", "forks_itself", "moves_about"])
def test_what_does_no_harm_to_the_result_completes(misbehaving: Round, analysis: str) -> None:
    record = misbehaving.outcomes[analysis].record
    assert (record.status, record.headline) == ("completed", "10 admissions."), record.error_message


@pytest.mark.parametrize(
    ("analysis", "error_code"),
    [
        ("exits", "kernel-died"),
        ("kills_itself", "kernel-died"),
        ("kills_its_group", "kernel-died"),
        ("crashes", "kernel-died"),
        ("exhausts_memory", "notebook-too-big"),
        ("breaks_modules", None),
        ("exhausts_descriptors", None),
    ],
)
def test_what_harms_itself_is_a_failed_run(misbehaving: Round, analysis: str, error_code: str | None) -> None:
    record = misbehaving.outcomes[analysis].record
    assert record.status == "failed"
    assert error_code in (None, record.error_code), record.error_message
    assert record.error_code != "internal", record.error_message


def test_nothing_of_the_round_is_left(misbehaving: Round) -> None:
    wait_until(lambda: not misbehaving.server.children(), seconds=10, what="no kernel, guard or zombie is left")
    left = [int(word) for word in misbehaving.printed("leaves_processes").replace("left", "").split()]
    assert len(left) == 2
    assert all(is_gone(pid) for pid in left)
    assert misbehaving.server.descriptors() == misbehaving.descriptors_before
    # The kernel server is older, and so are servers of earlier tests; Python's own tracker may be new.
    new = [child.cmdline() for child in psutil.Process().children() if child not in misbehaving.children_before]
    assert [command for command in new if "resource_tracker" not in " ".join(command)] == []


def test_the_server_is_as_it_was(misbehaving: Round) -> None:
    process = misbehaving.server.process
    assert process.poll() is None
    assert len(os.listdir(f"/proc/{process.pid}/task")) == 1
    assert "Could not" not in misbehaving.server.said()
    assert "anew" not in misbehaving.server.said()
    again = {one.record.analysis: one for one in story.run(misbehaving.lake, ["a_good"], force=True, request=REQUEST)}
    assert again["a_good"].record.status == "completed"
    assert not again["a_good"].skipped


def test_a_server_killed_during_a_round_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_workspace(
        tmp_path, monkeypatch, notebooks=tmp_path / "notebooks", retries=0, notebook_seconds=600, kernels=1
    )
    lake = Lake(settings)
    intake.ingest(lake, write_csv(tmp_path / "ten.csv", admissions(10)))
    for name in ("one", "two", "three"):
        write_notebook(settings.analyses, name, PARENT, OPEN, publish(name))
    path = kernels.socket_path(settings)
    with fork_server(path.parent, "-m", "medisync.fastlane.kernels", str(path)) as server:
        heard: list[str] = []

        def kill_after_the_first(outcome: Outcome) -> None:
            heard.append(outcome.record.analysis)
            server.process.kill()
            server.process.wait()

        begun = time.monotonic()
        outcomes = story.run(lake, request=REQUEST, on_outcome=kill_after_the_first)
    lake.close()
    assert [one.record.status for one in outcomes] == ["completed"] * 3, [one.record.error_message for one in outcomes]
    assert time.monotonic() - begun < 60 * slowness()
