"""The self-check: the workspace's own runs executed again, and a report of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from medisync.reports import page
from medisync.runs.reproduce import Reproduction, Verdict
from medisync.settings import Settings


def write_self_check(settings: Settings, made: list[Reproduction], at: dt.datetime) -> Path:
    """The report of a self-check of moment ``at`` (UTC), self-contained; its path."""
    html = (
        page.environment()
        .get_template("self_check.html")
        .render(
            made=made, at=at, css=page.stylesheet(), ill=[one for one in made if one.verdict is not Verdict.IDENTICAL]
        )
    )
    path = settings.reports / "self-check" / f"{at:%Y%m%dT%H%M%S}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(html, encoding="utf-8")
    draft.replace(path)
    return path


def sentence(made: list[Reproduction]) -> str:
    """The self-check in one sentence."""
    if not made:
        return "There is no completed run to check."
    same = sum(one.verdict is Verdict.IDENTICAL for one in made)
    values = sum(one.compared for one in made)
    told = f"{same} of {len(made)} runs gave identical numbers when executed again ({values:,} values compared)"
    ill = sorted({one.analysis for one in made if one.verdict is not Verdict.IDENTICAL})
    return f"{told}; look at {', '.join(ill)}." if ill else f"{told}."
