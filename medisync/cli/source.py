"""``medisync source``: what is known of where files come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings

app = typer.Typer(help="Sources: where files come from, and what their files mean.", no_args_is_help=True)

_DELIVERED = (
    "SELECT source, count(*) AS n, max(received_at) FILTER (status <> 'refused') AS last FROM clinical.deliveries "
    "GROUP BY source"
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
File = Annotated[Path, typer.Argument(help="A file, a folder or a .zip; it stays where and as it is.")]


@app.command(name="list")
def list_sources(as_json: AsJson = False) -> None:
    """Sources with a file in data/sources/, and those that have delivered without one."""
    from medisync.intake.expected import missed_by
    from medisync.intake.sources import known_sources
    from medisync.lake import Lake

    settings = load_settings()
    described = set(known_sources(settings))
    lake = Lake(settings)
    rows = lake.query(_DELIVERED) if lake.exists else []
    delivered = {row["source"]: row for row in rows}
    found = [
        {
            "source": name,
            "described": name in described,
            "deliveries": delivered[name]["n"] if name in delivered else 0,
            "missed": missed_by(settings, name, delivered[name]["last"]) if name in delivered else 0,
        }
        for name in sorted(described | set(delivered))
    ]
    console = Console(quiet=as_json)
    if as_json:
        console.data(found)
    for one in found:
        how = "described" if one["described"] else "recognised by content"
        late = f", {one['missed']:,} expected since the last did not come" if one["missed"] else ""
        console.say(f"{one['source']}: {how}, {one['deliveries']:,} deliveries{late}")
    if not found:
        console.say("No source yet. Drop a file into data/inbox/, or: medisync source draft FILE")


@app.command()
def show(name: Annotated[str, typer.Argument(help="The source's name.")], as_json: AsJson = False) -> None:
    """What a source's file says, checked; and the defaults of what it leaves out."""
    from medisync.intake.sources import load_source

    source = load_source(load_settings(), name)
    console = Console()
    if as_json:
        console.data(source.model_dump(mode="json"))
        return
    for key, value in source.model_dump(mode="json", exclude_none=True).items():
        console.say(f"{key} = {value}")


@app.command()
def draft(
    file: File, sheet: Annotated[str | None, typer.Option(help="Of a workbook the sheet to look at.")] = None
) -> None:
    """Look at FILE and print a first source file, with a guess and how sure it is for each column.

    Save it as data/sources/<name>.toml, correct it, and try: medisync source check FILE --source <name>
    """
    import tempfile

    from medisync.intake.drafting import draft_of
    from medisync.intake.formats import Room
    from medisync.intake.sources import Source
    from medisync.lake.extensions import open_duckdb

    with tempfile.TemporaryDirectory() as folder, open_duckdb("icu") as connection:
        typer.echo(draft_of(connection, file, Source(name="draft", sheet=sheet), Room(Path(folder))), nl=False)


@app.command()
def check(
    file: File,
    source: Annotated[str, typer.Option(help="The source it would come from.")] = "default",
    mode: Annotated[str, typer.Option(help="upsert, snapshot, append or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Say what delivering FILE would do, without doing it."""
    from medisync.intake import DeliveryStatus
    from medisync.intake.foresight import foresee
    from medisync.intake.merging import DeliveryMode
    from medisync.lake import Lake

    modes = [one.value for one in DeliveryMode]
    if mode not in modes:
        raise typer.BadParameter(f"one of {', '.join(modes)}", param_hint="--mode")
    console = Console(quiet=as_json)
    with console.working(f"Looking at {file.name}"):
        found = foresee(Lake(load_settings()), file, source=source, mode=DeliveryMode(mode))
    report = found.report
    is_refused = report.status is DeliveryStatus.REFUSED
    if as_json:
        console.data(found.as_json())
    else:
        console.say(f"{file} {report.foretold()}")
        for part, role, columns in found.columns:
            console.say(f"  {part or file.name}: {role}, columns {', '.join(columns)}")
        for notice, number in report.notices.items():
            console.say(f"  Notice {notice}: {number:,}")
        for part, column, reason, rows in found.faults:
            where = f"{part}, " if part else ""
            console.say(f"  {where}column {column or '(the whole row)'}: {reason} in {rows:,} rows")
    if is_refused:
        raise typer.Exit(8)
