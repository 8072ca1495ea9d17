"""How a service is told to end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

SERVICE = """
import time
from medisync.ending import ToldToEnd

told_to_end = ToldToEnd()
print("up", flush=True)
while not told_to_end:
    time.sleep(0)
time.sleep(0.05)  # a second signal, while it ends
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_ends_whenever_it_is_told(number: signal.Signals) -> None:
    """At any moment of its loop, and when told twice at once."""
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            time.sleep(random.random() * 0.01)
            process.send_signal(number)
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(30) == 0
            finally:
                process.kill()
            assert process.stdout.read() == "ended\n"
