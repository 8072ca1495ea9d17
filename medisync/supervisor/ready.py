"""What is said and done once everything is up."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from medisync.lake import Lake
from medisync.settings import Settings, project_root
from medisync.supervisor.services import lab_token

SAMPLE = project_root() / "data" / "sample" / "healthcare_dataset.csv.gz"


def offer_sample(settings: Settings) -> bool:
    """Put the sample into the inbox when nothing was ever delivered; whether it was put there."""
    if not SAMPLE.exists() or Lake(settings).query("SELECT 1 FROM clinical.deliveries LIMIT 1"):
        return False
    draft = settings.inbox / f".{SAMPLE.name}"
    shutil.copyfile(SAMPLE, draft)
    draft.replace(settings.inbox / SAMPLE.name)
    return True


def announce(settings: Settings, say: Callable[[str], None], *, lab: bool) -> None:
    """Where to look and where to drop files."""
    say("")
    say("MediSync is running.")
    say(f"  Pages        {settings.pages_url}")
    say(f"  Prefect      {settings.prefect_api_url.removesuffix('/api')}")
    if lab:
        say(f"  JupyterLab   http://127.0.0.1:{settings.lab_port}/lab?token={lab_token(settings)}")
    say(f"  Inbox        {settings.inbox}")
    say("Drop a file into the inbox and watch the page change. Ctrl-C stops everything.")
