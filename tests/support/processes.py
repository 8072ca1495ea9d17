"""Python code in processes of its own, with this test's workspace in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.running import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
PRELUDE = """
import sys, time, json
from pathlib import Path
from medisync.settings import load_settings
from medisync.lake import Lake, Snapshot
from medisync import intake
settings = load_settings()
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start ``code``; it sees ``settings`` and ``sys.argv[1:]`` = ``arguments``. Its output is captured."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *arguments],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 600) -> str:
    """What the process printed; an AssertionError with its complaints when it failed."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


def wait_or_kill(*processes: subprocess.Popen[Any]) -> None:
    """Wait for the end of processes that were told to end; one that does not is killed, and named in an error."""
    stuck = []
    for process in processes:
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            stuck.append(process.args)
            process.kill()
            process.wait()
    assert not stuck, f"Told to end, these did not: {stuck}"


def finish_all(processes: list[subprocess.Popen[str]], seconds: float = 600) -> list[str]:
    """The output of each; none is left running."""
    try:
        return [finish(process, seconds) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
