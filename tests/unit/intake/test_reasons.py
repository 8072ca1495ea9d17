"""Every reason code says in its section how grave it is, as the code does."""

from __future__ import annotations

import re

import pytest

from medisync.intake.reasons import FileFault, Notice, RowFault, Severity, severities
from medisync.settings import project_root

CODES = sorted({code.value for kind in (FileFault, RowFault, Notice) for code in kind})
PAGE = (project_root() / "docs" / "checks.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", PAGE, flags=re.M)[1:]}


@pytest.mark.parametrize("code", CODES)
def test_a_section_says_how_grave_it_is(code: str) -> None:
    words = {Severity.REFUSES: "refuses", Severity.QUARANTINES: "quarantines", Severity.TOLD: "told"}
    said = re.findall(r"\*\*Severity\.\*\* ([^.]+)\.", SECTIONS[code])
    assert len(said) == 1
    assert {word for word in words.values() if word in said[0].lower()} == {words[one] for one in severities(code)}


def test_an_unknown_code_has_no_severity() -> None:
    assert severities("NO_SUCH_CODE") == ()
