"""``medisync privacy-scan``: whether anything names a person of a delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medisync.backend.database import SCHEMES, Address, address_of, parse
from medisync.cli.output import Console
from medisync.errors import NoDataError
from medisync.settings import Settings, load_settings


def privacy_scan(
    path: Annotated[
        list[str], typer.Argument(help="Files and folders to search, and addresses as postgresql://user@host/database.")
    ],
    delivery: Annotated[
        list[str] | None, typer.Option(help="Deliveries whose people are sought; all that are kept when none is given.")
    ] = None,
    file: Annotated[list[Path] | None, typer.Option(help="Files whose people are sought instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Search files, folders and databases for people of a delivery; exit code 1 when one is found.

    A workspace's folders of raw files and keys are left out; in the server profile its database belongs to it. What is
    found is told by file or table, and kind, never by value.
    """
    from medisync.intake.privacy import identifiers_of, scan

    console, settings = Console(quiet=as_json), load_settings()
    addresses = [one for one in path if _is_address(one)]
    paths = [Path(one) for one in path if one not in addresses]
    databases = _databases(addresses, paths, settings)
    sources = list(file or []) or _kept(settings, delivery or [])
    for one in (*paths, *sources):
        if not one.exists():
            raise typer.BadParameter(f"there is no {one.name}")
    with console.working("Reading the deliveries"):
        identifiers = identifiers_of(sources)
    if not len(identifiers):
        raise NoDataError("Nothing in these deliveries identifies a person.", hint="Is it the file that was delivered?")
    with console.working("Searching"):
        report = scan(paths, identifiers, databases)
    if as_json:
        console.data(report.as_json())
    else:
        for finding in report.findings:
            console.say(finding.sentence())
        for name in report.unreadable:
            console.say(f"{name}: could not be read")
        for reason, number in sorted(report.left_out.items()):
            console.say(f"Left out, since it tells nobody for sure: {number:,} ({reason})")
        console.say(
            f"{len({one.file for one in report.findings}):,} of {report.files:,} files and tables hold something of "
            f"{report.sought:,} identifiers."
        )
    if report.findings or report.unreadable:
        raise typer.Exit(1)


def _is_address(text: str) -> bool:
    return text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def _databases(addresses: list[str], paths: list[Path], settings: Settings) -> list[Address]:
    """Those that are named, and the workspace's own when its data folder is."""
    try:
        found = [parse(one, settings.database_passfile) for one in addresses]
    except ValueError as error:
        raise typer.BadParameter(f"the address of a database: {error}") from None
    own = address_of(settings) if settings.is_server else None
    if own and own not in found and settings.data.resolve() in (one.resolve() for one in paths):
        found.append(own)
    return found


def _kept(settings: Settings, deliveries: list[str]) -> list[Path]:
    """The raw files of ``deliveries``, of all that are kept for none."""
    found = []
    for delivery in deliveries or [""]:
        names = f"{delivery}-*" if delivery else "*"
        of_one = [
            *settings.archive.glob(f"*/{names}"),
            *settings.refused.glob(names),
            *settings.processing.glob(f"{delivery or '*'}/file/*"),
        ]
        if not of_one:
            raise NoDataError(
                f"The file of delivery {delivery} is not kept." if delivery else "No delivered file is kept.",
                hint="Name it: medisync privacy-scan PATH --file FILE",
            )
        found += [one for one in of_one if _is_readable(one) and not one.name.endswith(".reason.txt")]
    return sorted(found)


def _is_readable(path: Path) -> bool:
    """A refused link or pipe is no file: it was never read, and a pipe would keep its reader waiting."""
    return not path.is_symlink() and (path.is_file() or path.is_dir())
