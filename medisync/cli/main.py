"""``medisync``: the command line. Each command is a few lines over the functions that flows and pages call, too."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medisync import __version__
from medisync.cli import (
    audit,
    backup,
    compare,
    export_run,
    keys,
    lineage,
    migrate,
    new,
    recalibrate,
    release,
    report,
    reproduce,
    run,
    source,
    user,
    why,
)
from medisync.cli.intake import add_intake_commands
from medisync.cli.output import Console
from medisync.errors import MediSyncError
from medisync.settings import PREFIX, Settings, load_settings

app = typer.Typer(
    name="medisync",
    help="Jupyter-first reproducible analytics workspace for hospital admissions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def up(
    lab: Annotated[bool, typer.Option(help="Start JupyterLab, too.")] = False,
    sample: Annotated[bool, typer.Option(help="Put the sample into the inbox when there are no data yet.")] = False,
    profile: Annotated[str | None, typer.Option(help="local or server, instead of MEDISYNC_PROFILE.")] = None,
) -> None:
    """Start the workspace: Prefect, worker, inbox watcher and pages. Ctrl-C stops all of it."""
    from medisync.supervisor.ready import announce, offer_sample
    from medisync.supervisor.workspace import Supervisor

    if profile is not None:
        os.environ[f"{PREFIX}PROFILE"] = profile  # also for what asks the environment itself
    settings = load_settings()
    console = Console()

    def on_ready() -> None:
        if sample and offer_sample(settings):
            console.say("The sample lies in the inbox; its numbers appear on the page in a moment.")
        announce(settings, console.say, lab=lab)

    Supervisor(settings, lab=lab, say=console.say).run(on_ready)


@app.command()
def worker() -> None:
    """Work for the server of this workspace on another machine: run its analyses here. Ctrl-C stops it."""
    from medisync.supervisor.remote_worker import RemoteWorker

    console = Console()
    RemoteWorker(load_settings(), say=console.say).run(lambda: console.say("This machine works for the server."))


@app.command()
def down() -> None:
    """Stop the running workspace."""
    from medisync.supervisor import workspace

    workspace.down(load_settings())
    Console().say("Stopped.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """What runs, what the data are, and how fresh each analysis is."""
    from medisync.cli import status as report

    state = report.workspace_status(load_settings())
    Console().data(state) if as_json else report.show(state)


@app.command()
def ingest(
    file: Annotated[Path, typer.Argument(help="The file to load; it stays where it is.")],
    source: Annotated[str, typer.Option(help="The source it comes from.")] = "default",
    mode: Annotated[str, typer.Option(help="upsert, snapshot (what is absent is deleted) or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Check, de-identify and merge one file into the lake."""
    from medisync import intake
    from medisync.cli.requests import request_refresh
    from medisync.intake.merging import DeliveryMode
    from medisync.lake import Lake

    settings = load_settings()
    console = Console(quiet=as_json)
    modes = [one.value for one in DeliveryMode]
    if mode not in modes:
        raise typer.BadParameter(f"one of {', '.join(modes)}", param_hint="--mode")
    with console.working(f"Loading {file.name}"):
        report = intake.ingest(Lake(settings), file, source=source, mode=DeliveryMode(mode))
    if as_json:
        console.data(report.as_json())
    else:
        console.say(report.sentence(str(file)))
        for notice, number in report.notices.items():
            console.say(f"Notice {notice}: {number:,}")
        for reason, number in report.faults.items():
            console.say(f"Quarantined {reason}: {number:,}; see data/quarantine/{report.delivery_id}.csv")
    if report.changed:
        is_requested = request_refresh(settings)
        console.say("The running workspace updates the analyses." if is_requested else "Next: medisync run")
    if report.status is intake.DeliveryStatus.REFUSED:
        raise typer.Exit(8)


app.command()(run.run)
app.add_typer(user.user, name="user")
app.add_typer(release.release, name="release")
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(migrate.migrate)
app.add_typer(audit.audit, name="audit")
app.add_typer(keys.keys, name="keys")
app.add_typer(source.app, name="source")
app.command()(recalibrate.recalibrate)
app.command()(reproduce.reproduce)
app.command()(compare.compare)
app.command()(why.why)
app.command()(lineage.lineage)
app.command()(new.new)
app.command()(new.check_notebook)
app.command()(export_run.export_run)


@app.command()
def doctor(
    mend: Annotated[bool, typer.Option("--mend", help="Mend what can be mended without losing anything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look whether everything is as it should be, and say what to do where it is not."""
    from medisync.cli import doctor as doctor_module

    findings = doctor_module.examine(load_settings(), mend=mend)
    Console().data([finding.as_json() for finding in findings]) if as_json else doctor_module.show(findings)
    if any(not finding.is_well for finding in findings):
        raise typer.Exit(1)


@app.command(name="clean-up")
def clean_up(
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False, as_json: AsJson = False
) -> None:
    """Remove what is old and not needed, and merge the lake's small files."""
    from medisync.lake import Lake
    from medisync.runs import upkeep

    report = upkeep.clean_up(Lake(load_settings()), dry_run=dry_run)
    Console().data(report.as_json()) if as_json else Console().say(report.sentence())


@app.command(name="demo-data")
def demo_data(
    file: Annotated[Path, typer.Argument(help="The CSV to write; the planted truth goes beside it as .truth.json.")],
    rows: Annotated[int, typer.Option(help="Admissions.")] = 60_000,
    years: Annotated[int, typer.Option(help="Years they cover.")] = 6,
    sites: Annotated[int, typer.Option(help="Hospitals.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 1,
    deliveries: Annotated[int, typer.Option(help="Cut the years into that many files.")] = 1,
    truth: Annotated[Path | None, typer.Option(help="Where the planted truth goes instead.")] = None,
) -> None:
    """Write made-up admissions with planted seasons, trends, associations and outbreaks, and the truth about them."""
    from medisync.demo import write_demo_data

    console = Console()
    settings = load_settings()
    if truth is None and file.absolute().is_relative_to(settings.inbox):
        truth = settings.data / f"{file.stem}.truth.json"  # the inbox is for deliveries
    with console.working(f"Writing {rows:,} admissions"):
        write_demo_data(file, rows=rows, years=years, sites=sites, seed=seed, deliveries=deliveries, truth_path=truth)
    console.say(f"{rows:,} admissions of {sites} sites over {years} years. Next: medisync ingest {file}")


@app.command()
def settings(as_json: AsJson = False) -> None:
    """The settings in force, each with its environment variable."""
    current = load_settings()
    values: dict[str, Any] = {PREFIX + name.upper(): str(getattr(current, name)) for name in Settings.model_fields}
    if as_json:
        Console().data(values)
    else:
        for name, value in values.items():
            typer.echo(f"{name}={value}")


app.command()(report.report)
add_intake_commands(app)


def main() -> None:
    """Run the command line; an error of ours becomes one message and its exit code, never a traceback."""
    try:
        app()
    except MediSyncError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.code, "message": str(error)}))
        typer.echo(f"Error [{error.code}]: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
