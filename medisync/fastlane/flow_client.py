"""What the process worker starts for a flow run: ``python -I -S flow_client.py SOCKET``.

Asks the fork server for the run and stands in for it: passes signals on and ends as it ends. When the server is away,
it becomes the ordinary ``python -m prefect.engine`` instead. Imports next to nothing, since it is started for each run.
With ``MODULE ARGUMENT...`` it is that module's program in the same way.
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
    try:
        request = {"arguments": sys.argv[2:], "environment": dict(os.environ), "directory": os.getcwd()}
        connection.connect(sys.argv[1])
        message = memoryview(json.dumps(request).encode() + b"\n")
        sent = socket.send_fds(connection, [message], [1, 2])
        connection.sendall(message[sent:])
        answers = connection.makefile()
        pid = json.loads(answers.readline())["pid"]
        run = os.pidfd_open(pid)  # before the run may go on, so that it is that very run
        for number in PASSED_ON:
            signal.signal(number, lambda passed, _frame: _send(run, passed))
        connection.sendall(b"\n")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        connection.close()  # should the server wake up now, it must not do the same work
        for number in PASSED_ON:
            signal.signal(number, signal.SIG_DFL)
        ordinary = [sys.executable, "-m", *(sys.argv[2:] or ["prefect.engine"])]
        os.execv(sys.executable, ordinary)  # noqa: S606 - our own command
    connection.settimeout(None)
    try:
        code = json.loads(answers.readline())["exit"]
    except (OSError, ValueError, KeyError):  # the guard itself was killed, and the run with it
        code = 1
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _send(run: int, number: int) -> None:
    try:  # contextlib would cost more than all of this
        signal.pidfd_send_signal(run, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
