"""``medisync quality``: how good a delivery is, and how a source's deliveries developed."""

from __future__ import annotations

from typing import Annotated

import typer

from medisync.cli.output import Console
from medisync.settings import load_settings


def quality(
    delivery: Annotated[str | None, typer.Argument(help="The delivery's id; the last one for none.")] = None,
    trends: Annotated[bool, typer.Option("--trends", help="A source's deliveries over time instead.")] = False,
    source: Annotated[str, typer.Option(help="The source of --trends.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """What was measured of a delivery, what of it is unusual for its source, and the page that shows it."""
    from medisync.errors import NoDataError
    from medisync.lake import Lake
    from medisync.reports.quality import quality_of, write_quality_page, write_trends_page

    lake, console = Lake(load_settings()), Console(quiet=as_json)
    if trends:
        path = write_trends_page(lake, source)
        console.data({"report": str(path)}) if as_json else console.say(f"Report: {path}")
        return
    if delivery is None:
        rows = lake.query("SELECT delivery_id FROM clinical.deliveries ORDER BY finished_at DESC LIMIT 1")
        if not rows:
            raise NoDataError("Nothing was delivered yet.", hint="medisync ingest FILE")
        delivery = str(rows[0]["delivery_id"])
    found = quality_of(lake, delivery)
    path = write_quality_page(lake, delivery)
    if as_json:
        console.data({**found, "report": str(path)})
        return
    for one in found["measures"]:
        if one["measure"] != "faults":
            usual = f" (usually {one['expected']:.4g})" if one["expected"] is not None else ""
            column = f" {one['column_name']}" if one["column_name"] else ""
            console.say(
                f"{one['measure']}{column}: {one['value']:.4g}{usual}{'  ' + one['reason'] if one['reason'] else ''}"
            )
    for one in found["faults"]:
        console.say(f"{one['reason']} in column {one['column_name']}: {one['rows']:,} rows, first {one['first_row']:,}")
    console.say(f"Report: {path}")
