"""Results as HTML, without any external address."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import functools
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from medisync.analyses.contract import Result, Scalar, Table
from medisync.reports.phrases import day, tied
from medisync.runs.record import RunRecord
from medisync.settings import Settings

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def environment() -> jinja2.Environment:
    """The one Jinja environment: everything is escaped unless it is our own SVG."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters["cell"] = cell
    templates.filters["as_shown"] = as_shown
    templates.filters["words"] = words
    templates.filters["tied"] = tied
    templates.filters["csv_address"] = csv_address
    templates.filters["provenance"] = _provenance
    return templates


@functools.cache
def stylesheet() -> str:
    """The visual rules shared by notebook, page and report."""
    return (TEMPLATES / "medisync.css").read_text(encoding="utf-8")


def fragment(result: Result) -> str:
    """One result: headline, figures with their data, metrics, warnings."""
    return environment().get_template("fragment.html").render(result=result, css=stylesheet())


def write_report(path: Path, record: RunRecord, result: Result | None) -> None:
    """The self-contained report of one run, failed ones included."""
    html = environment().get_template("report.html").render(record=record, result=result, css=stylesheet())
    draft = path.with_suffix(".draft")
    draft.write_text(html, encoding="utf-8")
    draft.replace(path)


def _provenance(record: RunRecord) -> list[tuple[str, str]]:
    from medisync.reports.provenance import provenance  # kernels import this module, and need no records

    return provenance(record)


def quality_path(settings: Settings, delivery_id: str) -> Path:
    """Where the page about a delivery's quality lies."""
    return settings.reports / "deliveries" / f"{delivery_id}.html"


def csv_address(table: Table) -> Markup:
    """``table`` as a CSV file inside a ``data:`` address, so that it can be kept without a server.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_harmless(name) for name in table.columns])
    writer.writerows([_harmless(value) for value in row] for row in table.rows)
    encoded = base64.b64encode(text.getvalue().encode("utf-8-sig")).decode("ascii")
    return Markup(f"data:text/csv;base64,{encoded}")  # noqa: S704 - letters, digits, +, / and = only


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def cell(value: Scalar) -> str:
    """A table's value for people: thousands separated, at most four significant decimals, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return f"{int(value):,}"
        if 0 < abs(value) < 0.001:
            return "< 0.001" if value > 0 else f"{value:.2g}"
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
    return value


def as_shown(table: Table, *, is_mixed: bool = False) -> list[list[str]]:
    """The rows of ``table`` for people: numbers of one column with equally many decimals, so that they can be compared
    at a glance; each by itself where a column mixes quantities (``is_mixed``)."""
    if is_mixed:
        return [[cell(value) for value in row] for row in table.rows]
    columns = [_column([row[place] for row in table.rows]) for place in range(len(table.columns))]
    return [list(row) for row in zip(*columns, strict=True)]


def _column(values: Sequence[Scalar]) -> list[str]:
    numbers = [abs(value) for value in values if isinstance(value, float) and math.isfinite(value)]
    if all(number.is_integer() for number in numbers) or any(number >= 1e6 for number in numbers):
        return [cell(value) for value in values]
    largest = max(numbers)
    decimals = 1 if largest >= 10 else 2 if largest > 1 else 3
    return [_decimals(value, decimals) if isinstance(value, (int, float)) else cell(value) for value in values]


def _decimals(value: float, decimals: int) -> str:
    if isinstance(value, bool) or not math.isfinite(value):
        return cell(value)
    if 0 < abs(value) < 10**-decimals / 2:
        return f"{'<' if value > 0 else '>'} {math.copysign(10**-decimals, value):.{decimals}f}"
    return f"{value:,.{decimals}f}"


def _day_named(found: re.Match[str]) -> str:
    try:
        return day(dt.date.fromisoformat(found[0]))
    except ValueError:
        return found[0]


def words(name: Any) -> str:
    """A snake_case name as words, "coverage_80_percent" as "Coverage 80, %", "week_of_2024-12-30" as a day."""
    text = str(name).replace("_", " ").strip()
    text = re.sub(r" percent$", ", %", re.sub(r"\bmase\b", "MASE", text))
    text = re.sub(r"\b\d{4}-\d\d-\d\d\b", _day_named, text)
    return text[:1].upper() + text[1:]
