"""The commands around deliveries, as one: what they are called on the command line."""

from __future__ import annotations

import typer

from medisync.cli import changes, privacy, pseudonyms, quality, requeue


def add_intake_commands(app: typer.Typer) -> None:
    app.command()(changes.changes)
    app.command()(quality.quality)
    app.command()(requeue.requeue)
    app.command(name="privacy-scan")(privacy.privacy_scan)
    app.add_typer(pseudonyms.pseudonyms, name="pseudonyms")
