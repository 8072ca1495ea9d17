"""Small pieces of plain English for headlines and warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence


def listed(names: Sequence[str], *, most: int = 6) -> str:
    """``a, b and c``; with more than ``most`` names the rest is counted."""
    shown = list(names[:most])
    if len(names) > most:
        shown = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1] if shown else "none"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 condition``, ``1,200 conditions``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float, digits: int = 0) -> str:
    """``12 %`` for 0.12."""
    return f"{100 * share:.{digits}f} %"


def signed_percent(change: float) -> str:
    """``+12 %`` for 0.12, with a true minus sign; no sign on a rounded zero; ``from none`` for infinity."""
    if not math.isfinite(change):
        return "from none"
    rounded = round(100 * change)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded)} %"


def probability(p_value: float) -> str:
    """``p = 0.03``; ``p < 0.001`` below that."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2f}" if p_value >= 0.095 else f"p = {p_value:.3f}"


def shortened(name: str, most: int = 28) -> str:
    """``name`` cut to ``most`` characters with an ellipsis, so that a long one leaves room for the drawing."""
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"
