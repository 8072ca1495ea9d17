"""What the process worker starts for a flow run: ``python -I -S flow_client.py SOCKET``.

Asks the fork server for the run and stands in for it: passes signals on and ends as it ends. When the server is away,
it becomes the ordinary ``python -m prefect.engine`` instead. Imports next to nothing, since it is started for each run.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ANSWER_SECONDS = 10.0


def main() -> None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    request = {"arguments": [], "environment": dict(os.environ), "directory": os.getcwd(), "owner": os.getpid()}
    try:
        connection.connect(sys.argv[1])
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [1, 2])
        answers = connection.makefile()
        answer = json.loads(answers.readline() or "{}")
    except (OSError, ValueError):
        answer = {}
    if "pid" not in answer:
        os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])  # noqa: S606 - the ordinary engine
    connection.settimeout(None)
    for number in PASSED_ON:
        signal.signal(number, lambda passed, _frame: _send(answer["pid"], passed))
    line = answers.readline()
    # No word at the end: it was killed.
    os._exit(json.loads(line)["exit"] if line else 1)


def _send(pid: int, number: int) -> None:
    try:  # contextlib would cost more than all of this
        os.kill(pid, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
