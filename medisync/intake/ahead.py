"""Loads a delivery ahead of its flow run: ``python -m medisync.intake.ahead DELIVERY_ID``.

Once Prefect has been asked for the flow run, a second passes until its engine is under way, in which a core would rest.
Loading needs no word of Prefect and is idempotent by delivery id: the flow run waits for what is being loaded and finds
it recorded, and what came to nothing here it loads itself.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import suppress

from medisync.fastlane import flow_runs
from medisync.settings import Settings, load_settings

log = logging.getLogger("medisync.watcher")


class Ahead:
    """Starts such a process, one at a time: the deliveries of other sources are left to their flow runs, anywhere."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, delivery_id: str) -> None:
        """Have ``delivery_id`` loaded, unless there is no fork server, without which it would not be sooner."""
        if self.is_busy() or not flow_runs.socket_path(self._settings).exists():
            return
        command = (*flow_runs.command(self._settings), __name__, delivery_id)
        with suppress(OSError):  # no memory or too many processes: the flow run does it
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command

    def is_busy(self) -> bool:
        """Whether a process is loading; lets go of one that has ended."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        return self._process is not None


def main() -> None:
    """Load the delivery that the argument names."""
    from medisync.intake import turns
    from medisync.lake import Lake

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    delivery_id = sys.argv[1]
    try:
        report = turns.take_one(Lake(load_settings()), delivery_id)
    except Exception as error:  # whatever it is, the flow run meets it again and says so
        log.info("Delivery %s is left to its flow run (%s)", delivery_id, type(error).__name__)
        return
    if report is not None:
        log.info("Loaded delivery %s ahead of its flow run", delivery_id)


if __name__ == "__main__":
    main()
