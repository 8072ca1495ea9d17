"""The lake's files on S3-compatible storage: who we are there, and how DuckDB is told.

The keys come from where every program for S3 looks for them: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, or
the file that ``AWS_SHARED_CREDENTIALS_FILE`` names (``~/.aws/credentials``). They are given to DuckDB's memory alone.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medisync.errors import MediSyncError, UserError

if TYPE_CHECKING:
    import duckdb

    from medisync.settings import Settings

SCHEME = "s3://"
EXTENSION = "httpfs"


class StorageKeysError(UserError):
    """There are no usable keys for the object storage."""

    code = "storage-keys"
    exit_code = 98
    http_status = 503


class StorageAwayError(MediSyncError):
    """The object storage does not answer."""

    code = "storage-away"
    exit_code = 99
    http_status = 503


@dataclass(frozen=True)
class StorageKeys:
    """Who we are for the storage."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def storage_keys(environment: Mapping[str, str] = os.environ) -> StorageKeys:
    """The keys from the environment, else from the file; raises StorageKeysError, which repeats none of them."""
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return StorageKeys(*(environment.get(name, "") for name in names))
    path = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    profile = environment.get("AWS_PROFILE") or "default"
    parsed = configparser.RawConfigParser(default_section="")
    try:
        parsed.read_string(path.read_text(encoding="utf-8"))
        told = parsed[profile]
        keys = StorageKeys(
            told["aws_access_key_id"], told["aws_secret_access_key"], told.get("aws_session_token") or ""
        )
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise StorageKeysError(
            f"There are no keys for the object storage in {path} under [{profile}] ({type(error).__name__}).",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE.",
        ) from None
    return keys


def let_in(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Give ``connection``, which has loaded EXTENSION, access to the lake's files; raises StorageKeysError."""
    import duckdb

    keys = storage_keys()
    told = {
        "KEY_ID": keys.key_id,
        "SECRET": keys.secret,
        "SESSION_TOKEN": keys.session_token,
        "REGION": settings.s3_region,
        "SCOPE": settings.lake_files,
    }
    if settings.s3_endpoint:
        endpoint = urlsplit(settings.s3_endpoint)
        told |= {"ENDPOINT": endpoint.netloc, "URL_STYLE": "path", "USE_SSL": str(endpoint.scheme == "https").lower()}
    listed = ", ".join(f"{name} {_quoted(value)}" for name, value in told.items() if value)
    try:
        connection.execute(f"CREATE OR REPLACE SECRET lake_files (TYPE s3, {listed})")
    except duckdb.Error as error:  # its text might quote the statement
        raise StorageKeysError(
            f"DuckDB does not take the keys for the object storage ({type(error).__name__})."
        ) from None


def require_access(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Ask for what lies there; raises StorageKeysError when the keys are refused, StorageAwayError when nobody
    answers."""
    import duckdb

    where = settings.s3_endpoint or "Amazon S3"
    try:
        connection.execute("FROM glob(?) LIMIT 1", [f"{settings.lake_place}/any/*.parquet"])
    except duckdb.HTTPException as error:
        status = int(error.status_code)
        if status in (401, 403):
            raise StorageKeysError(
                f"The object storage at {where} refuses the keys ({status}).",
                hint="They must allow list, read and write.",
            ) from None
        hint = "Make the bucket that MEDISYNC_LAKE_FILES names." if status == 404 else "Try again."
        raise StorageAwayError(f"The object storage at {where} answers {status}.", hint=hint) from None
    except duckdb.IOException:
        raise StorageAwayError(
            f"The object storage at {where} does not answer.", hint="Start it, or correct MEDISYNC_S3_ENDPOINT."
        ) from None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
