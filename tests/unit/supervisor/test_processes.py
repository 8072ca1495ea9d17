"""Processes that became the supervisor's own when their parents died."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRIAL = """
import os, subprocess, sys, time
import psutil
from medisync.supervisor.processes import ServiceProcess, adopt_orphans, reap_orphans
from medisync.supervisor.services import Service
from pathlib import Path

def zombies():
    return {one.pid for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE}

adopt_orphans()
service = ServiceProcess(Service("short", "Short", (sys.executable, "-c", "raise SystemExit(3)")), dict(os.environ),
                         Path(sys.argv[1]) / "short.log", Path(sys.argv[1]))
service.start()
orphan = "import os\\nif os.fork():\\n    os._exit(0)\\nprint(os.getpid(), flush=True)"
told = subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, text=True, check=True)
pid = int(told.stdout)
while not {pid, service.pid} <= zombies():
    time.sleep(0.01)
print(reap_orphans([service]), zombies() == {service.pid}, "exit code 3" in (service.tend() or ""))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_an_orphan_that_ended_is_let_go_and_a_service_that_ended_is_told(tmp_path: object) -> None:
    done = subprocess.run([sys.executable, "-c", TRIAL, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert (done.stdout.split(), done.stderr) == (["1", "True", "True"], "")
