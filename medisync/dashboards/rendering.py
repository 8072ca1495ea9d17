"""Templates of the pages, with the filters and words all of them use."""

from __future__ import annotations

import base64
import csv
import functools
import io

import jinja2
from markupsafe import Markup

from medisync.analyses.contract import Table
from medisync.dashboards.parts import TEMPLATES
from medisync.reports.page import TEMPLATES as REPORT_TEMPLATES
from medisync.reports.page import cell, words
from medisync.reports.phrases import FINDING_WORDS, STATE_WORDS, day, iso, tied, when
from medisync.reports.provenance import provenance

REPORTS_PATH = "/reports/"
"""Where the pages' server serves the reports folder."""

ROWS_ON_A_PAGE = 60
"""A longer table stands in the full report only."""


def render(name: str, **values: object) -> str:
    """The template ``name`` with ``values``; everything is escaped unless it is our own markup."""
    return templates().get_template(name).render(values).strip()


@functools.cache
def templates() -> jinja2.Environment:
    """The pages' own templates, and those of reports, so that a table looks the same in both."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, REPORT_TEMPLATES]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        when=when, day=day, iso=iso, tied=tied, cell=cell, words=words, provenance=provenance, csv_address=csv_address
    )
    made.globals.update(
        state_words=STATE_WORDS, finding_words=FINDING_WORDS, reports=REPORTS_PATH, rows_on_a_tile=ROWS_ON_A_PAGE
    )
    return made


def csv_address(table: Table) -> Markup:
    """``table`` as a CSV file inside a ``data:`` address, so that it can be kept without a server.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.columns)
    writer.writerows([_harmless(value) for value in row] for row in table.rows)
    encoded = base64.b64encode(text.getvalue().encode("utf-8-sig")).decode("ascii")
    return Markup(f"data:text/csv;base64,{encoded}")  # noqa: S704 - letters, digits, +, / and = only


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
