"""Runs for another time, or for many parameters: what the command line's ``--as-of`` and ``--grid`` mean."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from typing import Any

from medisync.errors import ParameterError

MOST_COMBINATIONS = 200


def moment(text: str) -> dt.datetime:
    """A day (its end) or a moment, UTC unless it names a zone. Raises ParameterError."""
    try:
        if len(text) == len("2024-05-07"):
            return dt.datetime.combine(dt.date.fromisoformat(text), dt.time.max, tzinfo=dt.UTC)
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ParameterError(f"{text!r} is no day such as 2024-05-07 and no moment such as 2024-05-07T12:30.") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def combinations(grid: list[str]) -> list[dict[str, Any]]:
    """Every combination of the values of ``name=value,value``; values are JSON where they can be, else text.

    One empty combination for an empty grid. Raises ParameterError.
    """
    axes: dict[str, list[Any]] = {}
    for axis in grid:
        name, separator, texts = axis.partition("=")
        values = [_value(text.strip()) for text in parts(texts)]
        if not separator or not name.isidentifier() or not values or name in axes:
            raise ParameterError(f"{axis!r} is not of the form name=value,value, or names a parameter twice.")
        axes[name] = values
    made = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if len(made) > MOST_COMBINATIONS:
        raise ParameterError(f"The grid has {len(made):,} combinations; at most {MOST_COMBINATIONS} run at once.")
    return made


def parts(text: str) -> list[str]:
    """``text`` cut at commas outside brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part for part in parts if part.strip()]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
