"""Whether this machine runs what the server runs.

Two machines with other code would answer for each other's runs without end, and a newer one may write what an older
one cannot read. So a machine whose code, locked packages, lake schema or Python are not the server's does nothing for
it. The server's are the ``version`` of its deployments, which Prefect's UI shows.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from dataclasses import asdict, dataclass
from typing import Self

from medisync import __version__
from medisync.errors import UserError
from medisync.lake import schema
from medisync.runs.identity import lock_hash
from medisync.settings import project_root

SERVERS_CODE = "SERVERS_CODE"
"""The environment variable in which a flow run is told what the server runs."""
ON_ANOTHER_MACHINE = "ON_ANOTHER_MACHINE"
"""The one that says that a flow run is not on the server, where code may be edited while it runs."""
THIS_CODE = "THIS_CODE"
"""The one in which ``prefect deploy`` is told."""

CODE = ("medisync", "flows", "prefect.yaml")
NO_CODE = frozenset({"__pycache__"})


class OtherCodeError(UserError):
    """This machine does not run what the server runs."""

    code = "other-code"
    exit_code = 95
    http_status = 409


@dataclass(frozen=True)
class SameCode:
    """What must be the same on every machine of a workspace."""

    medisync: str
    code: str
    lock: str
    schema: str
    python: str

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The opposite of ``str``; what is not told is empty."""
        told = dict(part.partition("=")[::2] for part in text.split())
        return cls(**{name: told.get(name, "") for name in cls.__dataclass_fields__})


@functools.cache
def this_code() -> SameCode:
    """What this machine runs."""
    return SameCode(
        medisync=__version__,
        code=_hash_of_code(),
        lock=(lock_hash() or "none")[:12],
        schema=str(schema.steps()[-1][0]),
        python=platform.python_version(),
    )


def require_same_code(servers: str) -> None:
    """Raises OtherCodeError, naming each difference, unless this machine runs what the text ``servers`` says."""
    here, there = this_code(), SameCode.parse(servers)
    differences = [
        f"{name} is {value or 'unknown'} on the server and {asdict(here)[name]} here"
        for name, value in asdict(there).items()
        if value != asdict(here)[name]
    ]
    if differences:
        raise OtherCodeError(
            f"This machine does not run what the server runs: {'; '.join(differences)}.",
            hint="Bring the same checkout to both, run make setup, and start again.",
        )


def enter() -> dict[str, str]:
    """The first step of every flow run: it runs the code of the machine it is on. On another machine than the server's
    that must be what the server ran when it was started.

    Raises OtherCodeError.
    """
    if os.environ.get(ON_ANOTHER_MACHINE):
        require_same_code(os.environ.get(SERVERS_CODE, ""))
    return {"directory": str(project_root())}


def _hash_of_code() -> str:
    """SHA-256, shortened, over names and contents of all that runs, wherever the checkout lies."""
    root = project_root()
    files = [path for name in CODE for path in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))]
    told = hashlib.sha256()
    for path in sorted(files):
        if path.is_file() and not NO_CODE & set(path.parts) and not path.name.startswith("."):
            told.update(f"{path.relative_to(root).as_posix()}\0".encode())
            told.update(hashlib.sha256(path.read_bytes()).digest())
    return told.hexdigest()[:12]
