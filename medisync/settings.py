"""Settings: what a workspace is told through ``MEDISYNC_*`` environment variables.

Settings are data: each has a name, a type, a default and a help text, and a test asserts that ``docs/settings.md``
lists every one of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from medisync.errors import SettingsError

PREFIX = "MEDISYNC_"


def project_root() -> Path:
    """The checkout this package runs from; it holds ``notebooks/``, ``flows/`` and ``prefect.yaml``."""
    return Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """One workspace's settings. Every field can be set by the environment variable ``MEDISYNC_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data: Path = Field(project_root() / "data", description="Folder of inbox, lake, ledger and archive.")
    reports: Path = Field(project_root() / "reports", description="Folder of executed notebooks and HTML reports.")
    notebooks: Path = Field(project_root() / "notebooks", description="Folder of analysis and dashboard notebooks.")

    profile: Literal["local", "server"] = Field(
        "local", description="local: SQLite files on one machine; server: a Postgres database for several."
    )
    database_url: str = Field(
        "", description="The server profile's database: postgresql://user@host:5432/name, without a password."
    )
    database_passfile: Path | None = Field(
        None, description="Its password file, as libpq reads it; none: that of PGPASSFILE or ~/.pgpass."
    )
    lake_files: str = Field(
        "", description="Folder or s3://bucket/prefix of the lake's Parquet files; lake/files in the data when empty."
    )
    shared: str = Field("", description="Folder for what runs leave to others, on a disk that all machines see.")
    prefect_host: str = Field("127.0.0.1", min_length=1, description="Address the Prefect server listens on.")
    prefect_url: str = Field("", description="Its API as other machines reach it: http://head:4200/api.")
    dask_address: str = Field(
        "", description="Scheduler of the Dask cluster that wide work goes to: tls://head:8786; none: this machine."
    )
    s3_endpoint: str = Field("", description="S3-compatible storage that is not Amazon's: https://host:port.")
    s3_region: str = Field("us-east-1", min_length=1, description="Region of the lake's bucket.")

    prefect_port: int = Field(4200, ge=1, le=65535, description="Port of the Prefect server and its UI.")
    pages_port: int = Field(8866, ge=1, le=65535, description="Port of the live pages (Voila).")
    lab_port: int = Field(8888, ge=1, le=65535, description="Port of JupyterLab.")
    api_port: int = Field(8000, ge=1, le=65535, description="Port of the API, the login and the start page.")
    api_host: str = Field("127.0.0.1", min_length=1, description="Address the API listens on; see docs/operate.md.")
    api_workers: int = Field(1, ge=1, le=64, description="Processes that serve the API.")
    log_json: bool = Field(False, description="The API logs one JSON object a line instead of text.")

    inbox_poll_seconds: float = Field(0.25, gt=0, le=60, description="How often the watcher looks into the inbox.")
    inbox_settle_seconds: float = Field(
        1.0, ge=0, le=3600, description="How long a file must rest unchanged before it counts as complete."
    )
    quarantine_share: float = Field(
        0.20, ge=0, le=1, description="A delivery with a larger share of faulty rows is refused whole."
    )
    full_extract_share: float = Field(
        0.80,
        gt=0,
        le=1,
        description="In mode auto, a delivery that holds at least this share of the source's known admissions is a "
        "full extract: admissions absent from it are deleted.",
    )

    kernels: int = Field(2, ge=1, le=64, description="Notebooks that run at once.")
    notebook_seconds: int = Field(600, ge=5, description="Time budget of one notebook; it is stopped after that.")
    notebook_memory_mb: int = Field(
        4000, ge=500, description="Memory budget of one notebook, in megabytes; it is stopped when it asks for more."
    )
    retries: int = Field(2, ge=0, le=10, description="Further tries of a notebook that failed for a passing reason.")
    retry_seconds: float = Field(2.0, ge=0, le=3600, description="Wait before the first retry; doubled each time.")
    crash_seconds: float = Field(
        75.0,
        ge=10,
        description="A flow run that gives no sign of life for so long counts as crashed; running ones give one every "
        "half minute.",
    )
    crash_tries: int = Field(3, ge=1, le=100, description="How often a flow run that crashes is begun at most.")
    disclosure_threshold: int = Field(
        10, ge=2, le=1000, description="Released results show no count of fewer people than this; zeros are shown."
    )
    disclosure_rounding: int = Field(0, ge=0, le=100, description="Released counts are multiples of this; 0: exact.")
    disclosure_dominance_percent: float = Field(
        85.0, gt=0, le=100, description="A sum of money is withheld when two contributions make up more than this."
    )
    disclosure_p_percent: float = Field(
        10.0,
        ge=0,
        le=100,
        description="A sum of money is withheld when the second largest contributor can work out the largest to "
        "within this share.",
    )
    keep_runs_days: int = Field(90, ge=1, description="Reports and logs older than this are removed by clean-up.")
    keep_archive_days: int = Field(
        0, ge=0, description="Archived, refused and quarantined raw files older than this are removed; 0: never."
    )
    keep_flow_runs_days: int = Field(
        30, ge=1, description="Prefect's records of flow runs older than this are removed."
    )
    disk_least_free_gb: float = Field(1.0, ge=0, description="Status and doctor warn when less of the disk is free.")
    memory_limit_mb: int = Field(900, ge=100, description="Memory DuckDB may use in one process, in megabytes.")
    lock_seconds: float = Field(120.0, gt=0, description="How long a writer waits for the lake's write lock.")

    mail_to: str = Field(
        "", description="Addresses that get released results, daily, and confirmed surges; commas between."
    )
    mail_to_full: str = Field("", description="Addresses that get whole results instead: people who may see them.")
    mail_from: str = Field("medisync@localhost", description="Sender of the mails.")
    smtp_host: str = Field("", description="Mail server; without one no mail is sent.")
    smtp_port: int = Field(25, ge=1, le=65535, description="Port of the mail server.")
    smtp_security: Literal["none", "starttls", "tls"] = Field("none", description="How the mail server is spoken to.")
    smtp_user: str = Field("", description="User at the mail server; none: no login.")
    smtp_password_file: Path | None = Field(None, description="File with that user's password.")
    smtp_ca_file: Path | None = Field(
        None, description="Certificates to trust for the mail server; none: the system's."
    )
    webhooks: str = Field("", description="Web addresses that get released messages as JSON; commas between.")
    webhooks_full: str = Field("", description="Web addresses that get whole messages instead.")
    webhook_secret_file: Path | None = Field(None, description="File with the key that signs what webhooks get.")

    session_hours: float = Field(12.0, gt=0, le=720, description="How long a login in a browser lasts.")
    public_url: str = Field(
        "", description="Address under which browsers reach the API door, when a reverse proxy stands before it."
    )
    public_pages_url: str = Field("", description="The same for the live pages.")
    public_lab_url: str = Field("", description="The same for JupyterLab.")
    oidc_issuer: str = Field(
        "", description="External OpenID Connect issuer whose tokens are accepted; none when empty."
    )
    oidc_audience: str = Field("", description="Audience its tokens must name.")
    oidc_jwks_url: str = Field("", description="Address of its public keys (JWKS).")
    oidc_role_claim: str = Field("roles", description="Claim that holds the roles; a dot goes into a claim.")
    oidc_roles: str = Field(
        "", description="Their roles and ours: THEIRS=viewer,THEIRS=admin; ours by name when empty."
    )
    oidc_user_claim: str = Field("sub", description="Claim that names the user.")

    @field_validator("database_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        from medisync.backend.database import parse

        if value:
            parse(value)
        return value

    @model_validator(mode="after")
    def _has_what_its_profile_needs(self) -> Self:
        if self.is_server and not self.database_url:
            raise ValueError("the server profile needs MEDISYNC_DATABASE_URL")
        return self

    @property
    def is_server(self) -> bool:
        return self.profile == "server"

    @field_validator("dask_address")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        """Whoever can speak to Dask can run anything as us: without TLS nobody but this machine may."""
        parts = urlsplit(value)
        if value and not (parts.scheme in ("tls", "tcp") and parts.hostname and parts.port):
            raise ValueError("it must be like tls://head:8786")
        if parts.scheme == "tcp" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("other machines are reached with TLS: tls://host:port")
        return value

    @field_validator("lake_files")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        parts = urlsplit(value)
        if "://" in value and not (parts.scheme == "s3" and parts.netloc and parts.path.strip("/")):
            raise ValueError("it must be a folder, or like s3://bucket/prefix")
        return value

    @field_validator("prefect_url", "s3_endpoint")
    @classmethod
    def _is_a_web_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
            raise ValueError("it must be like http://host:port, without user and password")
        return value.rstrip("/")

    @property
    def inbox(self) -> Path:
        return self.data / "inbox"

    @property
    def processing(self) -> Path:
        """Claimed files, one folder a delivery, until they are archived or refused."""
        return self.data / "processing"

    @property
    def archive(self) -> Path:
        return self.data / "archive"

    @property
    def refused(self) -> Path:
        return self.data / "refused"

    @property
    def quarantine(self) -> Path:
        """Raw rejected rows, readable by the owner alone."""
        return self.data / "quarantine"

    @property
    def sources(self) -> Path:
        """One TOML file for each source that needs one."""
        return self.data / "sources"

    @property
    def references(self) -> Path:
        """Names of sites, insurers and concepts that came with earlier deliveries."""
        return self.data / "references"

    @property
    def lake(self) -> Path:
        return self.data / "lake"

    @property
    def has_object_storage(self) -> bool:
        """Whether the lake's files lie in a bucket."""
        return self.lake_files.startswith("s3://")

    @property
    def lake_place(self) -> str:
        """The lake's Parquet files, wherever they lie, as DuckDB is told."""
        return self.lake_files.rstrip("/") if self.has_object_storage else str(self.lake_folder)

    @property
    def lake_folder(self) -> Path:
        """The lake's Parquet files."""
        return Path(self.lake_files).expanduser().absolute() if self.lake_files else self.lake / "files"

    @property
    def catalog_file(self) -> Path:
        """The lake's catalog on one machine."""
        return self.lake / "catalog.sqlite"

    @property
    def temporary(self) -> Path:
        """What DuckDB has no room for in memory, a folder for each that is open."""
        return self.lake / "temporary"

    @property
    def ledger(self) -> Path:
        """The ledger on one machine."""
        return self.data / "ledger.sqlite"

    @property
    def keys(self) -> Path:
        return self.data / "keys"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def prefect_home(self) -> Path:
        return self.data / "prefect"

    @property
    def run_state(self) -> Path:
        """What the supervisor writes about the workspace that is running."""
        return self.data / "run"

    @property
    def shared_folder(self) -> Path:
        """What every machine of the workspace sees; the data where there is but one."""
        return Path(self.shared).expanduser().absolute() if self.shared else self.data

    @property
    def versions(self) -> Path:
        """The archive of notebook versions that ran."""
        return self.shared_folder / "versions"

    @property
    def outbox(self) -> Path:
        """Messages that wait to be sent."""
        return self.shared_folder / "outbox"

    @property
    def analyses(self) -> Path:
        return self.notebooks / "analyses"

    @property
    def dashboards(self) -> Path:
        return self.notebooks / "dashboards"

    @property
    def prefect_origin(self) -> str:
        """Where the Prefect server of this machine listens."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.prefect_host, self.prefect_host)  # noqa: S104
        return f"http://[{host}]:{self.prefect_port}" if ":" in host else f"http://{host}:{self.prefect_port}"

    @property
    def prefect_api_url(self) -> str:
        """Prefect's API for everything that runs, here or on other machines."""
        return self.prefect_url or f"{self.prefect_origin}/api"

    @property
    def pages_url(self) -> str:
        return f"http://127.0.0.1:{self.pages_port}/"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}/"

    def make_folders(self) -> None:
        """Create the workspace's folders, for the owner alone."""
        private = [self.data, self.inbox, self.processing, self.archive, self.refused, self.quarantine]
        private += [self.sources, self.references]
        for folder in (*private, self.lake, self.keys, self.logs, self.run_state, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (*private[1:], self.lake, self.keys, self.logs, self.run_state):
            folder.chmod(0o700)


def load_settings() -> Settings:
    """Read the settings from the environment; raises SettingsError naming each wrong or unknown variable."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"Unknown settings: {', '.join(unknown)}.", hint="docs/settings.md lists the known ones.")
    try:
        settings = Settings()  # type: ignore[call-arg,unused-ignore]
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = "; ".join(": ".join([*(PREFIX + str(name).upper() for name in one["loc"]), one["msg"]]) for one in told)
        raise SettingsError(f"Wrong settings: {wrong}.", hint="docs/settings.md lists types and defaults.") from None
    absolute = {name: getattr(settings, name).expanduser().absolute() for name in ("data", "reports", "notebooks")}
    return settings.model_copy(update=absolute)


def environment(settings: Settings) -> dict[str, str]:
    """The environment variables that give a child process the same settings."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}
