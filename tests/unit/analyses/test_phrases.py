"""Small pieces of English."""

from __future__ import annotations

import pytest

from medisync.analyses.phrases import counted, listed, percent, probability, shortened, signed_percent


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "none"),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcdefgh"), "a, b, c, d, e and 3 more"),
    ],
)
def test_lists(names: list[str], text: str) -> None:
    assert listed(names) == text


def test_numbers() -> None:
    assert [counted(1, "week"), counted(1_200, "week"), counted(2, "diagnosis", "diagnoses")] == [
        "1 week", "1,200 weeks", "2 diagnoses",
    ]  # fmt: skip
    assert percent(0.1234, 1) == "12.3 %"
    assert [signed_percent(change) for change in (0.12, -0.12, 0.001, -0.001)] == ["+12 %", "−12 %", "0 %", "0 %"]
    assert signed_percent(float("inf")) == "from none"
    assert [probability(p) for p in (0.5, 0.0312, 0.0001)] == ["p = 0.50", "p = 0.031", "p < 0.001"]


def test_long_names_are_cut() -> None:
    assert shortened("short") == "short"
    assert shortened("x" * 40, 10) == "x" * 9 + "…"
