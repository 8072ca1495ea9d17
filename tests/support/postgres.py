"""A real Postgres server in a temporary folder, for tests and benchmarks."""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.processes import wait_or_kill
from tests.support.running import PATIENCE_SECONDS, free_ports, wait_until

USER = "medisync"
OPTIONS = ("fsync=off", "full_page_writes=off", "max_connections=200", "log_min_messages=error")
PR_SET_PDEATHSIG = 1


def binaries() -> Path:
    """The folder of the newest Postgres here; without one the test is skipped, and fails where CI runs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    if os.environ.get("CI"):
        pytest.fail("CI has no Postgres: see .ci/run")
    pytest.skip("no Postgres here (apt-get install postgresql)")


@dataclass
class PostgresServer:
    """One server, at the address ``host``. Over its Unix socket everybody is let in; over TCP the password of
    ``passfile`` is asked for."""

    folder: Path
    programs: Path
    port: int
    password: str
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @property
    def passfile(self) -> Path:
        return self.folder / "pgpass"

    def url(self, database: str = "postgres", *, tcp: bool = False) -> str:
        address = f"postgresql://{USER}@{self.host}:{self.port}/{database}"
        return address if tcp else f"{address}?host={self.folder}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(database), autocommit=True)

    def new_database(self) -> str:
        """An empty database; its name."""
        name = f"t{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def initialise(self) -> None:
        secret = self.folder / "secret"
        secret.write_text(self.password)
        self.passfile.write_text(f"*:*:*:{USER}:{self.password}\n")
        self.passfile.chmod(0o600)
        for path in (self.folder, secret):
            _give_away(path)
        self._run("initdb", "-D", "data", "-U", USER, "--auth-local=trust", "--auth-host=scram-sha-256",
                  "--pwfile=secret", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")  # fmt: skip
        with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")

    def start(self) -> None:
        options = [word for option in OPTIONS for word in ("-c", option)]
        command = [self.programs / "postgres", "-D", "data", "-p", str(self.port), "-k", self.folder]
        command += ["-h", self.host, *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_die_with_parent, **_as_whom()
            )  # fmt: skip
        wait_until(self._answers, seconds=PATIENCE_SECONDS, what="Postgres answers", every=0.02)

    def start_when(self, condition: bool) -> None:
        """Start it once it is time."""
        if condition and self.process is None:
            self.start()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: ends every session at once, in order; SIGQUIT: as in a crash."""
        if self.process is not None:
            process, self.process = self.process, None
            process.send_signal(how)
            wait_or_kill(process)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments], cwd=self.folder, capture_output=True, text=True, check=False,
            **_as_whom()
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@contextmanager
def postgres_server(host: str = "127.0.0.1") -> Iterator[PostgresServer]:
    """A server that runs until the end, in a folder short enough for its socket's path."""
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="medisync-pg-"))
    server = PostgresServer(folder, programs, free_ports(1)[0], secrets.token_urlsafe(12), host)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def _as_whom() -> dict[str, Any]:
    """Postgres refuses to run as root."""
    if os.getuid() != 0:
        return {}
    user = _unprivileged()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _give_away(path: Path) -> None:
    if os.getuid() == 0:
        os.chown(path, _unprivileged().pw_uid, _unprivileged().pw_gid)


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
