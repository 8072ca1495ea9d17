"""The reference pages say of every reason code, error code and setting what the code says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from medisync.errors import MediSyncError
from medisync.intake.reasons import FileFault, Notice, RowFault
from medisync.settings import Settings, project_root

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN_FAILED = "Exit code 11, HTTP status 500."


CHECK_CODES = {code.value for kind in (FileFault, RowFault, Notice) for code in kind}
TYPE_NAMES = {Path: "folder", int: "whole number", float: "number", str: "text", bool: "true or false"}
SETTING_ROWS = {
    row[0].strip().strip("`"): [cell.strip() for cell in row[1:]]
    for row in (
        line.strip("|").split("|")
        for line in (DOCS / "settings.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `MEDISYNC_")
    )
}


def type_name(annotation: Any) -> str:
    """A setting's type in words."""
    if get_origin(annotation) is Literal:
        *first, last = get_args(annotation)
        return f"{', '.join(first)} or {last}"
    return "file" if annotation == Path | None else TYPE_NAMES[annotation]


def sections(page: str) -> dict[str, str]:
    """Heading -> text of a page's sections; a heading may stand there once."""
    _, *parts = re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.M)
    found = [part.split("\n", 1) for part in parts]
    assert len({heading for heading, _ in found}) == len(found)
    return {heading.strip(): text for heading, text in found}


def error_classes() -> list[type[MediSyncError]]:
    """Every error class of ours, wherever it is defined."""
    for path in (ROOT / "medisync").rglob("*.py"):
        if re.search(r"^    code = \"", path.read_text(encoding="utf-8"), flags=re.M):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found, waiting = [], [MediSyncError]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(one.__subclasses__())
    return [one for one in found if one.__module__.startswith("medisync.")]


def run_error_codes() -> set[str]:
    """Codes given to single errors of a run, where it fails."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "medisync" / "runs").glob("*.py"))
    return {code for source in sources for code in re.findall(r"\bcode=\"([a-z-]+)\"", source)}


class TestChecks:
    def test_every_reason_code_has_a_section_and_no_other(self) -> None:
        assert set(sections("checks.md")) == CHECK_CODES

    @pytest.mark.parametrize("code", sorted(CHECK_CODES))
    def test_a_section_says_what_why_and_what_to_do(self, code: str) -> None:
        parts = re.findall(r"\*\*(What|Why|What to do)\.\*\* \S", sections("checks.md")[code])
        assert parts == ["What", "Why", "What to do"]


class TestErrors:
    def test_every_error_code_has_a_section_and_no_other(self) -> None:
        codes = {one.code for one in error_classes()} | run_error_codes()
        assert len(codes) > 20
        assert set(sections("errors.md")) == codes

    @pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
    def test_a_section_gives_exit_code_and_status(self, kind: type[MediSyncError]) -> None:
        text = sections("errors.md")[kind.code].split("\n\n")
        status = RUN_FAILED if kind.code == "notebook-failed" else None
        assert text[0].strip() == (status or f"Exit code {kind.exit_code}, HTTP status {kind.http_status}.")

    @pytest.mark.parametrize("code", sorted(sections("errors.md")))
    def test_a_section_says_message_cause_and_fix(self, code: str) -> None:
        text = sections("errors.md")[code]
        assert re.findall(r"\*\*(Message|Cause|Fix)\.\*\* \S", text) == ["Message", "Cause", "Fix"]

    def test_codes_of_runs_share_the_exit_code_of_a_failed_run(self) -> None:
        own = {one.code for one in error_classes()}
        for code in run_error_codes() - own:
            assert sections("errors.md")[code].strip().startswith(RUN_FAILED)

    def test_exit_codes_are_those_of_one_error_each(self) -> None:
        codes = {one.exit_code: one.code for one in error_classes() if one.code != "notebook-failed"}
        assert len(codes) == len({one.code for one in error_classes() if one.code != "notebook-failed"})
        assert 0 not in codes


class TestSettings:
    def test_every_setting_has_a_row_and_no_other(self) -> None:
        assert list(SETTING_ROWS) == [f"MEDISYNC_{name.upper()}" for name in Settings.model_fields]

    @pytest.mark.parametrize("name", list(Settings.model_fields))
    def test_a_row_gives_type_default_and_help(self, name: str) -> None:
        field = Settings.model_fields[name]
        default = field.default
        shown = f"{default.relative_to(project_root()).as_posix()}/" if isinstance(default, Path) else str(default)
        assert field.description
        assert SETTING_ROWS[f"MEDISYNC_{name.upper()}"] == [
            type_name(field.annotation),
            "nothing" if default in (None, "") else f"`{shown}`",
            field.description,
        ]


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in ("checks.md", "errors.md", "settings.md"):
        for target in re.findall(r"\]\(([^)]+)\)", (DOCS / page).read_text(encoding="utf-8")):
            file, _, anchor = target.partition("#")
            assert not file or (DOCS / file).exists(), target
            assert not anchor or anchor in sections(file or page), target
