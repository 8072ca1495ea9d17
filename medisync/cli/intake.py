"""The commands around deliveries, as one: what they are called on the command line."""

from __future__ import annotations

import typer

from medisync.cli import privacy, pseudonyms


def add_intake_commands(app: typer.Typer) -> None:
    app.command(name="privacy-scan")(privacy.privacy_scan)
    app.add_typer(pseudonyms.pseudonyms, name="pseudonyms")
