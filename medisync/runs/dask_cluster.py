"""The Dask cluster that wide work may go to: its secret, and the programs it consists of.

Whoever can speak to a Dask scheduler can run anything as us. So machines speak TLS with one certificate that all of
them share and that signs itself: who has its key belongs to the cluster, nobody else does. Neither scheduler nor
worker shows anything to anybody: Dask's dashboards are off, and the little that is left listens on this machine only.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medisync.access.records import private_key
from medisync.settings import Settings

if TYPE_CHECKING:
    from cryptography.x509 import ExtensionType
    from distributed import Security

KEY = "dask.pem"
"""Certificate and key, in ``data/keys/``."""
VALID_DAYS = 3650
NO_WORKERS_SECONDS = 60
"""Tasks for which there is no worker for so long are given back."""

SILENT_SECONDS = 300
"""A machine that is busy may be silent for so long before its connection counts as broken."""


def is_encrypted(settings: Settings) -> bool:
    """Whether the cluster reaches beyond this machine."""
    return urlsplit(settings.dask_address).scheme == "tls"


def key_file(settings: Settings) -> Path:
    """The secret that makes a machine a part of the cluster, made when missing."""
    private_key(settings, KEY, _new_key)
    return settings.keys / KEY


def security(settings: Settings) -> Security | None:
    """What a client of the cluster needs; None on this machine alone."""
    from distributed import Security

    if not is_encrypted(settings):
        return None
    path = str(key_file(settings))
    return Security(  # type: ignore[no-untyped-call]
        require_encryption=True, tls_ca_file=path, tls_client_cert=path, tls_client_key=path
    )


def scheduler_command(settings: Settings) -> tuple[str, ...]:
    """Starts the scheduler at the address the settings give."""
    address = urlsplit(settings.dask_address)
    place = ("--host", f"{address.scheme}://{address.hostname}", "--port", str(address.port))
    return (sys.executable, "-m", "distributed.cli.dask_scheduler", *place, *_shared_options(settings))


def worker_command(settings: Settings) -> tuple[str, ...]:
    """Starts processes that work for the scheduler, as many as notebooks run at once."""
    processes = ("--nworkers", str(settings.kernels), "--nthreads", "1", "--memory-limit", "0")
    folder = ("--local-directory", str(settings.run_state / "dask"), "--preload", "flows.rounds")
    command = (sys.executable, "-m", "distributed.cli.dask_worker", settings.dask_address)
    return (*command, "--host", _own_address(settings), *processes, *folder, *_shared_options(settings))


def environment() -> dict[str, str]:
    """What scheduler, workers and clients are told beside their arguments."""
    return {
        "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": f"{NO_WORKERS_SECONDS}s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"{SILENT_SECONDS}s",
    }


def _own_address(settings: Settings) -> str:
    """The address of this machine on the way to the scheduler; it need listen on no other. Nothing is sent."""
    address = urlsplit(settings.dask_address)
    for family, kind, _, _, there in socket.getaddrinfo(address.hostname, address.port, type=socket.SOCK_DGRAM):
        with contextlib.suppress(OSError), socket.socket(family, kind) as way:
            way.connect(there)
            return str(way.getsockname()[0])
    return "127.0.0.1"


def _shared_options(settings: Settings) -> tuple[str, ...]:
    unseen = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
    if not is_encrypted(settings):
        return unseen
    path = str(key_file(settings))
    return (*unseen, "--tls-ca-file", path, "--tls-cert", path, "--tls-key", path)


def _new_key() -> bytes:
    """A certificate for nobody in particular, and its key."""
    from cryptography import x509

    authority = x509.BasicConstraints(ca=True, path_length=0)
    return b"".join(self_signed("medisync", authority, days=VALID_DAYS, critical=True))


def self_signed(
    common_name: str, extension: ExtensionType, *, days: int, critical: bool = False
) -> tuple[bytes, bytes]:
    """A certificate with one ``extension`` that vouches for itself for ``days``, and its key; both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(extension, critical=critical)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret
