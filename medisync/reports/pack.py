"""The pack: all analyses in one document, as self-contained HTML and as PDF, kept by date.

Both are made from one :class:`Pack`, which holds what is published and nothing else. The PDF is typeset by Typst from
``reports/pack.typ``; figures stay vectors.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medisync.access.principal import Audience
from medisync.analyses.contract import Result, Table
from medisync.analyses.figures import INK
from medisync.lake import Lake
from medisync.reports.page import as_shown, cell, environment, stylesheet, words
from medisync.reports.phrases import FINDING_WORDS, STATE_WORDS, day, tied, when
from medisync.reports.provenance import provenance
from medisync.runs import registry
from medisync.runs.published import DataState, Published, data_state, published
from medisync.settings import Settings, project_root

PDF_TEMPLATE = project_root() / "reports" / "pack.typ"

ROWS_IN_PRINT = 20
"""A longer table stands in the HTML pack only."""

RELEASED_ENDING = "-released"
"""Ends the name of a pack that holds released results only; any other is for those who may see everything."""

AUDIENCE_WORDS: Mapping[Audience, str] = {
    "full": "Whole results, for those who may see everything",
    "released": "Released results: what could point at a person is withheld",
}

COLUMNS_IN_PRINT = 9
"""A wider table is turned, so that its columns become rows, when it has few enough rows."""


@dataclass(frozen=True)
class Section:
    """One analysis. ``method`` are the paragraphs of its notebook's introduction."""

    one: Published
    method: tuple[str, ...] = ()

    @property
    def provenance(self) -> list[tuple[str, str]]:
        """What the numbers were made from, as (what, which)."""
        return provenance(self.one.record) if self.one.record else []


@dataclass(frozen=True)
class Pack:
    """Everything one pack says. ``made_at`` is UTC."""

    made_at: dt.datetime
    data: DataState
    sections: tuple[Section, ...]
    audience: Audience = "full"

    @property
    def contents(self) -> str:
        """A short hash of what it shows: which runs, in which state, and whether there is a result to see."""
        shown = [
            (s.one.analysis, s.one.freshness, s.one.record and s.one.record.run_id, s.one.reason, bool(s.one.result))
            for s in self.sections
        ]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Sorts by time; then come its contents and, unless it holds whole results, its audience."""
        ending = RELEASED_ENDING if self.audience == "released" else ""
        return f"{self.made_at:%Y%m%dT%H%M%S}-{self.contents}{ending}"


@dataclass(frozen=True)
class KeptPack:
    """A pack in the reports folder."""

    name: str
    made_at: dt.datetime
    html: Path
    pdf: Path

    @property
    def audience(self) -> Audience:
        """Who may see it; "full" is who may see everything."""
        return "released" if self.name.endswith(RELEASED_ENDING) else "full"

    @property
    def contents(self) -> str:
        """Equal for two packs of one audience that show the same."""
        return self.name.partition("-")[2].removesuffix(RELEASED_ENDING)


def collect(lake: Lake, made_at: dt.datetime, audience: Audience = "full") -> Pack:
    """The pack of what is published now, as ``audience`` may see it."""
    introductions = {one.analysis: introduction(one.path) for one in registry.analyses(lake.settings)}
    shelf = published(lake, audience=audience)
    sections = tuple(Section(one, introductions.get(one.analysis, ())) for one in shelf)
    return Pack(made_at, data_state(lake), sections, audience)


def introduction(notebook: Path) -> tuple[str, ...]:
    """The paragraphs below the title in the notebook's first Markdown cell, as plain text."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return ()
    text = next(("".join(one["source"]) for one in cells if one.get("cell_type") == "markdown"), "")
    paragraphs = (" ".join(block.split()) for block in text.split("\n\n"))
    return tuple(one.replace("`", "").replace("*", "") for one in paragraphs if one and not one.startswith("#"))


def write_pack(settings: Settings, pack: Pack) -> KeptPack:
    """Write ``pack`` as HTML and PDF below ``reports/packs/<date>/``; a reader sees both or neither."""
    home = settings.reports / "packs" / f"{pack.made_at:%Y-%m-%d}"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".draft-") as folder:
        draft = Path(folder)
        (draft / "pack.html").write_text(html(pack), encoding="utf-8")
        write_pdf(pack, draft / "pack.pdf", draft / "typst")
        shutil.rmtree(draft / "typst")
        kept = home / pack.name
        kept.mkdir()
        for name in ("pack.html", "pack.pdf"):
            (draft / name).rename(kept / name)
    return KeptPack(pack.name, pack.made_at, kept / "pack.html", kept / "pack.pdf")


