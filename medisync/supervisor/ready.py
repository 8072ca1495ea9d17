"""What is said and done once everything is up."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from medisync.access.accounts import FIRST_ADMIN
from medisync.access.service import Access
from medisync.lake import Lake
from medisync.settings import Settings, project_root

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
    """Where to look and where to drop files; at the first start also how to log in, once."""
    password = Access.open(settings).accounts.add_first_admin()
    say("")
    say("MediSync is running.")
    say(f"  Start page   {settings.api_url}  (log in here, for everything)")
    say(f"  Pages        {settings.pages_url}")
    say(f"  Prefect      {settings.api_url}prefect/  (administrators)")
    if lab:
        say(f"  JupyterLab   http://127.0.0.1:{settings.lab_port}/lab  (analysts and administrators)")
    say(f"  Inbox        {settings.inbox}")
    if password is not None:
        say(f"First login: name {FIRST_ADMIN}, one-time password {password}")
        say("It is shown this once and must be changed at the first login. Others: medisync user add NAME --role ROLE")
    say("Drop a file into the inbox and watch the page change. Ctrl-C stops everything.")
