"""Templates of the pages, with the filters and words all of them use."""

from __future__ import annotations

import functools

import jinja2

from medisync.dashboards.parts import TEMPLATES
from medisync.reports.page import TEMPLATES as REPORT_TEMPLATES
from medisync.reports.page import as_shown, cell, csv_address, words
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
        when=when,
        day=day,
        iso=iso,
        tied=tied,
        cell=cell,
        as_shown=as_shown,
        words=words,
        provenance=provenance,
        csv_address=csv_address,
    )
    made.globals.update(
        state_words=STATE_WORDS, finding_words=FINDING_WORDS, reports=REPORTS_PATH, rows_on_a_tile=ROWS_ON_A_PAGE
    )
    return made