def kept_packs(settings: Settings, audience: Audience | None = None) -> list[KeptPack]:
    """The packs there are, or those for ``audience``, newest first."""
    found = []
    for path in (settings.reports / "packs").glob("*/*/pack.pdf"):
        name = path.parent.name
        try:
            made_at = dt.datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S")  # noqa: DTZ007 - UTC by definition
        except ValueError:
            continue
        found.append(KeptPack(name, made_at, path.with_name("pack.html"), path))
    found = [one for one in found if audience in (None, one.audience)]
    return sorted(found, key=lambda one: one.name, reverse=True)


def html(pack: Pack) -> str:
    """The pack as one page that needs no network."""
    template = environment().get_template("pack.html")
    return template.render(
        pack=pack,
        audience=AUDIENCE_WORDS[pack.audience],
        css=stylesheet(),
        finding_words=FINDING_WORDS,
        state_words=STATE_WORDS,
        when=when,
        day=day,
    )


def write_pdf(pack: Pack, path: Path, folder: Path) -> None:
    """Typeset ``pack`` into ``path``; ``folder`` holds the template's inputs and may be removed afterwards."""
    import matplotlib
    import typst

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PDF_TEMPLATE, folder / "pack.typ")
    (folder / "pack.json").write_text(json.dumps(_for_print(pack, folder), ensure_ascii=False), encoding="utf-8")
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # the figures' letters, on every machine the same
    typst.compile(
        str(folder / "pack.typ"), output=str(path), root=str(folder), font_paths=[str(fonts)], ignore_system_fonts=True
    )


def _for_print(pack: Pack, folder: Path) -> dict[str, object]:
    """``pack`` as the template reads it; its figures are written into ``folder``."""
    data = pack.data
    return {
        "made_at": when(pack.made_at),
        "name": pack.name,
        "audience": AUDIENCE_WORDS[pack.audience],
        "snapshot": data.snapshot_id,
        "delivered_at": when(data.delivered_at),
        "admissions": f"{data.admissions:,}",
        "from": day(data.admitted_from),
        "until": day(data.admitted_until),
        "sections": [_section(section, folder) for section in pack.sections],
    }


def _section(section: Section, folder: Path) -> dict[str, object]:
    one, result = section.one, section.one.result
    return {
        "name": one.analysis,
        "title": one.title,
        "state": STATE_WORDS[one.freshness],
        "current": one.freshness == "current",
        "reason": one.reason or "",
        "method": list(section.method),
        "provenance": section.provenance,
        "headline": tied(result.headline) if result else "There is no result yet.",
        "finding": FINDING_WORDS[result.finding] if result else "",
        "signal": bool(result and result.finding == "signal"),
        "covers": f"{day(result.data_from)} to {day(result.data_until)}" if result and result.data_from else "",
        "warnings": [tied(warning) for warning in result.warnings] if result else [],
        "figures": _figures(one.analysis, result, folder) if result else [],
        "tables": [printed for table in result.tables.values() if (printed := printable(table))] if result else [],
        "left_out": [table.title for table in result.tables.values() if not printable(table)] if result else [],
        "numbers": [(words(name), cell(value)) for name, value in result.metrics.items()] if result else [],
    }


def _figures(analysis: str, result: Result, folder: Path) -> list[dict[str, str]]:
    listed = []
    for number, figure in enumerate(result.figures):
        name = f"{analysis}-{number}.svg"
        (folder / name).write_text(figure.svg.replace("currentColor", INK), encoding="utf-8")
        listed.append({"file": name, "title": figure.title, "alt": figure.alt})
    return listed


def printable(table: Table) -> dict[str, object] | None:
    """``table`` as rows of text that fit a page, turned where it is wide and short; None when it does not fit."""
    if not table.rows or len(table.rows) > ROWS_IN_PRINT:
        return None
    rows: Sequence[Sequence[str]] = as_shown(table)
    head = [words(name) for name in table.columns]
    is_left = [number == 0 or isinstance(value, str) for number, value in enumerate(table.rows[0])]
    if len(head) > COLUMNS_IN_PRINT:
        if len(rows) >= COLUMNS_IN_PRINT:
            return None
        turned = list(zip(head, *rows, strict=True))
        head, rows = list(turned[0]), turned[1:]
        is_left = [number == 0 for number in range(len(head))]
    return {"title": table.title, "head": head, "is_left": is_left, "rows": [list(row) for row in rows]}
